"""The report of an evaluation: one HTML file that needs nothing beside it, and the same figures as JSON."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_metastasis import __version__
from napari_metastasis.errors import StorageError
from napari_metastasis.evaluation.plots import draw_curves, require_report_extra
from napari_metastasis.evaluation.point_matching import PointFigures
from napari_metastasis.evaluation.point_report import PointReport, SlidePoints
from napari_metastasis.evaluation.published import TABLE_III, TABLE_III_SOURCE
from napari_metastasis.evaluation.resampling import Estimate
from napari_metastasis.evaluation.scoring import DetectionReport
from napari_metastasis.pages import page
from napari_metastasis.storage import atomic_text, storage_errors

__all__ = ["prepare_report", "report_html", "write_report"]

_HTML, _JSON, _TEMPLATE, _POINTS = "report.html", "evaluation.json", "report.html.j2", "points.html.j2"


def prepare_report(folder: Path, measured: Mapping[str, Any] | None = None, *, overwrite: bool = False) -> bool:
    """Check, before anything is computed, that a report can be written to a folder, which is created.

    Parameters
    ----------
    folder
        Where the report goes.
    measured
        What the figures will be of, as in :attr:`DetectionReport.measured`; ``None`` where that is not known yet.
    overwrite
        Whether a report of something else will be replaced.

    Returns
    -------
    Whether a report lies there already. Whether it is the same is known once the figures are.

    Raises
    ------
    StorageError
        If the report there is of something else and is to be kept, or the folder cannot be made.
    MissingDependencyError
        If what draws its plots is not installed.
    """
    require_report_extra()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lies_there = [path for path in (folder / _JSON, folder / _HTML) if os.path.exists(path)]
    if measured is None or overwrite or folder / _JSON not in lies_there:
        return len(lies_there) == len((_JSON, _HTML))
    if _measured_of(folder / _JSON) != _plain(measured):
        raise _earlier(folder / _JSON)
    return len(lies_there) == len((_JSON, _HTML))


def _measured_of(path: Path) -> Any:
    """Return what the figures in a file are of; ``None`` where it does not say."""
    try:
        with storage_errors(path):
            return json.loads(path.read_bytes())["measured"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _plain(values: Mapping[str, Any]) -> Any:
    """Return values as they come back from a file."""
    return json.loads(json.dumps(values))


def _earlier(path: Path) -> StorageError:
    return StorageError(
        f"expected the same report or a folder without an earlier report, got {path}; choose another folder, or "
        "replace it with --overwrite"
    )


def write_report(report: DetectionReport | PointReport, folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``report.html`` and ``evaluation.json``, and return where the first one lies.

    What lies there already must be the same to the last byte, and is left as it is: the same evaluation can be
    repeated, also after one that was killed between the two files.

    Parameters
    ----------
    report
        What was measured.
    folder
        Where the report goes.
    overwrite
        Whether another report there is replaced, file by file.

    Raises
    ------
    StorageError
        If another report that is to be kept is there already, or the folder cannot be written.
    MissingDependencyError
        If what draws its plots is not installed.
    """
    prepare_report(folder, overwrite=overwrite)
    figures = json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    html = points_html(report) if isinstance(report, PointReport) else report_html(report)
    files = {folder / _HTML: html, folder / _JSON: figures}
    missing = {path: text for path, text in files.items() if not _lies_there(path, text, overwrite=overwrite)}
    for path, text in missing.items():
        with atomic_text(path) as file:
            file.write(text)
    return folder / _HTML


def _lies_there(path: Path, text: str, *, overwrite: bool) -> bool:
    """Return whether a file holds a text already.

    Raises
    ------
    StorageError
        If it holds another one that is to be kept, or cannot be read.
    """
    with storage_errors(path):
        if not os.path.exists(path):
            return False
        if path.read_bytes() == text.encode(errors="backslashreplace"):
            return True
    if overwrite:
        return False
    raise _earlier(path)


def report_html(report: DetectionReport) -> str:
    """Return the page: figures, curves, size classes, the published table, every slide, and how it was scored.

    Raises
    ------
    MissingDependencyError
        If what draws its plots is not installed.
    """
    pictures = draw_curves(report)
    published, compares = _published(report)
    return page(
        "napari_metastasis.evaluation",
        _TEMPLATE,
        title=f"Detections on {len(report.outcomes)} slides",
        figures=[(name, *_shown(one)) for name, one in report.figures().items()],
        pictures=[(name, base64.b64encode(picture).decode("ascii")) for name, picture in pictures.items()],
        rates=_rates(report),
        sizes=_sizes(report),
        published=published,
        compares=compares,
        ours=report.name,
        source=TABLE_III_SOURCE,
        slides=_slides(report),
        notes=[(note,) for note in report.notes],
        left_out=[(one.slide, one.why) for one in report.left_out],
        method=_method(report),
        version=__version__,
        of_numbers=_of_numbers,
    )


