"""What is painted over the canvas and is no layer: it costs no more than its own pixels."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

__all__ = ["CanvasOverlay"]


class CanvasOverlay(QWidget):
    """Lies over the canvas, seen through where nothing is painted. The mouse goes through it to the slide.

    Parameters
    ----------
    canvas
        What napari draws in.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.hide()

    def cover(self) -> None:
        """Show it over the canvas, as large as that is now."""
        self.setGeometry(self.parentWidget().rect())
        self.show()
