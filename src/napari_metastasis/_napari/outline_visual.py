"""Draws many lines and dots of a size in screen pixels, whatever the zoom: visuals for napari's canvas (vispy).

OpenGL's own lines are a pixel wide on some systems and ragged on most; here each line is two triangles, which the
graphics card widens to screen pixels and smooths. A dot is one point: where software draws, thousands of them take a
third of the time of lines. Nothing is sent anew while the view moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vispy.gloo import IndexBuffer, VertexBuffer
from vispy.scene.visuals import create_visual_node
from vispy.visuals import Visual

__all__ = ["MOST_STYLES", "DotNode", "LineNode", "LineStyle", "along", "dot_vertices", "line_vertices"]

RGB = tuple[float, float, float]

#: How many styles there may be, and how long dashes, and the gaps between them, are, in screen pixels.
MOST_STYLES, _DASH_PX, _GAP_PX = 16, 7.0, 5.0

_LINE_VERTEX = """
attribute vec4 a_line;
attribute float a_along;
attribute float a_code;

uniform mat2 u_turn;
uniform vec2 u_shift;
uniform vec2 u_canvas;
uniform float u_wider;
uniform float u_width[STYLES];
uniform vec3 u_color[STYLES];
uniform float u_dashed[STYLES];

varying vec3 v_place;
varying float v_along;
varying float v_half;
varying vec3 v_color;
varying float v_dashed;

void main() {
    int style = int(a_code / 4.0 + 0.01);
    float corner = a_code - 4.0 * float(style);
    float side = mod(corner, 2.0) < 0.5 ? 1.0 : -1.0;
    bool first = corner < 1.5;
    // A line begins at its first end; seen from the other one, all is turned.
    vec2 here = u_turn * a_line.xy + u_shift;
    vec2 way = u_turn * (a_line.zw - a_line.xy);
    float len = length(way);
    vec2 along = len > 1e-5 ? way / len : vec2(first ? 1.0 : -1.0, 0.0);
    v_half = 0.5 * (u_width[style] + u_wider);
    float reach = v_half + 0.75;
    vec2 at = here + reach * (side * vec2(-along.y, along.x) - along);
    gl_Position = vec4(at / u_canvas * 2.0 - 1.0, 0.0, 1.0);
    // How far along the outline it is, on the screen: dashes join where lines do, at every angle.
    float px = sqrt(abs(u_turn[0][0] * u_turn[1][1] - u_turn[0][1] * u_turn[1][0]));
    v_along = a_along * px + (first ? -reach : len + reach);
    v_place = first ? vec3(-reach, side * reach, len) : vec3(len + reach, -side * reach, len);
    v_color = u_color[style];
    v_dashed = u_dashed[style];
}
"""

_LINE_FRAGMENT = """
uniform float u_opacity;
uniform vec2 u_dash;

varying float v_dashed;

varying vec3 v_place;
varying float v_along;
varying float v_half;
varying vec3 v_color;

void main() {
    float past = max(max(-v_place.x, v_place.x - v_place.z), 0.0);
    float alpha = clamp(v_half + 0.5 - length(vec2(past, v_place.y)), 0.0, 1.0);
    if (v_dashed > 0.5 && mod(v_along, u_dash.x + u_dash.y) > u_dash.x) {
        discard;
    }
    gl_FragColor = vec4(v_color, alpha * u_opacity);
}
"""

_DOT_VERTEX = """
attribute vec2 a_middle;
attribute float a_style;

uniform mat2 u_turn;
uniform vec2 u_shift;
uniform vec2 u_canvas;
uniform float u_wider;
uniform float u_width[STYLES];
uniform vec3 u_color[STYLES];
uniform float u_dashed[STYLES];

varying float v_side;
varying vec3 v_color;
varying float v_dashed;

void main() {
    int style = int(a_style + 0.01);
    gl_Position = vec4((u_turn * a_middle + u_shift) / u_canvas * 2.0 - 1.0, 0.0, 1.0);
    v_side = u_width[style] + u_wider + 1.0;
    gl_PointSize = v_side;
    v_color = u_color[style];
    v_dashed = u_dashed[style];
}
"""

_DOT_FRAGMENT = """
uniform float u_opacity;

varying float v_dashed;
varying float v_side;
varying vec3 v_color;

void main() {
    float away = length((gl_PointCoord - 0.5) * v_side);
    float alpha = clamp(0.5 * v_side - away, 0.0, 1.0);
    if (v_dashed > 0.5) {
        alpha *= clamp(away - 0.5 * v_side + 2.5, 0.0, 1.0);
    }
    gl_FragColor = vec4(v_color, alpha * u_opacity);
}
"""

_LINE = np.dtype([("a_line", np.float32, 4), ("a_along", np.float32), ("a_code", np.float32)])
_DOT = np.dtype([("a_middle", np.float32, 2), ("a_style", np.float32)])
_TRIANGLES = np.array([0, 1, 2, 0, 2, 3], np.uint32)


def along(ends: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return how far along its way each line begins: (n,). A way goes on where a line begins where the last one ends.

    Parameters
    ----------
    ends
        (n, 2, 2), both ends of each line as (x, y).
    """
    length = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    before = np.cumsum(length) - length
    begins = np.append(True, (ends[1:, 0] != ends[:-1, 1]).any(axis=1))[: len(ends)]
    far: npt.NDArray[np.float64] = before - before[np.maximum.accumulate(np.where(begins, np.arange(len(ends)), 0))]
    return far


