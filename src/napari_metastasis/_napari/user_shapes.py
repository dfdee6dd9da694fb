"""What the user draws over a slide: hidden and shown with it, and still there when it opens again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes

from napari_metastasis._napari.compat import camera_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["OWN_KEY", "SHAPES_KEY", "is_free", "shapes_of", "take_shapes"]

#: Key of the slide's file in the metadata of what was drawn over it: it outlives the slide's session.
SHAPES_KEY = "napari-metastasis-shapes"
#: Key in the metadata of layers that the plugin itself makes.
OWN_KEY = "napari-metastasis-own"
#: A clear edge, so many screen pixels wide at the zoom that the layer is made at, and nothing over the tissue.
_EDGE_COLOR, _EDGE_PX = "#0050ff", 3.0


def shapes_of(viewer: Viewer, slide: Slide) -> list[Layer]:
    """Return the layers that were drawn over a slide."""
    return [layer for layer in viewer.layers if layer.metadata.get(SHAPES_KEY) == str(slide.path)]


def is_free(layer: Layer) -> bool:
    """Return whether a layer holds what a user draws, and belongs to no slide."""
    return (
        isinstance(layer, Shapes | Points | Labels)
        and SHAPES_KEY not in layer.metadata
        and OWN_KEY not in layer.metadata
    )


def take_shapes(viewer: Viewer, layer: Layer, slide: Slide) -> None:
    """Let a layer that was just added belong to the slide that is shown.

    One with shapes in it, as from a file, keeps its looks.
    """
    layer.metadata[SHAPES_KEY] = str(slide.path)
    if isinstance(layer, Shapes) and not len(layer.data):
        layer.opacity = 1.0
        layer.current_face_color = "transparent"
        layer.current_edge_color = _EDGE_COLOR
        layer.current_edge_width = _EDGE_PX / camera_of(viewer).zoom / float(np.abs(layer.scale[-1]))
