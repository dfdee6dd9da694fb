"""Small widgets that lie in the corners of the canvas, over the slide."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QWidget

__all__ = ["BACKGROUND", "MARGIN_PX", "TEXT", "keep_in_corner"]

#: Between a widget and the edge of the canvas, and between two of them.
MARGIN_PX = 10
#: Red, green, blue and opacity of their background and their text: over the slide, whatever napari's theme is.
BACKGROUND = (28, 30, 34, 215)
TEXT = (240, 240, 240)


class _Corner(QObject):
    """Keeps a widget in a corner of its parent."""

    def __init__(self, widget: QWidget, corner: Qt.Corner, above_px: int) -> None:
        super().__init__(widget)
        self._widget, self._corner, self._above = widget, corner, above_px
        widget.installEventFilter(self)
        widget.parentWidget().installEventFilter(self)
        self._place()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Follow both sizes."""
        if event is not None and event.type() == QEvent.Type.Resize:
            self._place()
        return False

    def _place(self) -> None:
        widget, canvas = self._widget, self._widget.parentWidget()
        right = self._corner in (Qt.Corner.TopRightCorner, Qt.Corner.BottomRightCorner)
        bottom = self._corner in (Qt.Corner.BottomLeftCorner, Qt.Corner.BottomRightCorner)
        x = canvas.width() - widget.width() - MARGIN_PX if right else MARGIN_PX
        y = canvas.height() - widget.height() - MARGIN_PX - self._above if bottom else MARGIN_PX + self._above
        widget.move(x, y)


def keep_in_corner(widget: QWidget, corner: Qt.Corner, *, above_px: int = 0) -> None:
    """Keep a widget in a corner of its parent, whichever of them changes its size.

    Parameters
    ----------
    widget
        A child of the canvas.
    corner
        Where.
    above_px
        Room that is left to the edge above or below it, for others.
    """
    _Corner(widget, corner, above_px)
