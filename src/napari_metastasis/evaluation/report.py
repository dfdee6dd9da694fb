"""The report of an evaluation: one HTML file that needs nothing beside it, and the same figures as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from napari_metastasis import __version__
from napari_metastasis.errors import StorageError
from napari_metastasis.evaluation.classification import Estimate
from napari_metastasis.evaluation.plots import draw_curves, require_plotting
from napari_metastasis.evaluation.published import TABLE_III, TABLE_III_SOURCE
from napari_metastasis.evaluation.scoring import DetectionReport
from napari_metastasis.storage import atomic_text, storage_errors

__all__ = ["prepare_report", "report_html", "write_report"]

_HTML, _JSON = "report.html", "evaluation.json"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
tr.ours td { font-weight: 600; background: #f6eef3 }
figure { display: inline-block; margin: 0 1rem 1rem 0 } img { max-width: 100% }
p.note, figcaption { color: #555 }
""".strip()

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def prepare_report(folder: Path) -> None:
    """Check, before anything is computed, that a report can be written to a folder, which is created.

    Raises
    ------
    StorageError
        If a report is there already, or the folder cannot be made.
    MissingDependencyError
        If there is nothing to draw its plots with.
    """
    require_plotting()
    for name in (_HTML, _JSON):
        if (folder / name).exists():
            raise StorageError(
                f"expected a folder without an earlier report, got {folder / name}; "
                "choose another folder, or move it away"
            )
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_report(report: DetectionReport, folder: Path) -> Path:
    """Write ``report.html`` and ``evaluation.json``, and return where the first one lies.

    Raises
    ------
    StorageError
        If a report is there already, or the folder cannot be written.
    MissingDependencyError
        If there is nothing to draw its plots with.
    """
    prepare_report(folder)
    page = report_html(report)
    with atomic_text(folder / _JSON) as file:
        json.dump(report.to_json(), file, ensure_ascii=False, allow_nan=False, indent=1)
        file.write("\n")
    with atomic_text(folder / _HTML) as file:
        file.write(page)
    return folder / _HTML


def report_html(report: DetectionReport) -> str:
    """Return the page: figures, curves, size classes, the published table, every slide, and how it was scored."""
    title = f"Detections on {len(report.outcomes)} slides"
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="note">Scored as CAMELYON16 does, with 95 % bootstrap intervals over slides. '
        "For research; not validated for diagnosis.</p>",
        _table(("measure", "value", "95 % interval"), [(name, *_shown(one)) for name, one in report.figures().items()]),
        *_curves(report),
        *_rates(report),
        *_sizes(report),
        *_published(report),
        *_slides(report),
        *_left_out(report),
        *_method(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _shown(one: Estimate) -> tuple[str, str]:
    return f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, ours: str | None = None) -> str:
    """Return a table; the row whose first cell is ``ours`` stands out."""
    rows = list(rows)
    numbers = [bool(rows) and all(_is_number(row[k]) for row in rows) for k in range(len(columns))]

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = (' class="number"' if number else "" for number in numbers)
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    opening = {True: '<tr class="ours">', False: "<tr>"}
    lines = [f"{opening[row[0] == ours]}{cells('td', row)}</tr>" for row in rows]
    return (
        f"<table>\n<thead><tr>{cells('th', columns)}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody>\n</table>"
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").isdigit() or not text


def _curves(report: DetectionReport) -> list[str]:
    pictures = []
    for title, picture in draw_curves(report).items():
        data = base64.b64encode(picture).decode("ascii")
        pictures.append(
            f'<figure><img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{escape(title)}</figcaption></figure>"
        )
    return ["<h2>Curves</h2>", *pictures] if pictures else []


def _rates(report: DetectionReport) -> list[str]:
    if report.linear is None or report.step is None:
        return []
    rows = [
        (f"{rate:g}", *_shown(linear), *_shown(step))
        for rate, linear, step in zip(
            report.settings.fp_rates, report.linear.sensitivity, report.step.sensitivity, strict=True
        )
    ]
    return [
        "<h2>Sensitivity at each rate</h2>",
        '<p class="note">Between two operating points the curve is read as the line that joins them, or as the lower '
        "of both (step); implementations of the challenge's score differ in it.</p>",
        _table(("false positives per slide", "linear", "95 % interval", "step", "95 % interval"), rows),
    ]


def _sizes(report: DetectionReport) -> list[str]:
    rows = [
        (one.size_class, str(one.lesions), str(one.found), *(_shown(one.sensitivity) if one.lesions else ("", "")))
        for one in report.sizes
    ]
    return [
        "<h2>By size</h2>",
        '<p class="note">By the longest diameter of the tumour: isolated cells (itc) up to 0.2 mm, micro-metastases up '
        "to 2 mm. Found: hit by any detection, whatever its probability.</p>",
        _table(("size", "lesions", "found", "sensitivity", "95 % interval"), rows),
    ]


def _published(report: DetectionReport) -> list[str]:
    rows = [(row.method, f"{row.froc_score:.4f}", f"{row.auc:.4f}") for row in TABLE_III]
    ours = report.name
    if report.is_camelyon16_test and report.linear is not None and report.slides is not None:
        rows.append((ours, f"{report.linear.score.value:.4f}", f"{report.slides.auc.value:.4f}"))
        remark = "On the same slides, but for those that are no longer scored."
    else:
        remark = "These are figures of CAMELYON16's test set; the slides scored here are others, and do not compare."
    return [
        "<h2>Published</h2>",
        f'<p class="note">{escape(TABLE_III_SOURCE)}. {escape(remark)}</p>',
        _table(("method", "FROC score", "AUC"), rows, ours=ours),
    ]


def _slides(report: DetectionReport) -> list[str]:
    rows = [
        (
            one.slide,
            "tumour" if one.is_tumour else "normal",
            f"{one.score:.4f}",
            str(len(one.lesions)),
            str(one.targets),
            str(len(one.hits)),
            str(one.targets - len(one.hits)),
            str(len(one.false_positives)),
            str(one.on_itc),
        )
        for one in report.outcomes
    ]
    columns = (
        "slide",
        "truth",
        "score",
        "lesions",
        "targets",
        "hits",
        "misses",
        "false positives",
        "on isolated cells",
    )
    return ["<h2>Slides</h2>", _table(columns, rows)]


def _left_out(report: DetectionReport) -> list[str]:
    if not report.left_out:
        return []
    return ["<h2>Left out</h2>", _table(("slide", "why"), [(one.slide, one.why) for one in report.left_out])]


def _method(report: DetectionReport) -> list[str]:
    values = report.to_json()["settings"]
    rows = [(name.replace("_", " "), str(value)) for name, value in {**report.measured, **values}.items()]
    if len(report.scales) > 1:
        rows.append(
            ("pixel size and downsample", "each slide's own, " + "; ".join(f"{m:g} µm, {d}" for m, d in report.scales))
        )
    return [
        "<h2>How it was scored</h2>",
        f'<p class="note">napari-metastasis {escape(__version__)}</p>',
        _table(("setting", "value"), rows),
    ]
