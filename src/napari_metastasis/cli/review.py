"""``review``: what people said of the findings of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table

__all__ = ["app"]

app = typer.Typer(help="What people said of the findings of results: list it, and exchange it with other programs.")

_RESULT = typer.Argument(help="Result folder that 'scan' wrote.")
_RESULTS = typer.Argument(help="Result folders, or folders that hold such.")


@app.command("list")
def list_(
    results: Annotated[list[Path], _RESULTS],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Count what was confirmed, rejected, added and ignored on each slide."""
    from napari_metastasis.annotations.corrections import STATES
    from napari_metastasis.errors import StorageError
    from napari_metastasis.workflows.report import find_results
    from napari_metastasis.workflows.review import read_slide_review

    found = []
    for place in results:
        folders = find_results(place)
        if not folders:
            raise StorageError(
                f"expected a result folder, or a folder that holds such, got {place}; scan a slide first"
            )
        found += [read_slide_review(folder) for folder in folders]
    if as_json:
        say_json(
            {
                "slides": [
                    {
                        "result": str(one.folder),
                        "slide": one.slide,
                        "counts": dict(one.counts),
                        "reviewers": list(one.reviewers),
                    }
                    for one in found
                ]
            }
        )
        return
    rows = [(one.slide, *map(str, one.counts.values()), ", ".join(one.reviewers)) for one in found]
    say_table(("slide", *STATES, "reviewers"), rows)


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
        typer.Argument(help="GeoJSON of this program or QuPath, ASAP's XML, or JSON of the Digital Slide Archive."),
    ],
    reviewer: Annotated[str, typer.Option(help="Who drew the outlines, where the file does not say so.")] = "",
) -> None:
    """Add the outlines of a file to what was said of a result; of one outline, what was said last stands."""
    from napari_metastasis.workflows.review import import_review

    read = import_review(result, file, reviewer=reviewer)
    newer = f", {read.older} newer here and kept" if read.older else ""
    say(f"corrections: {read.added} added, {read.changed} changed, {read.same} as before{newer}")
    _left_out(read.omitted, "not understood")


def _left_out(omitted: Mapping[str, int], why: str) -> None:
    if omitted:
        from napari_metastasis.annotations.polygons import counted

        note(f"left out {', '.join(counted(omitted))}, {why}")