def line_vertices(ends: npt.NDArray[np.floating[Any]], style: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.void]:
    """Return the corners of lines, four each, as the graphics card reads them.

    Parameters
    ----------
    ends
        (n, 2, 2), both ends of each line as (x, y). Where lines are dashed, those of an outline follow each other.
    style
        (n,), which of the styles each line has.
    """
    corners = np.empty((len(ends), 4), _LINE)
    corners["a_along"] = along(ends)[:, None]
    corners["a_line"][:, :2] = ends.reshape(-1, 1, 4)
    corners["a_line"][:, 2:] = ends[:, ::-1].reshape(-1, 1, 4)
    corners["a_code"] = style[:, None] * 4 + np.arange(4)
    return corners.ravel()


def dot_vertices(middles: npt.NDArray[np.floating[Any]], style: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.void]:
    """Return dots as the graphics card reads them: (n, 2) middles as (x, y), and (n,) which style each has."""
    vertices = np.empty(len(middles), _DOT)
    vertices["a_middle"] = middles
    vertices["a_style"] = style
    return vertices


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How lines and dots look.

    Attributes
    ----------
    width_px
        Width, or diameter, in screen pixels.
    color
        Red, green and blue, 0 to 1.
    dashed
        Whether lines are broken, and dots are rings.
    """

    width_px: float
    color: RGB
    dashed: bool = False


class _StyledVisual(Visual):
    """What :meth:`show` took, in styles.

    Parameters
    ----------
    styles
        At most :data:`MOST_STYLES`.
    wider_px
        Screen pixels that are added to each width; may be changed later.
    opacity
        0 to 1.
    """

    _shaders: tuple[str, str]
    _mode: str

    def __init__(self, *, styles: Sequence[LineStyle], wider_px: float = 0.0, opacity: float = 1.0) -> None:
        vertex, fragment = (code.replace("STYLES", str(MOST_STYLES)) for code in self._shaders)
        super().__init__(vcode=vertex, fcode=fragment)
        self._draw_mode = self._mode
        self._count = 0
        self.wider_px = wider_px
        self._widths = [0.0] * MOST_STYLES
        self._widths[: len(styles)] = [style.width_px for style in styles]
        unused = [LineStyle(0.0, (0.0, 0.0, 0.0))] * (MOST_STYLES - len(styles))
        for index, style in enumerate([*styles, *unused]):
            self.shared_program[f"u_color[{index}]"] = style.color
            self.shared_program[f"u_dashed[{index}]"] = float(style.dashed)
        self.shared_program["u_opacity"] = float(opacity)
        self.set_gl_state("translucent", depth_test=False, cull_face=False)

    def show(self, vertices: VertexBuffer, count: int) -> None:
        """Show others.

        Parameters
        ----------
        vertices
            What :func:`line_vertices` or :func:`dot_vertices` returned, on the graphics card; several visuals may
            share it.
        count
            How many lines or dots those are.
        """
        if count:
            for name in vertices.dtype.names or ():
                self.shared_program[name] = vertices[name]
        self._count = count
        self.update()

    def _prepare_draw(self, view: Any) -> bool | None:
        if not self._count:
            return False
        program, pixel = view.view_program, float(view.transforms.pixel_scale)
        for index, width in enumerate(self._widths):
            program[f"u_width[{index}]"] = width * pixel
        program["u_wider"] = self.wider_px * pixel
        if self._mode == "triangles":
            program["u_dash"] = _DASH_PX * pixel, _GAP_PX * pixel
        # Seen flat, all that comes between is one affine map, which is far cheaper than vispy's chain of them.
        chain = view.transforms.get_transform("visual", "render")
        corners = chain.map(np.array([(0, 0), (1, 0), (0, 1)], np.float64))
        corners = corners[:, :2] / corners[:, 3:]
        canvas = abs(np.array(view.canvas.physical_size, float))
        at = (corners + 1) / 2 * canvas
        program["u_turn"] = np.ascontiguousarray((at[1:] - at[0]).astype(np.float32)).ravel()
        program["u_shift"] = at[0].astype(np.float32)
        program["u_canvas"] = canvas.astype(np.float32)
        return None

    @staticmethod
    def _prepare_transforms(_: Any) -> None:
        """Do nothing: the transforms are read when the lines are drawn."""

    def _compute_bounds(self, _axis: int, _view: Any) -> tuple[float, float]:
        return (0.0, 0.0)


class LineVisual(_StyledVisual):
    """Lines of a width."""

    _shaders, _mode = (_LINE_VERTEX, _LINE_FRAGMENT), "triangles"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._index_buffer = IndexBuffer()

    def show(self, vertices: VertexBuffer, count: int) -> None:
        """Show other lines: see :meth:`_StyledVisual.show`."""
        if count:
            triangles = np.arange(count, dtype=np.uint32)[:, None] * np.uint32(4) + _TRIANGLES
            self._index_buffer.set_data(triangles.ravel())
        super().show(vertices, count)


class DotVisual(_StyledVisual):
    """Dots; a style's width is their diameter."""

    _shaders, _mode = (_DOT_VERTEX, _DOT_FRAGMENT), "points"


LineNode = create_visual_node(LineVisual)
DotNode = create_visual_node(DotVisual)
