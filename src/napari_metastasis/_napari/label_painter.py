"""Updates a labels layer a few milliseconds at a time, so that the window never waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject

from napari_metastasis._napari.compat import draw_now, redraw_labels, unrefreshed
from napari_metastasis._napari.timers import single_shot
from napari_metastasis.geometry import Point, Region, sparse_zeros

if TYPE_CHECKING:
    from napari.layers import Labels

__all__ = ["LabelPainter"]

LabelArray = npt.NDArray[np.int32]

#: Side of the squares that are compared and drawn, in cells: one takes napari about 2 ms.
_SQUARE = 256
#: How long one turn may draw, and how long the window then has for itself. A frame of 60 a second lasts 17 ms.
_TURN_S, _PAUSE_MS = 0.006, 10


class LabelPainter(QObject):
    """Keeps a labels layer in step with an array of labels.

    napari draws all labels anew when they are replaced: a quarter of a second for ten million, twice with asynchronous
    slicing. The layer therefore has an array of its own. Of the squares where the labels may have changed, those that
    did are copied and drawn, the nearest to the middle of the window first, in short turns of the GUI thread. The first
    turn comes at once: a small change is there when :meth:`show` returns.

    Parameters
    ----------
    layer
        Holds zeros, drawn without contours; from the first labels on it is drawn by outlines.
    contour
        Width of the outlines, in cells.
    """

    def __init__(self, layer: Labels, *, contour: int) -> None:
        super().__init__()
        self.layer = layer
        self._shown: LabelArray = layer.data
        self._whole = Region(0, 0, self._shown.shape[1], self._shown.shape[0])
        self._source: LabelArray = layer.data
        self._contour = contour
        self._outlined = False
        self._waiting: list[Region] = []
        self._undrawn: list[Region] = []
        layer.events.visible.connect(self._on_visible)
        self._timer = single_shot(self, _PAUSE_MS, self._turn)

    @property
    def done(self) -> bool:
        """Return whether the layer shows the labels as they are."""
        return not self._waiting and not self._undrawn

    def show(self, labels: LabelArray, changed: Iterable[Region]) -> None:
        """Show ``labels`` on the layer. While that is hidden it holds ``labels`` themselves, which costs nothing.

        Parameters
        ----------
        labels
            int32, of the layer's shape. Later turns read it, too: after rewriting it, call this again.
        changed
            Where ``labels`` changed since the last call, in cells. Ignored where it is another array.
        """
        if not self.layer.visible:
            self._source = labels
            self._hold(labels)
            return
        if labels is not self._source:
            self._source = labels
            changed = (self._whole,)
        self._waiting = self._nearest_last({*self._waiting, *(cut for part in changed for cut in part.split(_SQUARE))})
        if self._waiting:
            self._turn()

    def _hold(self, labels: LabelArray) -> None:
        """Let the layer have labels, which it does not draw yet."""
        self._waiting.clear()
        self._undrawn.clear()
        self._timer.stop()
        if self.layer.data is not labels:
            with unrefreshed(self.layer):
                self.layer.data = labels
        self._shown = labels

    def _on_visible(self, _: object) -> None:
        if self.layer.visible and self._shown is self._source:
            # From here on what is drawn is a copy, which changes square by square while the labels move on.
            drawn = sparse_zeros(self._source.shape, np.int32)
            for square in self._whole.split(_SQUARE):
                labels = self._source[square.slices]
                np.copyto(drawn[square.slices], labels, where=labels != 0)
            self._hold(drawn)
            with unrefreshed(self.layer):
                self.layer.contour = self._contour
            self._outlined = True
            draw_now(self.layer)
        elif not self.layer.visible:
            self._hold(self._source)

    def stop(self) -> None:
        """Draw no more: the layer is going away."""
        self.layer.events.visible.disconnect(self._on_visible)
        self._timer.stop()
        self._waiting.clear()
        self._undrawn.clear()

    def _turn(self) -> None:
        """Copy and draw the next squares, until the turn is over."""
        self._timer.stop()
        until = time.perf_counter() + _TURN_S
        while self._waiting and time.perf_counter() < until:
            part = _copy_differences(self._source, self._shown, self._waiting.pop())
            if part is not None:
                self._undrawn.append(part)
                self._draw()
        self._draw()
        if not self.done:
            self._timer.start()

    def _nearest_last(self, squares: set[Region]) -> list[Region]:
        """Return squares in the order in which they are popped: those in the middle of the window come first."""
        y, x = self.layer.corner_pixels[:, -2:].mean(axis=0)
        middle = Point(float(x), float(y))
        return sorted(squares, key=lambda square: (square.center.distance(middle), square.y, square.x), reverse=True)

    def _draw(self) -> None:
        layer = self.layer
        if not self._undrawn or (layer.visible and not layer.loaded):
            return  # not loaded: the zeros are still being taken in, and the next turn asks again
        if not self._outlined:
            # Not drawn anew for that: of zeros no outline would be seen.
            with unrefreshed(layer):
                layer.contour = self._contour
            self._outlined = True
        # Whether a cell is part of an outline depends on its neighbours.
        parts = [part.grown(max(1, int(layer.contour))).intersection(self._whole) for part in self._undrawn]
        self._undrawn.clear()
        # Hidden, all of it is drawn when it is shown again.
        if layer.visible and not all(redraw_labels(layer, part) for part in parts):
            draw_now(layer)


def _copy_differences(source: LabelArray, shown: LabelArray, square: Region) -> Region | None:
    """Copy what differs within a square; return the rectangle around it, ``None`` where nothing does."""
    differs = source[square.slices] != shown[square.slices]
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    part = Region(square.x + left, square.y + top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)
    shown[part.slices] = source[part.slices]
    return part
