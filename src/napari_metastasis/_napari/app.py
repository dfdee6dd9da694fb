"""Opens napari on slides: what ``napari-metastasis view`` runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import napari

from napari_metastasis._napari.compat import show_scale_bar
from napari_metastasis._napari.slide_widget import choose_slides
from napari_metastasis._napari.workspace import Workspace

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["make_viewer", "open_slide_command", "view"]

_PLUGIN, _PANEL = "napari-metastasis", "Metastasis"


def make_viewer(*, show: bool = True) -> Viewer:
    """Return a napari window with the panel docked."""
    viewer = napari.Viewer(title="Metastasis", show=show)
    show_scale_bar(viewer)
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    return viewer


def view(paths: Iterable[str | Path], mpp: float | None = None) -> None:
    """Open napari with the panel, show slides, and return when the window is closed.

    Parameters
    ----------
    paths
        Slides to open; there may be none.
    mpp
        Micrometres per level-0 pixel, where the files do not say.
    """
    viewer = make_viewer()
    Workspace.of(viewer).open(paths, mpp)
    napari.run()


def open_slide_command(viewer: napari.Viewer) -> None:
    """Ask for slide files and open them, with the panel: the command "Open slide…"."""
    viewer.window.add_plugin_dock_widget(_PLUGIN, _PANEL)
    choose_slides(viewer)
