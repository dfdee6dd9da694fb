"""What lies under the mouse: where on the slide, and how probable tumour is there, whichever layer is selected."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QLabel, QWidget

from napari_metastasis._napari.canvas_corner import BACKGROUND, TEXT, keep_in_corner
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.view_transform import ViewTransform
    from napari_metastasis.geometry import Point

__all__ = ["CursorLabel", "cursor_text"]


def cursor_text(session: SlideSession, point: Point) -> str:
    """Return what is known of a level-0 location, in one line; empty beside the slide."""
    slide = session.slide
    if not (0 <= point.x < slide.size.width and 0 <= point.y < slide.size.height):
        return ""
    mm = slide.mpp / 1000
    place = f"x {point.x * mm:.2f} mm, y {point.y * mm:.2f} mm"
    answer = _answer(session, point)
    return f"{place} · {answer}" if answer else place


def _answer(session: SlideSession, point: Point) -> str:
    """Return the probability that lesions are read from, of the cell at a location; empty before there is a map."""
    own = session.read_map
    if own is None:
        return ""
    from napari_metastasis.scanning import blend, read_from

    place = own.frame.cell_at(point)
    column, row = math.floor(place.x + 0.5), math.floor(place.y + 0.5)
    cell = Region(column, row, 1, 1)
    if not Region.of(own.frame.cells).contains(cell):
        return "not scanned"
    # A copy: one value, while the scan may go on writing.
    value = own.values[cell.slices].copy()
    if np.isnan(value[0, 0]):
        known = session.tissue_cells
        if known is None or known.shape != own.values.shape:
            return "not scanned"
        return "not scanned" if known[row, column] else "no tissue"
    if own.kind.stands_alone:
        return f"probability {value[0, 0]:.2f} ({own.kind.name})"
    answering = []
    for other in session.later_maps:
        share = session.share_of(other.kind.name)
        if other.kind.is_probability and share > 0 and not other.kind.stands_alone:
            near = cell.coarse(own.frame.block_in(other.frame))
            if not np.isnan(other.values[near.slices]).any():
                answering.append((other, share))
            value = blend(value, own.frame, other, share, cell)
    name = read_from(own, answering)
    source = "" if name == own.kind.name else f" ({name})"
    return f"probability {value[0, 0]:.2f}{source}"


class CursorLabel(QLabel):
    """A line in the canvas' bottom left corner, about what lies under the mouse.

    Parameters
    ----------
    canvas
        What napari draws in, and what gets the mouse.
    view
        Returns where the canvas lies on the slide that is shown; ``None`` where none is shown.
    session
        Returns the session of that slide.
    """

    def __init__(
        self, canvas: QWidget, view: Callable[[], ViewTransform | None], session: Callable[[], SlideSession | None]
    ) -> None:
        super().__init__(canvas)
        self._view, self._session = view, session
        self._at: tuple[float, float] | None = None
        self.setObjectName("metastasis-cursor")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setStyleSheet(
            f"QLabel {{ background: rgba{BACKGROUND}; color: rgb{TEXT}; border-radius: 3px; padding: 3px 6px; }}"
        )
        keep_in_corner(self, Qt.Corner.BottomLeftCorner)
        self.hide()
        canvas.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Follow the mouse over the canvas; nothing is taken from napari."""
        if isinstance(event, QMouseEvent):
            self._at = event.position().x(), event.position().y()
            self.follow()
        elif event is not None and event.type() == QEvent.Type.Leave:
            self.leave()
        return False

    def leave(self) -> None:
        """Show nothing: the mouse is not over the slide."""
        self._at = None
        self.follow()

    def follow(self) -> None:
        """Show what lies under the mouse now: the view or the map may have moved or grown under it."""
        view, session = self._view(), self._session()
        text = ""
        if self._at is not None and view is not None and session is not None:
            text = cursor_text(session, view.to_slide(*self._at))
        if text != self.text():
            self.setText(text)
            self.adjustSize()
        self.setVisible(bool(text))
