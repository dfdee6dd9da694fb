"""What a person's hands do to a window, and what the eyes see of a widget."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

__all__ = ["click", "drag", "painted_by", "pixels_of"]


def click(widget: QWidget) -> None:
    """Click the middle of a widget."""
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def drag(canvas: QWidget, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the left button from one pixel (x, y) to another."""
    first, last = (QPoint(*(round(value) for value in place)) for place in (start, end))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=first)
    for share in (0.3, 0.7, 1.0):
        QTest.mouseMove(canvas, first + (last - first) * share)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=last)


def pixels_of(widget: QWidget) -> npt.NDArray[np.int_]:
    """Return what is seen of a widget, (rows, columns, 4) as red, green, blue and opacity."""
    return _pixels(widget.grab().toImage()).astype(int)


def painted_by(widget: QWidget) -> npt.NDArray[np.uint8]:
    """Return what a widget paints itself, over nothing, (rows, columns, 4) as red, green, blue and opacity."""
    image = QImage(widget.size(), QImage.Format.Format_ARGB32)
    image.fill(0)
    widget.render(image, flags=widget.RenderFlag.DrawChildren)
    return _pixels(image)


def _pixels(image: QImage) -> npt.NDArray[np.uint8]:
    image = image.convertToFormat(QImage.Format.Format_RGBA8888)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4).copy()
