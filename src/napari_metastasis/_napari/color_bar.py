"""The legend on the canvas: the colours of probabilities from 0 to 1, the threshold, the size classes and the marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QBrush, QColor, QFontMetricsF, QLinearGradient, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_corner import BACKGROUND, TEXT, keep_in_corner
from napari_metastasis._napari.colors import change_colormap, map_colormap
from napari_metastasis._napari.drawn_looks import line_look
from napari_metastasis._napari.layers import MINED_COLOR, RING_COLOR
from napari_metastasis._napari.mitosis_marks import MITOSIS_COLOR
from napari_metastasis._napari.veil import STRIPE_COLOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_metastasis._napari.session import SlideSession

__all__ = ["CHANGE_MARK", "ColorBar"]

_WIDTH_PX, _BAR_PX, _PADDING_PX = 230, 12, 9
#: Room below for napari's scale bar.
_SCALE_BAR_PX = 44
_STOPS = 33
_SWATCH_PX, _NAME_PX = 16, 21
#: Dashes of broken lines, and the gaps between them: a swatch shows two.
_DASHES_PX = 6.0, 4.0
#: What lies over a slide beside heat and outlines, by the names of :attr:`SlideLayers.marks`.
_MARKS = {
    "veil": "Tissue that was not scanned",
    "detections": "Where the probability peaks",
    "mined": "Mined place",
    "mitoses": "Mitosis",
    "rejected": "Rejected or ignored",
    "tumour": "Drawn: tumour",
    "normal": "Drawn: normal",
    "ignore": "Drawn: to ignore",
}
#: Among these marks: what changed between two results is drawn in place of probabilities.
CHANGE_MARK = "change"
_CHANGE_TITLE = "What changed"
#: Below the threshold nothing is drawn on the slide.
_HIDDEN = QColor(28, 30, 34, 190)


class ColorBar(QWidget):
    """Says what the colours over the slide mean. The mouse goes through it to the slide.

    Parameters
    ----------
    canvas
        What napari draws in.

    Attributes
    ----------
    wanted
        Whether it is shown where there is heat.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("metastasis-color-bar")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.wanted = True
        self._colors, self._threshold = "", 0.0
        self._marks: tuple[str, ...] = ()
        self._is_change = False
        self._made: tuple[tuple[bool, str, QRectF], QLinearGradient] | None = None
        line = QFontMetricsF(self.font()).height()
        self._line = line
        self._fit()
        keep_in_corner(self, Qt.Corner.BottomRightCorner, above_px=_SCALE_BAR_PX)
        self.hide()

    @property
    def threshold(self) -> float:
        """Return the threshold that is marked."""
        return self._threshold

    @property
    def marks(self) -> tuple[str, ...]:
        """Return what is said of the marks, a line each."""
        return tuple(_MARKS[name] for name in self._marks)

    @property
    def title(self) -> str:
        """Return what the colours are of."""
        return _CHANGE_TITLE if self._is_change else "Tumour probability"

    def _fit(self) -> None:
        """Take room for a title, the bar, its numbers, the classes, and a line for each mark."""
        lines = (3 + len(self._marks)) * self._line + 2 * len(self._marks)
        self.setFixedSize(_WIDTH_PX, round(lines + _BAR_PX + 2 * _PADDING_PX + 14))

    def follow(self, session: SlideSession | None, marks: Sequence[str]) -> None:
        """Show the colours and the threshold of a slide, and the marks on it; hide where nothing was scanned."""
        shown = None if session is None else session.heatmap
        if session is None or shown is None or not self.wanted:
            self.hide()
            return
        others = tuple(name for name in marks if name != CHANGE_MARK)
        if (others, CHANGE_MARK in marks) != (self._marks, self._is_change):
            self._marks, self._is_change = others, CHANGE_MARK in marks
            self._fit()
            self.update()
        now = shown.kind.colors, session.threshold
        if now != (self._colors, self._threshold):
            self._colors, self._threshold = now
            self.update()
        self.show()

    @property
    def bar_rect(self) -> QRectF:
        """Return where the colours lie: 0 at the left, 1 at the right."""
        top = _PADDING_PX + self._line + 4
        return QRectF(_PADDING_PX, top, self.width() - 2 * _PADDING_PX, _BAR_PX)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint the colours, the threshold's mark, and the classes."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(*BACKGROUND))
        painter.drawRoundedRect(QRectF(self.rect()), 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        text, bar = QColor(*TEXT), self.bar_rect
        painter.setPen(text)
        title = QRectF(bar.left(), _PADDING_PX, bar.width(), self._line)
        painter.drawText(title, Qt.AlignmentFlag.AlignLeft, self.title)
        painter.fillRect(bar, QBrush(self._gradient()))
        if self._is_change:
            painter.setPen(QPen(text, 1))
            painter.drawRect(bar)
        else:
            painter.drawText(title, Qt.AlignmentFlag.AlignRight, f"from {self._threshold:.2f}")
            self._paint_threshold(painter, bar)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(text)
        numbers = QRectF(bar.left(), bar.bottom() + 6, bar.width(), self._line)
        first, last = ("less tumour", "more tumour") if self._is_change else ("0", "1")
        painter.drawText(numbers, Qt.AlignmentFlag.AlignLeft, first)
        painter.drawText(numbers, Qt.AlignmentFlag.AlignRight, last)
        self._paint_classes(painter, numbers.bottom() + 2)
        for place, mark in enumerate(self._marks, start=1):
            self._paint_mark(painter, mark, numbers.bottom() + 2 + place * (self._line + 2))
        painter.end()

    def _paint_threshold(self, painter: QPainter, bar: QRectF) -> None:
        """Paint where the threshold lies, and that nothing is drawn below it."""
        text = QColor(*TEXT)
        at = bar.left() + bar.width() * self._threshold
        painter.fillRect(QRectF(bar.left(), bar.top(), at - bar.left(), bar.height()), _HIDDEN)
        painter.setPen(QPen(text, 1))
        painter.drawRect(bar)
        painter.setPen(QPen(text, 2))
        painter.drawLine(QPointF(at, bar.top() - 2), QPointF(at, bar.bottom() + 2))
        painter.setBrush(text)
        painter.setPen(Qt.PenStyle.NoPen)
        tip = bar.bottom() + 1
        painter.drawPolygon(QPolygonF([QPointF(at, tip), QPointF(at - 4, tip + 6), QPointF(at + 4, tip + 6)]))

    def _gradient(self) -> QLinearGradient:
        """Return the colours of all values; on the slide, tissue shines through them. They are made once."""
        bar = self.bar_rect
        made = self._is_change, self._colors, bar
        if self._made is not None and self._made[0] == made:
            return self._made[1]
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        stops = np.linspace(0, 1, _STOPS)
        shown = change_colormap() if self._is_change else map_colormap(self._colors, 0.0, scanning=False)
        colors = shown.map(stops)
        for stop, (red, green, blue, _) in zip(stops.tolist(), colors.tolist(), strict=True):
            gradient.setColorAt(stop, QColor.fromRgbF(red, green, blue))
        self._made = made, gradient
        return gradient

    def _paint_classes(self, painter: QPainter, top: float) -> None:
        """Paint a line of each class' colour with its name."""
        from napari_metastasis.lesions import SIZE_CLASSES

        step = (self.width() - 2 * _PADDING_PX) / len(SIZE_CLASSES)
        for place, style in enumerate(SIZE_CLASSES.values()):
            left = _PADDING_PX + place * step
            line = QRectF(left, top + self._line / 2 - 4, _SWATCH_PX, 8)
            painter.setPen(QPen(QColor(255, 255, 255), 1))
            painter.setBrush(QColor(*style.rgb))
            painter.drawRect(line)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            self._paint_name(painter, QRectF(left, top, step, self._line), style.short)

    def _paint_name(self, painter: QPainter, place: QRectF, name: str) -> None:
        painter.setPen(QColor(*TEXT))
        beside = place.adjusted(_NAME_PX, 0, 0, 0)
        painter.drawText(beside, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)

    def _paint_mark(self, painter: QPainter, mark: str, top: float) -> None:
        """Paint a mark as it lies over the tissue, with its name."""
        place = QRectF(_PADDING_PX, top, self.width() - 2 * _PADDING_PX, self._line)
        swatch = QRectF(place.left(), place.center().y() - _SWATCH_PX / 4, _SWATCH_PX, _SWATCH_PX / 2)
        painter.save()
        if mark == "veil":
            painter.setClipRect(swatch)
            painter.setPen(QPen(QColor.fromRgbF(*STRIPE_COLOR), 2.5))
            for x in range(round(swatch.left()) - 8, round(swatch.right()), 6):
                painter.drawLine(QPointF(x, swatch.top()), QPointF(x + swatch.height(), swatch.bottom()))
        elif mark not in ("detections", "mined", "mitoses"):
            red, green, blue, is_broken = line_look(mark)
            y = swatch.center().y()
            for pen in (QPen(QColor(255, 255, 255), 5), QPen(QColor(red, green, blue), 3)):
                if is_broken:
                    # As on the slide; in widths of the pen.
                    pen.setDashPattern([length / pen.widthF() for length in _DASHES_PX])
                    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
                painter.setPen(pen)
                painter.drawLine(QPointF(swatch.left(), y), QPointF(swatch.right(), y))
        else:
            square = QRectF(0, 0, 10, 10)
            square.moveCenter(swatch.center())
            if mark != "mined":
                painter.setPen(QPen(QColor(RING_COLOR if mark == "detections" else MITOSIS_COLOR), 2.5))
                painter.drawEllipse(square)
            else:
                painter.setPen(QPen(QColor(MINED_COLOR), 2.5))
                painter.drawRect(square)
        painter.restore()
        self._paint_name(painter, place, _MARKS[mark])
