"""Makes the layers of a slide: tissue, maps, lesions, detections and mined places. All in µm.

Their scale and translation come from the frames of :mod:`napari_metastasis.geometry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Points

from napari_metastasis._napari.colors import (
    change_colormap,
    lesion_colormap,
    map_colormap,
    shown_limits,
    tissue_colormap,
)
from napari_metastasis._napari.compat import draw_now, slice_at_once, unrefreshed
from napari_metastasis._napari.session import METADATA_KEY, SlideSession
from napari_metastasis.geometry import Affine1D, locations_um

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_metastasis.lesions import Findings
    from napari_metastasis.sampling.hard_negatives import HardNegative
    from napari_metastasis.scanning import MapValues
    from napari_metastasis.slides import Slide, TissueMask

__all__ = [
    "MINED_COLOR",
    "RING_COLOR",
    "change_layer",
    "detections_layer",
    "detections_of",
    "layer_name",
    "lesions_layer",
    "map_layer",
    "mined_layer",
    "place",
    "points_layer",
    "show_points",
    "slide_layer_data",
    "stained_layer",
    "tissue_layer",
]

#: Rings stay this large on the screen, in pixels, whatever the zoom: neither lost nor in the way.
_RING_SCREEN_PX = (5, 24)
#: Width of a ring on the slide, in µm: half the merging distance, so that neighbours do not touch.
_RING_UM = 38.0
RING_COLOR = "#ffd400"
#: Mined locations differ from detections by their colour, and are squares, as patches are.
MINED_COLOR = "#00c8ff"
#: Longer names widen napari's list of layers, which moves the picture.
_NAME_LENGTH = 24


def layer_name(what: str, slide: str = "") -> str:
    """Return the name of a layer in napari's list: short, and with the slide's name where one is given."""
    name = f"{what} · {slide}" if slide else what
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def place(um: Affine1D) -> dict[str, Any]:
    """Return the arguments that place a (row, column) array with square pixels on the slide."""
    return {"scale": (um.scale, um.scale), "translate": (um.translate, um.translate), "units": ("um", "um")}


def slide_layer_data(slide: Slide, session: SlideSession) -> tuple[list[Any], dict[str, Any], str]:
    """Return a slide as the (data, arguments, type) that a napari reader hands over. Reads no pixel."""
    data = [level.array for level in slide.levels]
    arguments = {
        "name": layer_name(slide.name),
        "rgb": True,
        "multiscale": True,
        # Without limits napari computes them, on the data.
        "contrast_limits": (0, 255),
        "interpolation2d": "linear",
        "metadata": {METADATA_KEY: session},
        **place(slide.level_frame(0).um),
    }
    return data, arguments, "image"


def stained_layer(levels: Sequence[Any], session: SlideSession, *, name: str) -> Image:
    """Return a slide as its dyes show it, level for level where the slide's own layer lies.

    A copy of it reads the slide's file, too, and goes with the slide as a copy of the slide's own layer does.
    """
    return Image(
        list(levels),
        name=name,
        rgb=True,
        multiscale=True,
        contrast_limits=(0, 255),
        interpolation2d="linear",
        metadata={METADATA_KEY: session},
        **place(session.slide.level_frame(0).um),
    )


def tissue_layer(tissue: TissueMask, *, name: str) -> Image:
    """Return the tissue mask as a tint, hidden at first."""
    return Image(
        tissue.mask.astype(np.uint8),
        name=name,
        contrast_limits=(0, 1),
        colormap=tissue_colormap(),
        blending="translucent_no_depth",
        interpolation2d="nearest",
        visible=False,
        **place(tissue.frame.um),
    )


def map_layer(shown: MapValues, threshold: float, *, name: str, opacity: float) -> Image:
    """Return the layer of a map, transparent below the threshold and where nothing was answered.

    It shares the map's array.
    """
    return Image(
        shown.values,
        name=name,
        contrast_limits=shown_limits(threshold),
        colormap=map_colormap(shown.kind.colors, threshold, scanning=False),
        opacity=opacity,
        blending="translucent_no_depth",
        interpolation2d="linear",
        **place(shown.frame.um),
    )


def change_layer(change: MapValues, *, name: str, opacity: float) -> Image:
    """Return the layer of what changed between two maps, from -1 to 1; it shares their array."""
    return Image(
        change.values,
        name=name,
        contrast_limits=(-1.0, 1.0),
        colormap=change_colormap(),
        opacity=opacity,
        blending="translucent_no_depth",
        interpolation2d="linear",
        **place(change.frame.um),
    )


def lesions_layer(session: SlideSession, *, name: str, visible: bool) -> Labels:
    """Return an empty layer for lesions: a LabelPainter fills it, and draws their outlines where it is visible."""
    assert session.found is not None
    frame = session.found.frame
    layer = Labels(
        # calloc'd: glass costs no memory.
        np.zeros(frame.cells.shape, np.int32),
        name=name,
        colormap=lesion_colormap(),
        opacity=0.9,
        visible=visible,
        blending="translucent_no_depth",
        **place(frame.um),
    )
    # The labels follow the threshold; a stroke of the brush would be lost with the next move of the slider.
    layer.editable = False
    return layer


def detections_of(found: Findings | None) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Return detections as napari's points, (n, 2) level-0 locations as (y, x), and their columns."""
    if found is None:
        return np.zeros((0, 2)), {"probability": np.zeros(0, np.float32), "lesion": np.zeros(0, np.int32)}
    detections = found.detections
    points = np.column_stack((detections.y, detections.x))
    return points, {"probability": detections.probability, "lesion": detections.lesion}


