"""Opens the program's window: for ``napari-metastasis view``, tests, pictures and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from qtpy.QtWidgets import QFileDialog

from napari_metastasis._napari.compat import window_of
from napari_metastasis._napari.dress import dress
from napari_metastasis._napari.slide_widget import choose_slides
from napari_metastasis._napari.worker import tell
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.errors import SlideError
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.stopping import taken_as_interrupt

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["make_viewer", "open_slide_command", "show_mined_command", "view"]

_PLUGIN, _PANEL = "napari-metastasis", "Metastasis"


def make_viewer(*, show: bool = True) -> Viewer:
    """Return the program's window: a napari window with the panel and the list of slides, maximised."""
    viewer = napari.Viewer(title="Metastasis", show=False)
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    dress(viewer)
    if show:
        window_of(viewer).showMaximized()
    return viewer


def view(paths: Iterable[str | SlidePath], mpp: float | None = None, *, swap_red_blue: bool = False) -> None:
    """Open napari with the panel, show slides, and return when the window is closed.

    Parameters
    ----------
    paths
        Slides to open; there may be none.
    mpp
        Micrometres per level-0 pixel, where the files do not say.
    swap_red_blue
        Whether the files hold red and blue in each other's place.
    """
    viewer = make_viewer()
    Workspace.of(viewer).open(paths, mpp, swap_red_blue=swap_red_blue)
    # At Ctrl-C napari closes its window; Qt's loop would never let another signal's handler run.
    with taken_as_interrupt():
        napari.run()


def open_slide_command(viewer: napari.Viewer) -> None:
    """Ask for slide files and open them, with the panel: the command "Open slide…"."""
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    choose_slides(viewer)


def show_mined_command(viewer: napari.Viewer) -> None:
    """Ask for a training run's ``hard_negatives.csv`` and show its locations on the current slide, with the panel."""
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    workspace = Workspace.of(viewer)
    controller = workspace.current
    if controller is None:
        error = SlideError("expected a slide to show mined places on, got none that is open; open it first")
        workspace.say_failure(tell(error))
        return
    name, _ = QFileDialog.getOpenFileName(window_of(viewer), "Show mined places", "", "Mined places (*.csv)")
    if name:
        controller.show_mined(Path(name))
