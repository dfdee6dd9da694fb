"""``review``: what people said of the findings of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table

if TYPE_CHECKING:
    from napari_metastasis.workflows.review import SlideReview

__all__ = ["app"]

app = typer.Typer(help="What people said of the findings of results: list it, and exchange it with other programs.")

_COLUMNS = ("slide", "pending", "confirmed", "rejected", "added")
_RESULT = typer.Argument(help="Result folder that 'scan' wrote.")
_RESULTS = typer.Argument(help="Result folders, or folders that hold such.")


@app.command("list")
def list_(
    results: Annotated[list[Path], _RESULTS],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Count what was confirmed, rejected, added and ignored on each slide.

    Findings are counted as the report counts them: "pending" are those that nobody decided, or not clearly. A result
    that cannot be read is told, and the others follow.
    """
    from napari_metastasis.errors import StorageError, one_of_many
    from napari_metastasis.workflows.report import find_results
    from napari_metastasis.workflows.review import read_slide_review

    found, faults = [], 0
    # What holds no result says so when it is read.
    for folder in dict.fromkeys(one for place in results for one in find_results(place) or [place]):
        told: list[str] = []
        try:
            with one_of_many(told.append):
                found.append(read_slide_review(folder))
        except StorageError as error:
            told.append(str(error))
        for line in told:
            note(f"no review of {folder}: {line}")
        faults += bool(told)
    if as_json:
        say_json(
            {
                "slides": [
                    {
                        "result": str(one.folder),
                        "slide": one.slide,
                        "counts": dict(one.counts),
                        "notes": list(one.told),
                        "reviewed": one.reviewed,
                        "reviewers": list(one.reviewers),
                    }
                    for one in found
                ]
            }
        )
    elif found:
        say_table((*_COLUMNS, "reviewed", "by"), [_row(one) for one in found])
        for one in found:
            for line in (*_besides(one.counts), *one.told):
                note(f"{one.slide}: {line}")
    if faults:
        raise typer.Exit(1)


def _row(one: SlideReview) -> tuple[str, ...]:
    return (one.slide, *(str(one.counts[name]) for name in _COLUMNS[1:]), one.reviewed, ", ".join(one.reviewers))


def _besides(counts: Mapping[str, int]) -> list[str]:
    """Return what no column has, where there is any."""
    ignored, again, undecided = counts["ignored"], counts["look_again"], counts["undecided"]
    regions = [f"{counts[f'{kind}_regions']} {kind}" for kind in ("normal", "ignored") if counts[f"{kind}_regions"]]
    told = [f"{ignored} ignored"] if ignored else []
    told += [f"{again} to be looked at again: what was said does not clearly apply"] if again else []
    told += [f"{undecided} marked, and left undecided"] if undecided else []
    mitoses = {name: counts.get(f"mitoses_{name}", 0) for name in ("confirmed", "rejected", "added")}
    if any(mitoses.values()):
        told.append(f"mitoses: {', '.join(f'{count} {name}' for name, count in mitoses.items() if count)}")
    return told + ([f"regions without a finding: {', '.join(regions)}"] if regions else [])


@app.command("export")
def export(
    result: Annotated[Path, _RESULT],
    to: Annotated[
        Literal["asap", "dsa", "geojson"],
        typer.Option(help="ASAP's XML, JSON of the Digital Slide Archive, or GeoJSON with all that was said."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; by default annotations.xml, .dsa.json or .export.geojson in the result."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
) -> None:
    """Write what was said of a result for another program."""
    from napari_metastasis.workflows.review import export_review

    written = export_review(result, to, output=output, overwrite=overwrite)
    say(str(written.path))
    _left_out(written.omitted, f"for which {to} has no word")


@app.command("import")
def import_(
    result: Annotated[Path, _RESULT],
    file: Annotated[
        Path,
        typer.Argument(
            help="GeoJSON of this program or QuPath, ASAP's XML, JSON of the Digital Slide Archive, or CSV of mitoses."
        ),
    ],
    reviewer: Annotated[str, typer.Option(help="Who drew the outlines, where the file does not say so.")] = "",
) -> None:
    """Add the outlines of a file to what was said of a result; of one outline, what was said last stands."""
    from napari_metastasis.workflows.review import import_review

    read = import_review(result, file, reviewer=reviewer)
    newer = f", {read.older} newer here and kept" if read.older else ""
    say(f"corrections: {read.added} added, {read.changed} changed, {read.same} as before{newer}")
    _left_out(read.omitted, "not understood")
    for line in read.faults:
        note(line)


def _left_out(omitted: Mapping[str, int], why: str) -> None:
    if omitted:
        from napari_metastasis.annotations.polygons import counted

        note(f"left out {', '.join(counted(omitted))}, {why}")
