"""``view``: open napari on slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_metastasis.errors import MissingDependencyError, MissingPixelSizeError

__all__ = ["open_window", "view"]

_PLUGIN = "napari-metastasis"
_PANEL = "Metastasis"


def view(
    slides: Annotated[list[Path], typer.Argument(help="Slides to open.", show_default=False)],
) -> None:
    """Open napari on one or more slides, with the Metastasis panel beside them."""
    open_window(slides)


def open_window(slides: list[Path]) -> None:
    """Show slides in napari until its window is closed.

    Raises
    ------
    SlideError
        If a file is no slide that can be shown; before any window opens.
    MissingDependencyError
        If napari is not installed.
    """
    from napari_metastasis.slides import open_slide

    for path in slides:
        try:
            open_slide(path).close()
        except MissingPixelSizeError:
            # napari shows it all the same; its panel asks for the pixel size.
            continue
    napari = _napari()
    viewer = napari.Viewer(title="napari-metastasis")
    # Named, because without it napari asks its own readers first, which try to hold the whole slide in memory.
    for path in slides:
        viewer.open(path, plugin=_PLUGIN)
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    napari.run()


def _napari() -> Any:
    try:
        import napari
    except ImportError as error:
        raise MissingDependencyError(
            "expected napari, got none installed; "
            "install the program with its extra 'all', or with 'napari' and a Qt binding"
        ) from error
    return napari
