"""The few things that napari keeps to itself, in one place: each is looked for here and nowhere else.

Written against napari 0.9; what is missing in another version costs comfort, not function, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels
    from qtpy.QtWidgets import QMainWindow

    from napari_metastasis.geometry import Region

__all__ = [
    "canvas_size",
    "draw_now",
    "real_viewer",
    "redraw_labels",
    "show_scale_bar",
    "tiles_under_way",
    "window_of",
]


def real_viewer(viewer: Viewer) -> Viewer:
    """Return the viewer itself: plugins are handed a proxy that hides the window they live in."""
    return getattr(viewer, "__wrapped__", viewer)


def window_of(viewer: Viewer) -> QMainWindow:
    """Return the Qt window of a viewer. There is no public way to it, and nothing works without."""
    return real_viewer(viewer).window._qt_window


def canvas_size(viewer: Viewer) -> tuple[float, float]:
    """Return the (width, height) of the part of the window that shows images, in the pixels that the zoom counts."""
    height, width = real_viewer(viewer).window._qt_viewer.canvas.size
    return float(width), float(height)


def show_scale_bar(viewer: Viewer) -> None:
    """Switch the scale bar on."""
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", None)
    scale_bar = viewer.scale_bar if overlays is None else overlays.scale_bar  # its home before napari 0.9
    scale_bar.visible = True


@contextmanager
def draw_now(viewer: Viewer) -> Iterator[None]:
    """Draw layers that are refreshed in the block at once, before tiles that wait to be read.

    One thread slices all layers: a heatmap in memory would wait behind the slide's tiles.
    """
    slicer = getattr(real_viewer(viewer), "_layer_slicer", None)
    if slicer is None or not hasattr(slicer, "force_sync"):
        yield
        return
    with slicer.force_sync():
        yield


def tiles_under_way(viewer: Viewer) -> tuple[Future[Any], ...]:
    """Return the reads that napari has under way for this viewer; a slide is closed after them."""
    tasks = getattr(getattr(real_viewer(viewer), "_layer_slicer", None), "_layers_to_task", {})
    return tuple(tasks.values())


def redraw_labels(layer: Labels, part: Region) -> bool:
    """Redraw a part of a labels layer, as napari's own brush does after a stroke; return whether that was possible."""
    partly = getattr(layer, "_partial_labels_refresh", None)
    if partly is None or not layer.loaded:
        return False
    layer._updated_slice = part.slices
    partly()
    return True
