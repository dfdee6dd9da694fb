"""Sums over any rectangle of an array in four look-ups (Crow 1984: summed-area tables)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SummedArea"]

IntArray = NDArray[np.integer[Any]]


class SummedArea:
    """Counts of a mask's cells in any number of rectangles.

    Rectangles are half-open, ``start .. stop`` along either axis, and must lie on the mask.

    Parameters
    ----------
    mask
        (rows, columns) bool, of fewer than 2^31 cells.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self._sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
        np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=self._sums[1:, 1:])

    def count(
        self, row_start: IntArray, column_start: IntArray, row_stop: IntArray, column_stop: IntArray
    ) -> NDArray[np.int32]:
        """Return the cells in each of many rectangles; the arrays broadcast."""
        sums = self._sums
        return (
            sums[row_stop, column_stop]
            - sums[row_start, column_stop]
            - sums[row_stop, column_start]
            + sums[row_start, column_start]
        )

    def count_grid(self, rows: IntArray, columns: IntArray) -> NDArray[np.int32]:
        """Return the cells in every rectangle of a grid, (n, m).

        Parameters
        ----------
        rows, columns
            (n, 2) and (m, 2): where each row and each column of rectangles starts and stops.
        """
        # Rows first: they lie whole in memory.
        down = self._sums[rows[:, 1]] - self._sums[rows[:, 0]]
        across: NDArray[np.int32] = down[:, columns[:, 1]] - down[:, columns[:, 0]]
        return across
