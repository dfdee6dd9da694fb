"""What of a slide was looked at closely, as a coarse mask. No Qt, no napari."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Point, Region, Size

__all__ = ["CLOSE", "LookedAt"]

#: Magnification from which a look counts: cells can be told apart.
CLOSE = 10.0
#: Cells along the longer side of a slide: one is a third of a screen at 40x on the largest of slides.
_CELLS = 512


class LookedAt:
    """Where on a slide somebody looked.

    Parameters
    ----------
    size
        Of the slide's level 0, in pixels.

    Attributes
    ----------
    cell_px
        Side of a cell in level-0 pixels; cell (0, 0) begins in the slide's corner.
    mask
        bool of shape (rows, columns): which cells were looked at.
    """

    def __init__(self, size: Size) -> None:
        self.cell_px = max(1.0, max(size.width, size.height) / _CELLS)
        self._size = size
        self.mask: npt.NDArray[np.bool_] = np.zeros(
            (math.ceil(size.height / self.cell_px), math.ceil(size.width / self.cell_px)), np.bool_
        )

    def mark(self, view: Region) -> bool:
        """Mark what a view shows; return whether any of it is new.

        A cell counts where its middle is shown, so that no edge is claimed that was hardly seen; the cell in the
        view's middle always does.

        Parameters
        ----------
        view
            In level-0 pixels; it may reach past the slide.
        """
        inside = view.intersection(Region.of(self._size))
        if inside.is_empty:
            return False
        part = (self._middles(inside.y, inside.bottom), self._middles(inside.x, inside.right))
        before = int(self.mask.sum())
        self.mask[part] = True
        row, column = self.cell_of(inside.center)
        self.mask[row, column] = True
        return int(self.mask.sum()) > before

    def cell_of(self, point: Point) -> tuple[int, int]:
        """Return (row, column) of the cell that a level-0 location on the slide lies in."""
        rows, columns = self.mask.shape
        return min(int(point.y // self.cell_px), rows - 1), min(int(point.x // self.cell_px), columns - 1)

    def _middles(self, first: float, last: float) -> slice:
        """Return the cells along an axis whose middles lie in ``first .. last``."""
        return slice(max(0, math.ceil(first / self.cell_px - 0.5)), max(0, math.floor(last / self.cell_px - 0.5) + 1))
