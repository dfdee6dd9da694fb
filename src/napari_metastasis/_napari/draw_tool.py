"""The tools with which a person draws on a slide: what the hand does, as places on the slide.

What is being drawn is painted over the canvas and is no layer, as the ruler is: a stroke costs no more than its own
pixels, whatever else lies on the slide.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np
from qtpy.QtCore import QEvent, QObject, QPointF, QRect, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_overlay import CanvasOverlay
from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.view_transform import ViewTransform
from napari_metastasis.geometry import Point

__all__ = ["DrawTool", "Tool"]

#: A click so near to the first corner closes a polygon, and the hand may move so far before a click is a drag.
_CLOSES_PX, _STILL_PX = 9.0, 3.0
#: A point of a path is no nearer to the last one than this.
_STEP_PX = 1.0
_SLACK_PX = 6


class Tool(Enum):
    """What a drag, or clicks, do."""

    POLYGON = "polygon"
    LASSO = "lasso"
    BRUSH = "brush"
    ERASER = "eraser"
    SPLIT = "split"
    JOIN = "join"
    POINT = "point"
    CORNERS = "corners"

    @property
    def is_round(self) -> bool:
        """Return whether it paints with a round tip."""
        return self in (Tool.BRUSH, Tool.ERASER)

    @property
    def draws(self) -> bool:
        """Return whether the mouse draws wherever it is; else only what is taken hold of has it."""
        return self is not Tool.CORNERS


class _Overlay(CanvasOverlay):
    """Paints what is being drawn. The mouse goes through it to the slide."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._path = QPolygonF()
        self._tool: Tool | None = None
        self._width, self._color = 1.0, QColor()
        self._tip: QPointF | None = None
        self._painted = QRect()

    def show_path(
        self,
        path: list[tuple[float, float]],
        tip: tuple[float, float] | None,
        tool: Tool,
        *,
        width: float,
        color: QColor,
    ) -> None:
        """Paint a path in canvas pixels, and the tool's tip."""
        self._path = QPolygonF([QPointF(x, y) for x, y in path])
        self._tip = None if tip is None else QPointF(*tip)
        self._tool, self._width, self._color = tool, width, color
        self.cover()
        before, self._painted = self._painted, self._bounds()
        self.update(before.united(self._painted))

    def clear(self) -> None:
        """Paint nothing."""
        self._painted = QRect()
        self.hide()

    def _bounds(self) -> QRect:
        reach = self._width / 2 + _SLACK_PX
        bounds = self._path.boundingRect()
        if self._tip is not None:
            tip = QRectF(self._tip, self._tip).adjusted(-1, -1, 1, 1)
            bounds = bounds.united(tip) if len(self._path) else tip
        return bounds.adjusted(-reach, -reach, reach, reach).intersected(QRectF(self.rect())).toAlignedRect()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint the path."""
        if self._tool is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._tool.is_round:
            self._paint_stroke(painter)
        elif len(self._path):
            self._paint_line(painter, is_polygon=self._tool is Tool.POLYGON)
        painter.end()

    @property
    def _pens(self) -> tuple[QPen, QPen]:
        """Return what a line is drawn with: a light one, and its own colour over it."""
        return QPen(QColor(255, 255, 255, 220), 3.6), QPen(self._color, 1.8)

    def _paint_stroke(self, painter: QPainter) -> None:
        fill = QColor(self._color)
        fill.setAlpha(110)
        solid, cap, join = Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin
        painter.setPen(QPen(fill, self._width, solid, cap, join))
        if len(self._path) == 1:
            painter.drawPoint(self._path[0])
        elif len(self._path):
            painter.drawPolyline(self._path)
        if self._tip is not None:
            for pen in self._pens:
                painter.setPen(pen)
                painter.drawEllipse(self._tip, self._width / 2, self._width / 2)

    def _paint_line(self, painter: QPainter, *, is_polygon: bool) -> None:
        path = QPolygonF(self._path)
        if is_polygon and self._tip is not None:
            path.append(self._tip)
        for pen in self._pens:
            painter.setPen(pen)
            painter.drawPolyline(path)
        if is_polygon:
            painter.setBrush(QColor(255, 255, 255))
            for corner in self._path:
                painter.drawEllipse(corner, 3, 3)


class DrawTool(QObject):
    """Takes the left button while one of the tools is taken up.

    Parameters
    ----------
    canvas
        What napari draws in, and what gets the mouse.
    view
        Returns where the canvas lies on the slide that is shown; ``None`` where none is shown.
    """

    #: What was drawn: the Tool, and (n, 2) places (x, y) in level-0 pixels.
    drawn = Signal(object, object)
    #: Another Tool was taken up; ``None`` where it was put away.
    changed = Signal(object)

    def __init__(self, canvas: QWidget, view: Callable[[], ViewTransform | None]) -> None:
        super().__init__(canvas)
        self._canvas, self._view = canvas, view
        self._overlay = _Overlay(canvas)
        self.tool: Tool | None = None
        self.color = QColor(*DRAWN["tumour"].rgb)
        #: Radius of the round tip in canvas pixels: as large on the screen at every zoom.
        self.radius_px = 14.0
        self._path: list[Point] = []
        self._tip: Point | None = None
        self._pressed = self._held = False
        self._cursor = canvas.cursor()
        canvas.installEventFilter(self)

    @property
    def radius_of_slide_px(self) -> float:
        """Return the radius of the round tip in level-0 pixels, at the zoom of now."""
        view = self._view()
        return 0.0 if view is None else self.radius_px * view.px

    def take_up(self, tool: Tool | None) -> None:
        """Let the mouse draw with a tool, or leave it to napari."""
        if tool is self.tool:
            return
        if self.tool is None:
            self._cursor = self._canvas.cursor()
        self.tool = tool
        self.drop()
        if tool is None or not tool.draws:
            self._canvas.setCursor(self._cursor)
        self.follow()
        self.changed.emit(tool)

    def hold(self, held: bool) -> None:
        """Leave the mouse to napari for a while, to move the slide; or take it again. A stroke ends where it is."""
        view = self._view()
        if held and self._pressed and view is not None:
            # Its release will be napari's.
            self._on_release(view, self._path[-1])
        self._held = held
        self._canvas.setCursor(Qt.CursorShape.OpenHandCursor if held else Qt.CursorShape.CrossCursor)

    def drop(self) -> bool:
        """Forget what is being drawn, and return whether there was anything."""
        there, self._path, self._pressed = bool(self._path), [], False
        self.follow()
        return there

    def take_back_corner(self) -> bool:
        """Take the last corner of a polygon back, and return whether there was one."""
        if self.tool is not Tool.POLYGON or not self._path:
            return False
        self._path.pop()
        self.follow()
        return True

    def finish(self) -> bool:
        """End the polygon that is being drawn, and return whether there is one."""
        if self.tool is not Tool.POLYGON or not self._path:
            return False
        self._emit()
        return True

    def follow(self) -> None:
        """Paint what is being drawn where the view shows it now."""
        view = self._view()
        if self.tool is None or not self.tool.draws or view is None:
            self._overlay.clear()
            return
        if not self._held:
            # napari shows its own cursor again at every step of a zoom.
            self._canvas.setCursor(Qt.CursorShape.CrossCursor)
        self._overlay.show_path(
            [view.to_canvas(each) for each in self._path],
            None if self._tip is None else view.to_canvas(self._tip),
            self.tool,
            width=2 * self.radius_px if self.tool.is_round else 1.0,
            color=self.color,
        )

    def close(self) -> None:
        """Leave the mouse to napari, and show nothing more."""
        self.take_up(None)
        self._canvas.removeEventFilter(self)

    # -- the hand ------------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Take the left button while a tool is taken up."""
        if self.tool is None or not self.tool.draws or self._held or event is None:
            return False
        if event.type() == QEvent.Type.Leave:
            self._tip = None
            self.follow()
        if not isinstance(event, QMouseEvent):
            return False
        view = self._view()
        if view is None:
            return False
        x, y = event.position().x(), event.position().y()
        at, left = view.to_slide(x, y), event.button() == Qt.MouseButton.LeftButton
        if event.type() == QEvent.Type.MouseMove:
            return self._on_move(view, at)
        if event.type() == QEvent.Type.MouseButtonPress and left:
            self._on_press(view, at)
            return True
        if event.type() == QEvent.Type.MouseButtonDblClick and left:
            if not self.finish():
                # Of two quick clicks, the second is one as well.
                self._on_press(view, at)
            return True
        if event.type() == QEvent.Type.MouseButtonRelease and left:
            self._on_release(view, at)
            return True
        return False

    def _on_press(self, view: ViewTransform, at: Point) -> None:
        if self.tool is Tool.POLYGON:
            if len(self._path) > 2 and at.distance(self._path[0]) <= _CLOSES_PX * view.px:
                self._emit()
                return
            self._path.append(at)
        else:
            self._path, self._pressed = [at], True
        self._tip = at
        self.follow()

    def _on_move(self, view: ViewTransform, at: Point) -> bool:
        self._tip = at
        if self._pressed and at.distance(self._path[-1]) >= _STEP_PX * view.px:
            if self.tool in (Tool.SPLIT, Tool.JOIN, Tool.POINT):
                # Straight, from where it began.
                self._path = [self._path[0], at]
            else:
                self._path.append(at)
        self.follow()
        # napari would move the slide.
        return self._pressed

    def _on_release(self, view: ViewTransform, at: Point) -> None:
        if not self._pressed:
            return
        length = sum(one.distance(other) for one, other in zip(self._path, [*self._path[1:], at], strict=True))
        is_click = length / view.px < _STILL_PX
        if self.tool is not None and not self.tool.is_round and self.tool is not Tool.POINT and is_click:
            self.drop()
            return
        self._on_move(view, at)
        self._emit()

    def _emit(self) -> None:
        tool, path = self.tool, self._path
        self._path, self._pressed = [], False
        self.follow()
        places = np.array([(each.x, each.y) for each in path], np.float64).reshape(-1, 2)
        self.drawn.emit(tool, places)
