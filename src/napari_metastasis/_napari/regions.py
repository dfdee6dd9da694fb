"""The part of a slide to scan, in level-0 pixels: what the window shows, or the selected shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes

from napari_metastasis._napari.compat import camera_of, canvas_size
from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Point, Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["WHERE", "view_focus", "view_region", "wanted_region"]

#: The form's choices: values and their texts.
WHERE = {"view": "Current view", "slide": "Whole slide", "shape": "Selected shape"}


def view_focus(viewer: Viewer, slide: Slide) -> Point:
    """Return the level-0 location in the middle of the window."""
    y, x = camera_of(viewer).center[-2:]
    return Point.from_um(x, y, mpp=slide.mpp)


def view_region(viewer: Viewer, slide: Slide) -> Region:
    """Return the part of a slide that the window shows.

    Raises
    ------
    RegionError
        If the window shows no part of it.
    """
    width, height = canvas_size(viewer)
    focus = view_focus(viewer, slide)
    half_width = width / camera_of(viewer).zoom / slide.mpp / 2
    half_height = height / camera_of(viewer).zoom / slide.mpp / 2
    corners = np.array([[focus.y - half_height, focus.x - half_width], [focus.y + half_height, focus.x + half_width]])
    return _on_slide(corners, slide, "the window shows no part of it; zoom out, or scan the whole slide")


def wanted_region(where: str, viewer: Viewer, slide: Slide) -> Region | None:
    """Return the region that the form names, one of :data:`WHERE`; ``None`` for the whole slide.

    Raises
    ------
    RegionError
        If no shape is selected, or the region does not touch the slide.
    """
    if where == "view":
        return view_region(viewer, slide)
    return _shape_region(viewer, slide) if where == "shape" else None


def _shape_region(viewer: Viewer, slide: Slide) -> Region:
    """Return the rectangle around the selected shapes."""
    layers = [layer for layer in viewer.layers if isinstance(layer, Shapes) and len(layer.data)]
    chosen = [layer for layer in layers if layer.selected_data]
    corners: list[npt.NDArray[np.float64]] = []
    for layer in chosen:
        picked = [layer.data[index] for index in layer.selected_data]
        corners += [np.asarray(layer.data_to_world(vertex))[-2:] for shape in picked for vertex in shape]
    # A single shape need not be selected: another tool may have taken its selection.
    if not corners and len(layers) == 1 and len(layers[0].data) == 1:
        corners = [np.asarray(layers[0].data_to_world(vertex))[-2:] for vertex in layers[0].data[0]]
    if not corners:
        raise RegionError(
            "expected a selected shape, got none; draw one in a Shapes layer and select it, or scan the current view"
        )
    pixels = np.array([[point.y, point.x] for point in (Point.from_um(x, y, mpp=slide.mpp) for y, x in corners)])
    return _on_slide(pixels, slide, "the shape lies beside it; draw it on the tissue")


def _on_slide(corners: npt.NDArray[np.float64], slide: Slide, otherwise: str) -> Region:
    """Return the whole pixels that hold all (y, x) corners, cut to the slide."""
    y, x = (math.floor(value) for value in corners.min(axis=0))
    bottom, right = (math.ceil(value) for value in corners.max(axis=0))
    found = Region(x, y, right - x, bottom - y).intersection(Region.of(slide.size))
    if found.is_empty:
        raise RegionError(f"expected a region on the slide, but {otherwise}")
    return found
