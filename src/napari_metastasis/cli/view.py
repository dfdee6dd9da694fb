"""``view``: open napari on slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from napari_metastasis.cli.options import WrongUsage
from napari_metastasis.errors import DisplayError, MissingDependencyError, MissingPixelSizeError
from napari_metastasis.slide_address import SlidePath, slide_path

__all__ = ["open_window", "view"]


def view(
    slides: Annotated[
        list[str] | None,
        typer.Argument(help="Slides to open: files, folders or addresses (https://…, s3://…).", show_default=False),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(metavar="µm", help="µm per level-0 pixel, where a slide does not state it.")
    ] = None,
    swap_red_blue: Annotated[
        bool, typer.Option("--swap-red-blue", help="The files hold red and blue in each other's place: put them right.")
    ] = False,
) -> None:
    """Open napari with the Metastasis panel, on slides if any are given."""
    if mpp is not None and not slides:
        raise WrongUsage("expected slides for --mpp, got none; name them, or set the pixel size in the window")
    open_window([slide_path(text) for text in slides or ()], mpp, swap_red_blue=swap_red_blue)


def open_window(slides: Sequence[SlidePath], mpp: float | None = None, *, swap_red_blue: bool = False) -> None:
    """Show slides in the program's window until it is closed.

    Raises
    ------
    SlideError
        If a file is no slide that can be shown; before any window opens.
    MissingDependencyError
        If napari is not installed.
    DisplayError
        If there is no screen.
    """
    from napari_metastasis.slides import open_slide

    for path in slides:
        try:
            open_slide(path, mpp).close()
        except MissingPixelSizeError:
            # The window asks for the pixel size.
            continue
    try:
        import napari  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "expected napari, got none installed; "
            "install the program with its extra 'all', or with 'napari' and a Qt binding"
        ) from error
    from napari_metastasis._napari import display

    # Qt would end the whole process.
    if not display.can_open():
        raise DisplayError(
            "expected a screen for the window, got none that answers; run 'scan' instead, or start a desktop session"
        )
    from napari_metastasis._napari.app import view as show

    show(slides, mpp, swap_red_blue=swap_red_blue)
