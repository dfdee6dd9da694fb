"""The ruler: lines on a slide with their length, beside the limits of the size classes.

They are painted over the canvas and are no layer: nothing of them can be edited, moved or scanned by accident, their
lines are as thin at every zoom, and a pan repaints only where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from qtpy.QtCore import QEvent, QObject, QPointF, QRect, QRectF, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_corner import BACKGROUND, TEXT
from napari_metastasis._napari.canvas_overlay import CanvasOverlay
from napari_metastasis._napari.view_transform import ViewTransform
from napari_metastasis.geometry import Point

__all__ = ["Measured", "RulerOverlay", "RulerTool"]

#: Width of a line and of the light line under it, and half the length of the marks at its ends, on the screen.
_LINE_PX, _HALO_PX, _END_PX = 2.0, 4.5, 7.0
#: A shorter drag is a click.
_SHORTEST_PX = 3.0
#: A rectangle that is repainted reaches so far past what is drawn.
_SLACK_PX = 4
_PADDING_PX, _CROSS_PX = 5.0, 16.0


def _classes() -> ModuleType:
    """Return the limits and colours of the size classes; their room takes too long to import before it is needed."""
    from napari_metastasis.lesions import size_classes

    return size_classes


def _color(length_mm: float) -> QColor:
    """Return the colour of the class that a lesion of this length has."""
    classes = _classes()
    return QColor(*classes.SIZE_CLASSES[classes.size_class(length_mm)].rgb)


@dataclass(frozen=True, slots=True)
class Measured:
    """A line on a slide.

    Attributes
    ----------
    start, end
        In level-0 pixels.
    mpp
        Of the slide, µm per level-0 pixel.
    """

    start: Point
    end: Point
    mpp: float

    @property
    def length_um(self) -> float:
        """Return the length in µm."""
        return self.start.distance(self.end) * self.mpp

    @property
    def length_text(self) -> str:
        """Return the length for a person: µm below one millimetre, else mm."""
        um = self.length_um
        return f"{um:.0f} µm" if round(um) < 1000 else f"{um / 1000:.2f} mm"

    @property
    def limit_text(self) -> str:
        """Return where the length lies among the limits of the size classes: "≤ 0.2 mm", "≤ 2 mm", "> 2 mm"."""
        limits = _classes().LIMITS_MM
        limit = next((limit for limit in limits if self.length_um <= limit * 1000), None)
        return f"> {limits[-1]:g} mm" if limit is None else f"≤ {limit:g} mm"

    @property
    def text(self) -> str:
        """Return what stands beside the line."""
        return f"{self.length_text}  ({self.limit_text})"

    @property
    def color(self) -> QColor:
        """Return the colour of the class that a lesion of this length has."""
        return _color(self.length_um / 1000)


class RulerOverlay(CanvasOverlay):
    """Paints the lines of the slide that is shown. The mouse goes through it to the slide.

    Parameters
    ----------
    canvas
        What napari draws in.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._view: ViewTransform | None = None
        self._lines: tuple[Measured, ...] = ()
        self._drawn: Measured | None = None
        self._painted = QRect()

    def show_lines(self, view: ViewTransform | None, lines: tuple[Measured, ...], drawn: Measured | None) -> None:
        """Paint lines, and the one that is being drawn, where the view shows them."""
        self._view, self._lines, self._drawn = view, lines, drawn
        there = view is not None and bool(lines or drawn)
        if not there:
            self._painted = QRect()
            self.hide()
            return
        self.cover()
        before, self._painted = self._painted, self._bounds()
        self.update(before.united(self._painted))

    def cross_at(self, x: float, y: float) -> Measured | None:
        """Return the line whose × lies at a canvas pixel."""
        if self._view is None:
            return None
        return next((line for line in reversed(self._lines) if self.cross_rect(line).contains(QPointF(x, y))), None)

    def cross_rect(self, line: Measured) -> QRectF:
        """Return where the × of a line lies on the canvas."""
        label = self._label_rect(line)
        return QRectF(label.right() - _CROSS_PX - 1, label.top(), _CROSS_PX, label.height())

    def _ends(self, line: Measured) -> tuple[QPointF, QPointF]:
        assert self._view is not None
        return QPointF(*self._view.to_canvas(line.start)), QPointF(*self._view.to_canvas(line.end))

    def _label_rect(self, line: Measured) -> QRectF:
        """Return the label's place: beside the end that lies further right, inside the canvas while the line is."""
        start, end = self._ends(line)
        at = max(start, end, key=lambda point: point.x())
        metrics = QFontMetricsF(self.font())
        width = metrics.horizontalAdvance(line.text) + 2 * _PADDING_PX + _CROSS_PX
        height = metrics.height() + _PADDING_PX
        label = QRectF(at.x() + _END_PX + 2, at.y() - height / 2, width, height)
        canvas = QRectF(self.rect())
        if QRectF(start, end).normalized().adjusted(-1, -1, 1, 1).intersects(canvas):
            label.moveLeft(max(canvas.left(), min(label.left(), canvas.right() - width)))
            label.moveTop(max(canvas.top(), min(label.top(), canvas.bottom() - height)))
        return label

    def _bounds(self) -> QRect:
        """Return the rectangle around all that is painted."""
        bounds = QRectF()
        for line in (*self._lines, *((self._drawn,) if self._drawn else ())):
            reach = _END_PX + _HALO_PX
            ends = QRectF(*self._ends(line)).normalized().adjusted(-reach, -reach, reach, reach)
            bounds = bounds.united(ends).united(self._label_rect(line))
        if self._drawn is not None:
            # The circles, whose captions lie on them.
            bounds = bounds.united(self._circle(self._drawn, _classes().LIMITS_MM[-1]).adjusted(-1, -20, 1, 20))
        slack = QRectF(bounds).adjusted(-_SLACK_PX, -_SLACK_PX, _SLACK_PX, _SLACK_PX)
        # Cut first: far outside, a line's ends do not fit Qt's whole numbers.
        return slack.intersected(QRectF(self.rect())).toAlignedRect()

    def _circle(self, line: Measured, radius_mm: float) -> QRectF:
        assert self._view is not None
        radius = radius_mm * 1000 / line.mpp / self._view.px
        center = self._ends(line)[0]
        return QRectF(center.x() - radius, center.y() - radius, 2 * radius, 2 * radius)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint the lines."""
        if self._view is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._drawn is not None:
            self._paint_limits(painter, self._drawn)
        for line in self._lines:
            self._paint(painter, line, closes=True)
        if self._drawn is not None:
            self._paint(painter, self._drawn, closes=False)
        painter.end()

    def _paint_limits(self, painter: QPainter, line: Measured) -> None:
        """Paint circles around a line's start: what ends inside lies within the limit."""
        canvas = math.hypot(self.width(), self.height())
        for limit in _classes().LIMITS_MM:
            circle = self._circle(line, limit)
            if not 6 < circle.width() < 4 * canvas:
                continue  # too small to be seen, or too far out
            color = _color(limit)
            for pen in (QPen(QColor(255, 255, 255, 200), 3.5), QPen(color, 1.6, Qt.PenStyle.DashLine)):
                painter.setPen(pen)
                painter.drawEllipse(circle)
            caption = f"{limit:g} mm"
            metrics = QFontMetricsF(self.font())
            width = metrics.horizontalAdvance(caption) + 2 * _PADDING_PX
            box = QRectF(circle.center().x() - width / 2, circle.top() - metrics.height() / 2, width, metrics.height())
            _paint_box(painter, box)
            painter.setPen(QColor(*TEXT))
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, caption)

    def _paint(self, painter: QPainter, line: Measured, *, closes: bool) -> None:
        start, end = self._ends(line)
        length = math.hypot(end.x() - start.x(), end.y() - start.y())
        if length > 0:
            across = QPointF(-(end.y() - start.y()) / length * _END_PX, (end.x() - start.x()) / length * _END_PX)
            for pen in (QPen(QColor(255, 255, 255, 210), _HALO_PX), QPen(line.color, _LINE_PX)):
                painter.setPen(pen)
                painter.drawLine(start, end)
                for at in (start, end):
                    painter.drawLine(at - across, at + across)
        label = self._label_rect(line)
        _paint_box(painter, label)
        painter.fillRect(QRectF(label.left(), label.top() + 2, 3, label.height() - 4), line.color)
        painter.setPen(QColor(*TEXT))
        inside = label.adjusted(_PADDING_PX + 2, 0, -_CROSS_PX, 0)
        painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, line.text)
        if closes:
            painter.drawText(self.cross_rect(line), Qt.AlignmentFlag.AlignCenter, "×")


