"""``export``: a result as files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from napari_metastasis.cli.console import note, say

__all__ = ["export"]


def export(
    result: Annotated[Path, typer.Argument(help="Result folder that 'scan' wrote.")],
    to: Annotated[
        Literal["asap", "dsa", "geojson", "spatialdata", "wsinfer"],
        typer.Option(
            help="Outlines of lesions: ASAP's XML, JSON of the Digital Slide Archive, or QuPath's GeoJSON. All of it: "
            "a SpatialData folder, which LazySlide and scverse open. Answers of the scan: WSInfer's CSV."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="What to write; by default lesions.xml, lesions.dsa.json, lesions.geojson, spatialdata.zarr or "
            "model-outputs-csv/SLIDE.csv in the result."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier one.")] = False,
) -> None:
    """Write a result for another program: its lesions with numbers and size classes, or what the scan answered."""
    from napari_metastasis.workflows.export import export_result

    written = export_result(result, to, output=output, overwrite=overwrite)
    say(str(written.path))
    for line in written.told:
        note(line)
    if written.without_outline:
        note(f"left out lesions {', '.join(written.without_outline)}, which have no outline in {result}")