def points_layer(points: npt.NDArray[Any], features: dict[str, Any], mpp: float, **looks: Any) -> Points:
    """Return points that the program finds, hollow and not to be edited.

    Parameters
    ----------
    points
        (n, 2) level-0 locations as (y, x).
    features
        Their columns.
    mpp
        µm per level-0 pixel.
    looks
        Their name, symbol, size, colour and limits, as napari takes them, where they are not those of a ring.
    """
    rings = {"symbol": "disc", "size": _RING_UM / mpp, "border_width": 0.2, "canvas_size_limits": _RING_SCREEN_PX}
    layer = Points(
        points,
        ndim=2,
        features=features,
        face_color="transparent",
        blending="translucent_no_depth",
        **(rings | looks),
        **place(locations_um(mpp)),
    )
    slice_at_once(layer)
    layer.editable = False
    return layer


def detections_layer(session: SlideSession, *, name: str) -> Points:
    """Return the detections as rings."""
    points, features = detections_of(session.found)
    return points_layer(points, features, session.slide.mpp, name=name, border_color=RING_COLOR)


def mined_layer(mined: Sequence[HardNegative], mpp: float, *, name: str) -> Points:
    """Return mined locations as squares, the strongest last, so that it is drawn on top."""
    weakest_first = mined[::-1]
    return points_layer(
        np.array([(one.y, one.x) for one in weakest_first]).reshape(-1, 2),
        {"probability": np.array([one.probability for one in weakest_first], dtype=np.float32)},
        mpp,
        name=name,
        symbol="square",
        border_color=MINED_COLOR,
    )


def show_points(
    layer: Points, points: npt.NDArray[Any], features: dict[str, Any], colors: str | npt.NDArray[Any]
) -> None:
    """Show other points in a layer that :func:`points_layer` made.

    Parameters
    ----------
    layer
        The layer.
    points, features
        As :func:`points_layer` takes them.
    colors
        Of the rings: one for all, or one for each.
    """
    with unrefreshed(layer):
        if not np.array_equal(points, layer.data):
            layer.selected_data = set()
            layer.data = points
            layer.set_view_slice()
            layer.features = features
            # Points that were added would have napari's default colours.
            layer.face_color = "transparent"
            if isinstance(colors, str):
                layer.border_color = colors
        # napari has no colours for none.
        if not isinstance(colors, str) and len(points):
            layer.border_color = colors
        layer.shown = True
    # Also where it is hidden: it must not be shown again by the indices of other points.
    layer.set_view_slice()
    draw_now(layer)