def points_html(report: PointReport) -> str:
    """Return the page of points: figures, other thresholds, every slide, and how it was scored."""
    values = {**report.measured, **report.to_json()["settings"]}
    return page(
        "napari_metastasis.evaluation",
        _POINTS,
        title=f"Mitoses on {len(report.slides)} slides",
        radius=f"{report.settings.radius_um:g}",
        threshold=f"{report.threshold:g}",
        figures=[(name, *_shown(one)) for name, one in report.figures().items()],
        table_rows=[
            (f"{one.threshold:g}", *map(str, (one.hits, one.false_positives, one.misses)), *_ratios(one))
            for one in report.table
        ],
        slides=[_slide_of_points(one, report.threshold) for one in report.slides],
        notes=[(note,) for note in report.notes],
        without=", ".join(report.without_points),
        left_out=[(one.slide, one.why) for one in report.left_out],
        method=[(name.replace("_", " "), str(value)) for name, value in values.items()],
        version=__version__,
        of_numbers=_of_numbers,
    )


def _ratios(one: PointFigures) -> tuple[str, ...]:
    return (f"{one.precision.value:.4f}", f"{one.recall.value:.4f}", *_shown(one.f1))


def _slide_of_points(one: SlidePoints, threshold: float) -> Sequence[str]:
    hits, false_positives, misses = one.counts(threshold)
    counts = hits + misses, hits + false_positives, hits, misses, false_positives
    area = one.tissue_mm2
    per_mm2 = (f"{area:.2f}", *(f"{count / area:.2f}" for count in counts[:2])) if area else ("", "", "")
    return (one.slide, *map(str, counts), *per_mm2)


def _of_numbers(rows: Sequence[Sequence[str]], columns: int) -> list[bool]:
    """Return which columns hold numbers alone, which are aligned by their digits."""
    return [bool(rows) and all(_is_number(row[k]) for row in rows) for k in range(columns)]


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").isdigit() or not text


def _shown(one: Estimate) -> tuple[str, str]:
    return f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}"


def _rates(report: DetectionReport) -> list[Sequence[str]]:
    if report.linear is None or report.step is None:
        return []
    readings = zip(report.settings.fp_rates, report.linear.sensitivity, report.step.sensitivity, strict=True)
    return [(f"{rate:g}", *_shown(linear), *_shown(step)) for rate, linear, step in readings]


def _sizes(report: DetectionReport) -> list[Sequence[str]]:
    return [
        (one.size_class, str(one.lesions), str(one.found), *(_shown(one.sensitivity) if one.lesions else ("", "")))
        for one in report.sizes
    ]


def _published(report: DetectionReport) -> tuple[list[Sequence[str]], bool]:
    """Return the published figures, with our own where they are of the same slides, and whether they are."""
    rows = [(row.method, f"{row.froc_score:.4f}", f"{row.auc:.4f}") for row in TABLE_III]
    if not report.is_camelyon16_test or report.linear is None or report.slides is None:
        return [*rows], False
    return [*rows, (report.name, f"{report.linear.score.value:.4f}", f"{report.slides.auc.value:.4f}")], True


def _slides(report: DetectionReport) -> list[Sequence[str]]:
    return [
        (
            one.slide,
            "tumour" if one.is_tumour else "normal",
            f"{one.score:.4f}",
            *map(str, (len(one.lesions), one.targets, len(one.hits), one.targets - len(one.hits))),
            *map(str, (len(one.false_positives), one.on_itc)),
        )
        for one in report.outcomes
    ]


def _method(report: DetectionReport) -> list[Sequence[str]]:
    values = {**report.measured, **report.to_json()["settings"]}
    rows = [(name.replace("_", " "), str(value)) for name, value in values.items()]
    if len(report.scales) > 1:
        scales = "; ".join(f"{mpp:g} µm, {downsample}" for mpp, downsample in report.scales)
        rows.append(("pixel size and downsample", f"each slide's own, {scales}"))
    return [*rows]
