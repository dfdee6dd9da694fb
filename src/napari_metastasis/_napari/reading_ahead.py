"""Reads what will be looked at next, while a person looks at what comes before it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_metastasis._napari.worker import ShouldStop, Worker

if TYPE_CHECKING:
    from napari_metastasis.geometry import Point
    from napari_metastasis.slides import Slide

__all__ = ["ReadingAhead", "read_work"]


class ReadingAhead(QObject):
    """Lets the tiles of one place at a time be read and kept, so that they are there when the view comes to it.

    Parameters
    ----------
    parent
        Qt parent.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._worker: Worker | None = None
        self._next: tuple[Slide, Point, float, float] | None = None

    @property
    def busy(self) -> bool:
        """Return whether something is being read."""
        return self._worker is not None

    def read(self, slide: Slide, middle: Point, *, across_px: float, px: float) -> None:
        """Read a place once what is being read is there; another one that waits is forgotten.

        Parameters
        ----------
        slide
            The open slide.
        middle
            Of the place, in level-0 pixels.
        across_px
            Its longer side, in level-0 pixels.
        px
            Level-0 pixels along a pixel of the window.
        """
        self._next = slide, middle, across_px, px
        if self._worker is None:
            self._begin()

    def _begin(self) -> None:
        wanted, self._next = self._next, None
        if wanted is None:
            return
        self._worker = Worker(partial(read_work, *wanted), name="read-ahead", parent=self)
        # What cannot be read is told when it is looked at.
        self._worker.ended.connect(self._on_ended)
        self._worker.start()

    def _on_ended(self) -> None:
        self._worker = None
        self._begin()

    def close(self) -> Worker | None:
        """Read no more; return the worker that is still at it."""
        self._next = None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abandon()
        return worker


def read_work(slide: Slide, middle: Point, across_px: float, px: float, should_stop: ShouldStop) -> None:
    """Read the pixels of a place, of the level that a window shows it from, and keep its tiles.

    Parameters
    ----------
    slide, middle, across_px, px
        As :meth:`ReadingAhead.read` takes them.
    """
    level = max((one for one in slide.levels if one.downsample <= max(px, 1.0)), key=lambda one: one.downsample)
    side = across_px / 2 / level.downsample
    x, y = middle.x / level.downsample, middle.y / level.downsample
    rows, columns = level.array.shape[:2]
    top, bottom = (round(min(max(edge, 0), rows)) for edge in (y - side, y + side))
    left, right = (round(min(max(edge, 0), columns)) for edge in (x - side, x + side))
    if not should_stop():
        level.array[top:bottom, left:right].compute(scheduler="synchronous")
