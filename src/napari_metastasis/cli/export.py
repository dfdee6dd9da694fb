"""``export``: the lesions of a result as files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_metastasis.cli.console import note, say

__all__ = ["export"]


def export(
    result: Annotated[Path, typer.Argument(help="Result folder that 'scan' wrote.")],
    to: Annotated[
        Literal["asap", "dsa", "geojson"],
        typer.Option(help="ASAP's XML, JSON of the Digital Slide Archive, or QuPath's GeoJSON."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write; by default lesions.xml, lesions.dsa.json or lesions.geojson in the result."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
) -> None:
    """Write the outlines of a result's lesions for another program, with their numbers and size classes."""
    from napari_metastasis.workflows.export import export_lesions

    written = export_lesions(result, to, output=output, overwrite=overwrite)
    say(str(written.path))
    for line in written.told:
        note(line)
    if written.without_outline:
        note(f"left out lesions {', '.join(written.without_outline)}, which have no outline in {result}")
