"""``segment``: slides in, the outlines of their tumour out, without a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.options import with_settings
from napari_metastasis.cli.scan import AsJson, Picture, PixelSize, Slides, SwapRedBlue, scan_all, with_tissue
from napari_metastasis.geometry import Region
from napari_metastasis.settings import DEFAULT_MODEL, DetectionSettings, ScanSettings, SegmentSettings, TissueSettings
from napari_metastasis.slide_address import slide_path
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

__all__ = ["segment"]


@with_settings("detection", DetectionSettings, panel="Lesions", leave_out=("floor",))
@with_tissue
@with_settings(
    "settings",
    ScanSettings,
    panel="Scan",
    flags={"tissue_only": "--tissue-only/--no-tissue"},
    leave_out=("dense_coefficient", "prior"),
)
def segment(
    slides: Slides,
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
    mpp: PixelSize = None,
    swap_red_blue: SwapRedBlue = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Result folder; by default '<slide name>.metastasis' beside the slide, as of a scan."),
    ] = None,
    picture: Picture = False,
    as_json: AsJson = False,
) -> None:
    """Segment slides: write where their tumour is, pixel by pixel, and print the lesions.

    The detector does not answer: 'scan --segment' scans first, and with --segment-above segments only what it finds.
    A segmentation that was stopped goes on when the same command is run again.
    """
    request = PassRequest(task="segment", settings=SegmentSettings(segment=True), model=segmenter)
    job = ScanJob(
        slide=slide_path(slides[0]),
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
