"""Shapes that the user draws over a slide: seen through, and hidden and shown with their slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer, Shapes

from napari_metastasis._napari.compat import camera_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.session import SlideSession

__all__ = ["SHAPES_KEY", "is_free", "shapes_of", "take_shapes"]

#: Key of the session in the metadata of shapes that were drawn over its slide.
SHAPES_KEY = "napari-metastasis-shapes"
#: A clear edge, so many screen pixels wide at the zoom that the layer is made at, and nothing over the tissue.
_EDGE_COLOR, _EDGE_PX = "#0050ff", 3.0


def shapes_of(viewer: Viewer, session: SlideSession) -> list[Layer]:
    """Return the layers of shapes that belong to a slide."""
    return [layer for layer in viewer.layers if layer.metadata.get(SHAPES_KEY) is session]


def is_free(layer: Layer) -> bool:
    """Return whether a layer holds shapes that belong to no slide."""
    return isinstance(layer, Shapes) and SHAPES_KEY not in layer.metadata


def take_shapes(viewer: Viewer, layer: Layer, session: SlideSession) -> None:
    """Let a layer of shapes that was just added belong to the slide that is shown.

    One with shapes in it, as from a file, keeps its looks.
    """
    layer.metadata[SHAPES_KEY] = session
    if isinstance(layer, Shapes) and not len(layer.data):
        layer.opacity = 1.0
        layer.current_face_color = "transparent"
        layer.current_edge_color = _EDGE_COLOR
        layer.current_edge_width = _EDGE_PX / camera_of(viewer).zoom / float(np.abs(layer.scale[-1]))
