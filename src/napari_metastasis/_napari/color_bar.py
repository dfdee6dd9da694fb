"""The legend on the canvas: the colours of probabilities from 0 to 1, the threshold, and the size classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QBrush, QColor, QFontMetricsF, QLinearGradient, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_corner import BACKGROUND, TEXT, keep_in_corner
from napari_metastasis._napari.colors import map_colormap

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession

__all__ = ["ColorBar"]

_WIDTH_PX, _BAR_PX, _PADDING_PX = 230, 12, 9
#: Room below for napari's scale bar.
_SCALE_BAR_PX = 44
_STOPS = 33
#: Below the threshold nothing is drawn on the slide.
_HIDDEN = QColor(28, 30, 34, 190)


class ColorBar(QWidget):
    """Says what the colours over the slide mean. The mouse goes through it to the slide.

    Parameters
    ----------
    canvas
        What napari draws in.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("metastasis-color-bar")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._wanted = True
        self._colors, self._threshold = "", 0.0
        line = QFontMetricsF(self.font()).height()
        # A title, the bar, its numbers, the classes.
        self._line = line
        self.setFixedSize(_WIDTH_PX, round(3 * line + _BAR_PX + 2 * _PADDING_PX + 14))
        keep_in_corner(self, Qt.Corner.BottomRightCorner, above_px=_SCALE_BAR_PX)
        self.hide()

    @property
    def threshold(self) -> float:
        """Return the threshold that is marked."""
        return self._threshold

    def switch(self, wanted: bool, session: SlideSession | None) -> None:
        """Show the legend where there is heat, or hide it."""
        self._wanted = wanted
        self.follow(session)

    def follow(self, session: SlideSession | None) -> None:
        """Show the colours and the threshold of a slide; hide where nothing was scanned."""
        shown = None if session is None else session.heatmap
        if session is None or shown is None or not self._wanted:
            self.hide()
            return
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
        painter.drawText(title, Qt.AlignmentFlag.AlignLeft, "Tumour probability")
        painter.drawText(title, Qt.AlignmentFlag.AlignRight, f"from {self._threshold:.2f}")
        painter.fillRect(bar, QBrush(self._gradient()))
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
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(text)
        numbers = QRectF(bar.left(), bar.bottom() + 6, bar.width(), self._line)
        painter.drawText(numbers, Qt.AlignmentFlag.AlignLeft, "0")
        painter.drawText(numbers, Qt.AlignmentFlag.AlignRight, "1")
        self._paint_classes(painter, numbers.bottom() + 2)
        painter.end()

    def _gradient(self) -> QLinearGradient:
        """Return the colours of all probabilities; on the slide, tissue shines through them."""
        bar = self.bar_rect
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        stops = np.linspace(0, 1, _STOPS)
        colors = map_colormap(self._colors, 0.0, scanning=False).map(stops)
        for stop, (red, green, blue, _) in zip(stops.tolist(), colors.tolist(), strict=True):
            gradient.setColorAt(stop, QColor.fromRgbF(red, green, blue))
        return gradient

    def _paint_classes(self, painter: QPainter, top: float) -> None:
        """Paint a line of each class' colour with its name."""
        from napari_metastasis.lesions import SIZE_CLASSES

        step = (self.width() - 2 * _PADDING_PX) / len(SIZE_CLASSES)
        for place, style in enumerate(SIZE_CLASSES.values()):
            left = _PADDING_PX + place * step
            line = QRectF(left, top + self._line / 2 - 4, 16, 8)
            painter.setPen(QPen(QColor(255, 255, 255), 1))
            painter.setBrush(QColor(*style.rgb))
            painter.drawRect(line)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QColor(*TEXT))
            name = QRectF(left + 21, top, step - 21, self._line)
            painter.drawText(name, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, style.short)
