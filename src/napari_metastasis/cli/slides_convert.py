"""``slides convert``: a slide in another format."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_metastasis.cli.console import note, say, show_progress, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.cli.scan import PixelSize, SwapRedBlue
from napari_metastasis.settings import PyramidSettings
from napari_metastasis.slide_address import SlideUrl, slide_path

__all__ = ["convert"]


@with_settings("settings", PyramidSettings, panel="How it is stored")
def convert(
    slide: Annotated[
        str, typer.Argument(help="The slide: a file, a folder or an address (https://…, s3://…).", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Argument(
            help="What to write, by its name: .ome.zarr (a folder, OME-Zarr 0.5, every pixel kept), .ome.zarr.zip (the "
            "same as one file), or .ome.tif (a pyramidal OME-TIFF, compressed as asked for).",
            show_default=False,
        ),
    ],
    settings: PyramidSettings,
    mpp: PixelSize = None,
    swap_red_blue: SwapRedBlue = False,
    with_label: Annotated[
        bool, typer.Option("--with-label", help="Keep the image of the label, which may name the patient.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what lies there, once the new one is whole.")
    ] = False,
) -> None:
    """Write a slide as an OME-Zarr or as a pyramidal OME-TIFF, with its pixel size, levels and macro image.

    A conversion that was stopped goes on when the same command is run again: what is finished lies beside the output,
    in a folder that ends in '.unfinished'. For one file, .zip or .tif, it takes as much room again until that is whole.
    """
    from napari_metastasis.slides import open_slide
    from napari_metastasis.slides.converting import convert_slide

    place, written = slide_path(slide), slide_path(output)
    if isinstance(written, SlideUrl):
        raise WrongUsage(
            f"expected an output on a disk of this machine, got the address {written}; write it here first"
        )
    with open_slide(place, mpp, swap_red_blue=swap_red_blue) as opened:
        title = f"Writing {written.name}"
        with stop_on_interrupt() as should_stop, show_progress(title, unit="Mpx", scale=1e-6) as progress:
            done = convert_slide(
                opened,
                written,
                settings,
                with_label=with_label,
                overwrite=overwrite,
                progress=progress,
                should_stop=should_stop,
            )
    if done is None:
        raise KeyboardInterrupt
    for line in done.notes:
        note(line)
    if done.went_on:
        note(f"went on with an earlier conversion: {done.went_on} pieces were there")
    say(f"{done.path}: {done.levels} levels")
