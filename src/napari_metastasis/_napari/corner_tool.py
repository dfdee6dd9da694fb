"""The corners of one outline under the mouse: dragged, added on an edge, and taken away.

They are painted over the canvas and are no layer, as what is being drawn is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_overlay import CanvasOverlay
from napari_metastasis._napari.view_transform import ViewTransform
from napari_metastasis.errors import AnnotationError

if TYPE_CHECKING:
    from napari_metastasis.annotations.corners import Corners, Edge

__all__ = ["CornerTool"]

FloatArray = npt.NDArray[np.float64]

#: The mouse takes hold of a corner, or of an edge, so many screen pixels away, and may move so far within a click.
_CORNER_PX, _EDGE_PX, _STILL_PX = 9.0, 7.0, 3.0
#: The outline through the corners that are shown lies so near to the outline, in screen pixels, and corners that are
#: farther apart than this are all shown; found anew after a part of an octave of zoom. Of more corners in view than
#: these, fewer are shown.
_TOLERANCE_PX, _APART_PX, _STEPS, _MOST = 2.5, 20.0, 2, 600
#: How near the line that is painted lies to the outline, in screen pixels.
_LINE_PX = 0.4
#: Half the side of a corner's square, and of the chosen one's.
_HALF_PX, _CHOSEN_PX = 3.5, 5.0
_WRONG = QColor(196, 30, 22)


@dataclass(slots=True)
class _Painted:
    """What is painted, in canvas pixels: edges, corners, the chosen one, and what a drag makes of the outline."""

    edges: FloatArray = field(default_factory=lambda: np.zeros((0, 2, 2)))
    corners: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    chosen: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    dragged: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    color: QColor = field(default_factory=QColor)
    is_wrong: bool = False


class _CornerOverlay(CanvasOverlay):
    """Paints an outline and its corners. The mouse goes through it to the slide."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._painted: _Painted | None = None

    def show_outline(self, painted: _Painted | None) -> None:
        """Paint another state of the outline; ``None`` for nothing."""
        self._painted = painted
        if painted is None:
            self.hide()
            return
        self.cover()
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint the outline, then what a drag makes of it, then the corners."""
        painted = self._painted
        if painted is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = _WRONG if painted.is_wrong else painted.color
        lines = [_line(one) for one in painted.edges.tolist()]
        for pen in (QPen(QColor(255, 255, 255, 200), 3.2), QPen(painted.color, 1.4)):
            painter.setPen(pen)
            for start, end in lines:
                painter.drawLine(start, end)
        if len(painted.dragged):
            way = [QPointF(x, y) for x, y in painted.dragged.tolist()]
            kind = Qt.PenStyle.DashLine if painted.is_wrong else Qt.PenStyle.SolidLine
            for pen in (QPen(QColor(255, 255, 255, 230), 4.4), QPen(color, 2.4, kind)):
                painter.setPen(pen)
                painter.drawPolyline(way)
        painter.setPen(QPen(painted.color, 1.4))
        painter.setBrush(QColor(255, 255, 255))
        for x, y in painted.corners.tolist():
            painter.drawRect(QRectF(x - _HALF_PX, y - _HALF_PX, 2 * _HALF_PX, 2 * _HALF_PX))
        painter.setPen(QPen(QColor(255, 255, 255), 1.6))
        painter.setBrush(color)
        for x, y in painted.chosen.tolist():
            painter.drawRect(QRectF(x - _CHOSEN_PX, y - _CHOSEN_PX, 2 * _CHOSEN_PX, 2 * _CHOSEN_PX))
        painter.end()


def _line(ends: list[list[float]]) -> tuple[QPointF, QPointF]:
    return QPointF(*ends[0]), QPointF(*ends[1])


@dataclass(slots=True)
class _Drag:
    """A corner under the mouse: of the outline as it was, where the mouse took hold, and what it is now."""

    before: Corners
    corner: int
    is_added: bool
    shown: npt.NDArray[np.bool_]
    x: float
    y: float
    now: Corners
    was_sound: bool
    has_moved: bool = False


class CornerTool(QObject):
    """Takes the mouse where it is over a corner or an edge of the outline that is shown.

    Parameters
    ----------
    canvas
        What napari draws in, and what gets the mouse.
    view
        Returns where the canvas lies on the slide that is shown; ``None`` where none is shown.
    """

    #: The outline is another: what was done, as a person says it, and its corners.
    reshaped = Signal(str, object)
    #: What cannot be done: an exception.
    refused = Signal(object)

    def __init__(self, canvas: QWidget, view: Callable[[], ViewTransform | None]) -> None:
        super().__init__(canvas)
        self._canvas, self._view = canvas, view
        self._overlay = _CornerOverlay(canvas)
        self.color = QColor()
        self._corners: Corners | None = None
        self._chosen = -1
        self._drag: _Drag | None = None
        self._takes_release = self._held = False
        #: The corners that are worth showing at a zoom, and those of the line that is painted; found once.
        self._worth: tuple[Corners, float, npt.NDArray[np.bool_]] | None = None
        self._drawn: tuple[Corners, float, FloatArray] | None = None
        canvas.installEventFilter(self)

    @property
    def corners(self) -> Corners | None:
        """Return those of the outline that is shown; ``None`` where none is."""
        return self._corners

    @property
    def handles_px(self) -> FloatArray:
        """Return the corners that are shown, (n, 2) of (x, y) on the slide."""
        view = self._view()
        if self._corners is None or view is None:
            return np.zeros((0, 2))
        return self._corners.places_px[self._shown(view) & self._in_view(view)]

    def show_outline(self, corners: Corners | None, color: QColor) -> None:
        """Show the corners of another outline, or of none; the chosen corner stays chosen where it still is one."""
        place = None
        if self._corners is not None and self._chosen >= 0:
            place = self._corners.places_px[self._chosen]
        self._corners, self.color, self._drag = corners, color, None
        self._chosen = -1
        if corners is not None and place is not None and len(corners):
            away = np.hypot(*(corners.places_px - place).T)
            nearest = int(away.argmin())
            # Saved corners lie on a grid.
            if away[nearest] < 0.01:
                self._chosen = nearest
        self.follow()

    def hold(self, held: bool) -> None:
        """Leave the mouse to napari for a while, to move the slide; or take it again. A corner stays where it is."""
        if held and self._drag is not None:
            # Its release will be napari's.
            self._let_go()
        self._held, self._takes_release = held, False
        self._canvas.setCursor(Qt.CursorShape.OpenHandCursor if held else Qt.CursorShape.ArrowCursor)

    def drop(self) -> bool:
        """Let go of a corner that is being dragged, where it was before; else choose none. Return whether it did."""
        there = self._drag is not None or self._chosen >= 0
        self._drag = None
        self._chosen = -1
        self.follow()
        return there

    def remove(self) -> bool:
        """Take the chosen corner away, and return whether there is one."""
        view = self._view()
        if self._corners is None or self._chosen < 0 or view is None:
            return False
        self._remove(self._chosen, view)
        return True

    def close(self) -> None:
        """Leave the mouse to napari, and show nothing more."""
        self.show_outline(None, QColor())
        self._canvas.removeEventFilter(self)

    # -- what is painted -----------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Paint the outline where the view shows it now."""
        view, drag = self._view(), self._drag
        if self._corners is None or view is None:
            self._overlay.show_outline(None)
            return
        painted = _Painted(color=self.color)
        painted.edges = view.places_on_canvas(self._edges(view))
        shown, chosen = self._shown(view) & self._in_view(view), self._chosen
        if drag is not None:
            shown, chosen = drag.shown & self._in_view(view, drag.before), drag.corner
            dragged = drag.now.places_px[drag.now.stretch(chosen, drag.shown)]
            painted.dragged = view.places_on_canvas(dragged)
            painted.is_wrong = drag.was_sound and not drag.now.area.is_valid
        corners = self._corners if drag is None else drag.now
        if chosen >= 0:
            painted.chosen = view.places_on_canvas(corners.places_px[[chosen]])
            shown[chosen] = False
        painted.corners = view.places_on_canvas(corners.places_px[shown])
        self._overlay.show_outline(painted)

    @staticmethod
    def _octave(view: ViewTransform) -> float:
        return float(2.0 ** (np.floor(_STEPS * np.log2(view.px)) / _STEPS))

    def _edges(self, view: ViewTransform) -> FloatArray:
        """Return the edges of the line that is painted, (n, 2, 2), those that the view may show."""
        assert self._corners is not None
        px = self._octave(view)
        held = self._drawn
        if held is None or held[0] is not self._corners or held[1] != px:
            import shapely

            from napari_metastasis._napari.correction_lines import ends_of

            # Simplified, a border may cross itself; it is only looked at.
            line = shapely.simplify(self._corners.area, _LINE_PX * px, preserve_topology=False)
            ends = self._corners.ends_px if line.is_empty else ends_of([line])[0]
            held = self._drawn = self._corners, px, ends
        left, top, right, bottom = view.bounds
        low, high = held[2].min(axis=1), held[2].max(axis=1)
        return held[2][(high[:, 0] >= left) & (low[:, 0] <= right) & (high[:, 1] >= top) & (low[:, 1] <= bottom)]

    def _in_view(self, view: ViewTransform, corners: Corners | None = None) -> npt.NDArray[np.bool_]:
        own = self._corners if corners is None else corners
        assert own is not None
        left, top, right, bottom = view.bounds
        x, y = own.places_px.T
        found: npt.NDArray[np.bool_] = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return found

    def _shown(self, view: ViewTransform) -> npt.NDArray[np.bool_]:
        """Return which corners are shown at this zoom, wherever they lie; the chosen one is."""
        assert self._corners is not None
        px, held = self._octave(view), self._worth
        if held is None or held[0] is not self._corners or held[1] != px:
            tolerance = _TOLERANCE_PX * px
            shown = self._corners.shown(tolerance, apart_px=_APART_PX * px)
            while np.count_nonzero(shown & self._in_view(view)) > _MOST:
                tolerance *= 2
                shown = self._corners.shown(tolerance, apart_px=np.inf)
            held = self._worth = self._corners, px, shown
        shown = held[2].copy()
        if self._chosen >= 0:
            shown[self._chosen] = True
        return shown

    # -- the hand ------------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Take the mouse over corners and edges; elsewhere napari moves the slide, and a click chooses an outline."""
        if self._corners is None or self._held or not isinstance(event, QMouseEvent):
            return False
        view = self._view()
        if view is None:
            return False
        kind, button = event.type(), event.button()
        place = view.to_slide(event.position().x(), event.position().y())
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            self._takes_release = self._on_press(view, place.x, place.y, button)
            return self._takes_release
        if kind == QEvent.Type.MouseMove:
            if self._drag is None:
                if event.buttons() == Qt.MouseButton.NoButton:
                    self._show_cursor(view, place.x, place.y)
                return self._takes_release
            self._move(view, place.x, place.y)
            return True
        if kind == QEvent.Type.MouseButtonRelease and self._takes_release:
            if button == Qt.MouseButton.LeftButton and self._drag is not None:
                self._move(view, place.x, place.y)
                self._let_go()
            self._takes_release = self._drag is not None
            return True
        return False

    def _grip(self, view: ViewTransform, x: float, y: float) -> tuple[int, Edge | None]:
        """Return the corner at a place; else -1, and the edge there."""
        assert self._corners is not None
        shown = self._shown(view) & self._in_view(view)
        corner, away = self._corners.nearest(x, y, shown)
        if away <= _CORNER_PX * view.px:
            return corner, None
        edge = self._corners.nearest_edge(x, y)
        if edge.away_px > _EDGE_PX * view.px:
            return -1, None
        # One that is there already, and not shown, rather than another beside it.
        hidden, away = self._corners.nearest(edge.x, edge.y, ~shown)
        return (hidden, None) if away <= _EDGE_PX * view.px else (-1, edge)

    def _show_cursor(self, view: ViewTransform, x: float, y: float) -> None:
        corner, edge = self._grip(view, x, y)
        shape = Qt.CursorShape.ArrowCursor if edge is None else Qt.CursorShape.CrossCursor
        self._canvas.setCursor(Qt.CursorShape.SizeAllCursor if corner >= 0 else shape)

    def _on_press(self, view: ViewTransform, x: float, y: float, button: Qt.MouseButton) -> bool:
        if self._drag is not None:
            return True
        corner, edge = self._grip(view, x, y)
        if button == Qt.MouseButton.RightButton and corner >= 0:
            self._remove(corner, view)
            return True
        if button != Qt.MouseButton.LeftButton or (corner < 0 and edge is None):
            return False
        assert self._corners is not None
        before, shown = self._corners, self._shown(view)
        if edge is not None:
            before, corner = before.added(edge)
            shown = np.insert(shown, corner, True)
        shown[corner] = True
        self._drag = _Drag(before, corner, edge is not None, shown, x, y, before, before.area.is_valid)
        if edge is None:
            self._chosen = corner
        self.follow()
        return True

    def _move(self, view: ViewTransform, x: float, y: float) -> None:
        drag = self._drag
        assert drag is not None
        dx, dy = x - drag.x, y - drag.y
        if not drag.has_moved and np.hypot(dx, dy) < _STILL_PX * view.px:
            return
        drag.has_moved = True
        # As far as the hand: it may have taken hold beside the corner.
        own = drag.before.places_px[drag.corner]
        drag.now = drag.before.moved(drag.corner, float(own[0] + dx), float(own[1] + dy), drag.shown)
        self.follow()

    def _let_go(self) -> None:
        drag, self._drag = self._drag, None
        assert drag is not None
        before, chosen = self._corners, self._chosen
        if drag.has_moved or drag.is_added:
            # Chosen in what is shown from now on; where that is refused, what was before is shown again.
            self._corners, self._chosen = drag.now, drag.corner
            self.reshaped.emit("Add a corner" if drag.is_added else "Move a corner", drag.now)
            if self._corners is drag.now:
                self._corners, self._chosen = before, -1 if drag.is_added else chosen
        self.follow()

    def _remove(self, corner: int, view: ViewTransform) -> None:
        assert self._corners is not None
        shown = self._shown(view)
        shown[corner] = True
        try:
            left = self._corners.removed(corner, shown)
        except AnnotationError as error:
            self.refused.emit(error)
            return
        self._chosen = -1
        self.reshaped.emit("Remove a corner", left)
        self.follow()
