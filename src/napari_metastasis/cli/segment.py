"""``segment``: slides in, the outlines of their tumour out, without a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.options import with_settings
from napari_metastasis.cli.scan import scan_all
from napari_metastasis.geometry import Region
from napari_metastasis.settings import DEFAULT_MODEL, DetectionSettings, ScanSettings, SegmentSettings, TissueSettings
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

__all__ = ["segment"]


@with_settings("detection", DetectionSettings, panel="Lesions", leave_out=("floor",))
@with_settings(
    "tissue",
    TissueSettings,
    panel="Tissue",
    flags={"mpp": "--tissue-mpp", "margin_um": "--tissue-margin-um", "min_object_um": "--tissue-min-object-um"},
)
@with_settings(
    "settings",
    ScanSettings,
    panel="Scan",
    flags={"tissue_only": "--tissue-only/--no-tissue"},
    leave_out=("dense_coefficient", "prior", "stain"),
)
def segment(
    slides: Annotated[
        list[Path],
        typer.Argument(
            help="The slide: a file, or a folder with the DICOM files of one. Or many: several of them, folders of "
            "slides (masks are left out), CSV files that list slides (columns: slide or path, mpp, swap_red_blue).",
        ),
    ],
    settings: ScanSettings,
    tissue: TissueSettings,
    detection: DetectionSettings,
    segmenter: Annotated[
        str, typer.Option(help="A segmenter's name ('models list'), or a .safetensors file; the newest by default.")
    ] = "",
    region: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="X Y W H", help="Segment only this rectangle, in level-0 pixels."),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(metavar="µm", help="µm per level-0 pixel, where the slide does not state it.")
    ] = None,
    swap_red_blue: Annotated[
        bool, typer.Option("--swap-red-blue", help="The file holds red and blue in each other's place: put them right.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Result folder; by default '<slide name>.metastasis' beside the slide, as of a scan."),
    ] = None,
    picture: Annotated[
        bool, typer.Option("--picture", help="Draw the slide with probabilities and outlines: overview.png.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Segment slides: write where their tumour is, pixel by pixel, and print the lesions.

    The detector does not answer: 'scan --segment' scans first, and with --segment-above segments only what it finds.
    A segmentation that was stopped goes on when the same command is run again.
    """
    request = PassRequest(task="segment", settings=SegmentSettings(segment=True), model=segmenter)
    job = ScanJob(
        slide=slides[0],
        mpp=mpp,
        swap_red_blue=swap_red_blue,
        model=DEFAULT_MODEL,
        passes=(request,),
        detects=False,
        region=None if region is None else Region(*region),
        scan=settings,
        tissue=tissue,
        detection=detection,
        output=output,
    )
    scan_all(slides, job, picture=picture, as_json=as_json)