def _paint_box(painter: QPainter, box: QRectF) -> None:
    """Paint what text is read on."""
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(*BACKGROUND))
    painter.drawRoundedRect(box, 3, 3)
    painter.setBrush(Qt.BrushStyle.NoBrush)


class RulerTool(QObject):
    """Draws lines with the mouse while it is taken up, and takes lines away whose × is clicked.

    Parameters
    ----------
    canvas
        What napari draws in, and what gets the mouse.
    view
        Returns where the canvas lies on the slide that is shown, and its µm per pixel; ``None`` where none is shown.
    """

    def __init__(self, canvas: QWidget, view: Callable[[], tuple[ViewTransform, float] | None]) -> None:
        super().__init__(canvas)
        self._view = view
        self._overlay = RulerOverlay(canvas)
        self._lines: list[Measured] = []
        self._start: Point | None = None
        self._drawn: Measured | None = None
        self._taken = False
        self._cursor = canvas.cursor()
        canvas.installEventFilter(self)

    @property
    def lines(self) -> tuple[Measured, ...]:
        """Return the lines of the slide that is shown, the latest last."""
        return tuple(self._lines)

    @property
    def overlay(self) -> RulerOverlay:
        """Return what paints them."""
        return self._overlay

    def show_lines(self, lines: list[Measured]) -> None:
        """Show the lines of another slide. The list is kept, and changed as lines come and go."""
        self._lines, self._start, self._drawn = lines, None, None
        self.follow()

    def take_up(self, taken: bool) -> None:
        """Let drags draw lines, or leave the mouse to napari."""
        if taken == self._taken:
            return
        self._taken, self._start, self._drawn = taken, None, None
        if taken:
            self._cursor = self._overlay.parentWidget().cursor()
        else:
            self._overlay.parentWidget().setCursor(self._cursor)
        self.follow()

    def remove_last(self) -> None:
        """Take the latest line away."""
        if self._lines:
            self._lines.pop()
            self.follow()

    def remove_all(self) -> None:
        """Take all lines of this slide away."""
        self._lines.clear()
        self.follow()

    def follow(self) -> None:
        """Paint the lines where the view shows them now."""
        if self._taken:
            # napari shows its own cursor again at every step of a zoom.
            self._overlay.parentWidget().setCursor(Qt.CursorShape.CrossCursor)
        view = self._view()
        self._overlay.show_lines(None if view is None else view[0], self.lines, self._drawn)

    def close(self) -> None:
        """Leave the mouse to napari, and show nothing more."""
        self.take_up(False)
        self.show_lines([])

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Take the left button while the ruler is taken up, and clicks on a ×."""
        if not isinstance(event, QMouseEvent):
            return False
        view = self._view()
        if view is None:
            return False
        x, y = event.position().x(), event.position().y()
        kind, left = event.type(), event.button() == Qt.MouseButton.LeftButton
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick) and left:
            return self._on_press(view, x, y)
        if self._start is None:
            return False
        if kind == QEvent.Type.MouseMove:
            self._drawn = Measured(self._start, view[0].to_slide(x, y), view[1])
            self.follow()
            return True
        if kind == QEvent.Type.MouseButtonRelease and left:
            line = Measured(self._start, view[0].to_slide(x, y), view[1])
            self._start = self._drawn = None
            if line.length_um / line.mpp / view[0].px >= _SHORTEST_PX:
                self._lines.append(line)
            self.follow()
            return True
        return False

    def _on_press(self, view: tuple[ViewTransform, float], x: float, y: float) -> bool:
        crossed = self._overlay.cross_at(x, y)
        if crossed is not None:
            self._lines.remove(crossed)
            self.follow()
            return True
        if self._taken:
            self._start = view[0].to_slide(x, y)
        return self._taken
