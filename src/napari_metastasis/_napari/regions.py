"""The part of a slide to scan, in level-0 pixels: what the window shows, or the selected shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from napari.layers import Layer, Points, Shapes

from napari_metastasis._napari.compat import camera_of, canvas_size, um_per_unit
from napari_metastasis._napari.user_shapes import OWN_KEY, SHAPES_KEY, shapes_of
from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Point, Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.annotations import Annotation
    from napari_metastasis.slides import Slide

__all__ = [
    "Where",
    "center_on",
    "points_drawn",
    "view_axes",
    "view_focus",
    "view_region",
    "wanted_outlines",
    "wanted_region",
]

#: What can be scanned.
Where = Literal["slide", "view", "shape"]
#: An ellipse of so many corners is a ten-thousandth smaller than the curve.
_ELLIPSE_CORNERS = 256


def view_axes(viewer: Viewer) -> tuple[int, int] | None:
    """Return which of a slide's axes, 0 for rows and 1 for columns, runs down the window and which across.

    ``None`` where the window does not show both: the slide lies along the last two axes, which may be exchanged, and
    others may be shown instead.
    """
    down, across = (axis - viewer.dims.ndim + 2 for axis in viewer.dims.displayed[-2:])
    return (down, across) if {down, across} == {0, 1} else None


def center_on(viewer: Viewer, point: Point, slide: Slide) -> tuple[float, float]:
    """Return the camera's center that shows a level-0 location in the middle of the window."""
    at = point.to_um(slide.mpp)
    place = np.array([at.y, at.x]) / um_per_unit(viewer)
    down, across = view_axes(viewer) or (0, 1)
    return float(place[down]), float(place[across])


def view_focus(viewer: Viewer, slide: Slide) -> Point:
    """Return the level-0 location in the middle of the window; the slide's middle where it is not shown as a plane."""
    axes = view_axes(viewer)
    if axes is None:
        return Region.of(slide.size).center
    place = np.zeros(2)
    place[list(axes)] = camera_of(viewer).center[-2:]
    y, x = place * um_per_unit(viewer)
    return Point.from_um(x, y, mpp=slide.mpp)


def view_region(viewer: Viewer, slide: Slide) -> Region:
    """Return the part of a slide that the window shows.

    Raises
    ------
    RegionError
        If the window shows no part of it, or not as a plane.
    """
    axes = view_axes(viewer)
    if axes is None or viewer.dims.ndisplay != 2:
        raise RegionError(
            "expected the slide shown flat, got three dimensions or other axes; switch 3-D off, or scan the whole slide"
        )
    width, height = canvas_size(viewer)
    half = np.zeros(2)
    half[list(axes)] = height, width
    half *= um_per_unit(viewer) / camera_of(viewer).zoom / slide.mpp / 2
    focus = view_focus(viewer, slide)
    corners = np.array([focus.y, focus.x]) + np.array([-half, half])
    return _on_slide(corners, slide, "the window shows no part of it; zoom out, or scan the whole slide")


def wanted_region(where: Where, viewer: Viewer, slide: Slide) -> Region | None:
    """Return the region that is asked for; ``None`` for the whole slide.

    Raises
    ------
    RegionError
        If no shape is selected, or the region does not touch the slide.
    """
    if where == "view":
        return view_region(viewer, slide)
    return _shape_region(viewer, slide) if where == "shape" else None


def wanted_outlines(where: Where, viewer: Viewer, slide: Slide) -> tuple[Annotation, ...]:
    """Return the selected shapes where the window draws them, where these are asked for; else none.

    Shapes of other slides do not count. A freehand line encloses what it does when its ends are joined.

    Raises
    ------
    RegionError
        If no shape is selected.
    AnnotationError
        If one encloses nothing.
    """
    return _selected_shapes(viewer, slide) if where == "shape" else ()


def _selected_shapes(viewer: Viewer, slide: Slide) -> tuple[Annotation, ...]:
    from napari_metastasis.annotations import Annotation

    owner = str(slide.path)
    layers = [
        layer
        for layer in viewer.layers
        if isinstance(layer, Shapes)
        and len(layer.data)
        and OWN_KEY not in layer.metadata
        and layer.metadata.get(SHAPES_KEY, owner) == owner
    ]
    chosen = [(layer, index) for layer in layers for index in sorted(layer.selected_data)]
    # A single shape need not be selected: another tool may have taken its selection.
    if not chosen and len(layers) == 1 and len(layers[0].data) == 1:
        chosen = [(layers[0], 0)]
    if not chosen:
        raise RegionError(
            "expected a selected shape, got none; draw one in a Shapes layer and select it, or scan this view"
        )
    return tuple(
        Annotation.of_rings(f"shape {number}", "", _outline_px(viewer, *one, slide))
        for number, one in enumerate(chosen, start=1)
    )


def _shape_region(viewer: Viewer, slide: Slide) -> Region:
    """Return the rectangle around the selected shapes."""
    shapes = np.concatenate([one.exterior for one in _selected_shapes(viewer, slide)])
    return _on_slide(shapes[:, ::-1], slide, "the shape lies beside it; draw it on the tissue")


def _outline_px(viewer: Viewer, layer: Shapes, index: int, slide: Slide) -> npt.NDArray[np.float64]:
    """Return the outline of a shape where the window draws it, (n, 2) as (x, y) in level-0 pixels."""
    corners = np.asarray(layer.data[index], np.float64)
    if layer.shape_type[index] == "ellipse":
        # napari keeps the corners of the box around it.
        angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
        across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
        corners = corners.mean(axis=0) + np.outer(np.cos(angle), across) + np.outer(np.sin(angle), down)
    places = [Point.from_um(x, y, mpp=slide.mpp) for y, x in _places_um(viewer, layer, corners).tolist()]
    return np.array([(place.x, place.y) for place in places])


def _places_um(viewer: Viewer, layer: Layer, places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return places of a layer's own where the window draws them, (n, 2) as (y, x) in µm."""
    world = np.array([np.asarray(layer.data_to_world(place))[-2:] for place in places]).reshape(-1, 2)
    return world * um_per_unit(viewer, layer)


def points_drawn(viewer: Viewer, slide: Slide) -> npt.NDArray[np.float64]:
    """Return the points that the user drew over a slide in napari's own layers: (n, 2), (x, y) in level-0 pixels."""
    layers = [layer for layer in shapes_of(viewer, slide) if isinstance(layer, Points)]
    found = [
        Point.from_um(x, y, mpp=slide.mpp)
        for layer in layers
        for y, x in _places_um(viewer, layer, layer.data).tolist()
    ]
    return np.array([(point.x, point.y) for point in found], np.float64).reshape(-1, 2)


def _on_slide(corners: npt.NDArray[np.float64], slide: Slide, otherwise: str) -> Region:
    """Return the whole pixels that hold all (y, x) corners, cut to the slide."""
    y, x = (math.floor(value) for value in corners.min(axis=0))
    bottom, right = (math.ceil(value) for value in corners.max(axis=0))
    found = Region(x, y, right - x, bottom - y).intersection(Region.of(slide.size))
    if found.is_empty:
        raise RegionError(f"expected a region on the slide, but {otherwise}")
    return found
