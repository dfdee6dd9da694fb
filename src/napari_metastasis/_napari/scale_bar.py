"""The scale bar in the canvas: light on a dark ground, so that it is read on glass and on dark tissue alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from vispy.gloo import VertexBuffer
from vispy.visuals import Visual

from napari_metastasis._napari.canvas_corner import BACKGROUND, TEXT
from napari_metastasis._napari.compat import grid_of, scale_bar_nodes, scale_bar_of

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["show_scale_bar"]

#: Reads on glass and on most tissue without a ground, which other versions of napari may not take.
_ALONE = "#0096a0"
#: The ground reaches so far past the bar and its text, in screen pixels.
_REACH_PX = 5.0

_VERTEX_SHADER = """
attribute vec2 a_corner;
void main() { gl_Position = $transform(vec4(a_corner, 0.0, 1.0)); }
"""
_FRAGMENT_SHADER = """
uniform vec4 u_color;
void main() { gl_FragColor = u_color; }
"""


class _Ground(Visual):
    """A rectangle of one colour.

    napari has a box of its own for its scale bar, but napari 0.9 compiles that one's shader anew with every step of a
    zoom: half of all the time that it takes to draw one.
    """

    def __init__(self) -> None:
        super().__init__(vcode=_VERTEX_SHADER, fcode=_FRAGMENT_SHADER)
        self._draw_mode = "triangle_strip"
        self._corners = VertexBuffer(np.zeros((4, 2), np.float32))
        self.shared_program["a_corner"] = self._corners
        self.shared_program["u_color"] = tuple(part / 255 for part in BACKGROUND)
        self.set_gl_state("translucent", depth_test=False, cull_face=False)

    def lie_under(self, width: float, height: float) -> None:
        """Lie under what is so wide and high, in screen pixels."""
        left, right, top, bottom = -_REACH_PX, width + _REACH_PX, -_REACH_PX, height + _REACH_PX
        self._corners.set_data(np.array([(left, top), (right, top), (left, bottom), (right, bottom)], np.float32))
        self.update()

    def _prepare_transforms(self, view: Any) -> None:
        view.view_program.vert["transform"] = view.transforms.get_transform()

    def _compute_bounds(self, _axis: int, _view: Any) -> tuple[float, float]:
        return (0.0, 0.0)


def show_scale_bar(viewer: Viewer) -> None:
    """Switch napari's scale bar on, in colours that are read on every slide."""
    scale_bar = scale_bar_of(viewer)
    scale_bar.box = False
    scale_bar.colored = True
    scale_bar.color = _ALONE
    scale_bar.visible = True
    _lay_grounds(viewer)
    # napari makes a bar for each cell of its grid.
    again: Callable[..., None] = lambda _=None: QTimer.singleShot(0, partial(_lay_grounds, viewer))  # noqa: E731
    grid_of(viewer).events.enabled.connect(again)
    viewer.layers.events.inserted.connect(again)


def _lay_grounds(viewer: Viewer) -> None:
    """Lay a ground under every scale bar that has none."""
    for node in scale_bar_nodes(viewer):
        if not any(isinstance(one, _Ground) for one in node._subvisuals):
            _lay_ground(node)
            scale_bar_of(viewer).color = tuple(part / 255 for part in TEXT)


def _lay_ground(node: Any) -> None:
    ground, set_own = _Ground(), node.set_data

    def set_data(**how: Any) -> tuple[float, float]:
        size: tuple[float, float] = set_own(**how)
        ground.lie_under(*size)
        return size

    node.add_subvisual(ground)
    node._subvisuals.insert(0, node._subvisuals.pop())
    node.unfreeze()
    node.set_data = set_data
    node.freeze()
