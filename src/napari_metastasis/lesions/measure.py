"""How large a lesion is."""

from __future__ import annotations

from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["SizeClass", "lengths", "size_class"]

SizeClass = Literal["itc", "micro", "macro"]

#: Longest diameters in mm, inclusive, of isolated tumour cells and of micro-metastases (AJCC).
_ITC_MM, _MICRO_MM = 0.2, 2.0

#: Hulls with more corners than this are measured one by one, the others together.
_FEW_CORNERS = 64


def size_class(length_mm: float) -> SizeClass:
    """Return the AJCC class of a lesion by its longest diameter, in mm."""
    if length_mm <= _ITC_MM:
        return "itc"
    return "micro" if length_mm <= _MICRO_MM else "macro"


def lengths(
    lesion: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], *, count: int
) -> NDArray[np.float64]:
    """Return the longest diameter of each lesion, in cells, between the outermost corners of its cells.

    This is the maximum Feret diameter of the union of the cells' squares; a single cell measures √2.

    Parameters
    ----------
    lesion, rows, columns
        (n,) each. Lesion, counted from 0, and place of cells; every corner of a lesion's convex hull has to be among
        them.
    count
        Number of lesions; each must have a cell.

    Returns
    -------
    (count,) float64.
    """
    ends = _row_ends(lesion, rows, columns)
    lesion, points = lesion[ends], np.column_stack((columns[ends], rows[ends])).astype(float)
    order = np.argsort(lesion, kind="stable")
    hulls = shapely.convex_hull(shapely.multipoints(points[order], indices=lesion[order]))
    corners, owner = shapely.get_coordinates(hulls, return_index=True)
    starts = np.searchsorted(owner, np.arange(count + 1))
    sizes = np.diff(starts)
    result = np.zeros(count)
    # Hulls of a similar number of corners share one array, filled up with copies of their first corner.
    for low, high in [(0, 8), (8, 16), (16, 32), (32, _FEW_CORNERS)]:
        chosen = np.flatnonzero((sizes > low) & (sizes <= high))
        for part in np.array_split(chosen, max(1, len(chosen) // 4096)):
            step = np.arange(high)
            index = starts[part, None] + np.where(step < sizes[part, None], step, 0)
            result[part] = _widest(corners[index])
    for large in np.flatnonzero(sizes > _FEW_CORNERS):
        result[large] = _widest(corners[None, starts[large] : starts[large + 1]])[0]
    return result


def _row_ends(lesion: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which cells are the first or the last of their lesion in their row."""
    order = np.lexsort((columns, rows, lesion))
    new = np.ones(len(order) + 1, dtype=bool)
    new[1:-1] = (np.diff(lesion[order]) != 0) | (np.diff(rows[order]) != 0)
    return order[new[:-1] | new[1:]]


def _widest(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest distance between the far corners of any two unit cells, for each (hulls, cells, 2) hull."""
    apart = np.abs(corners[:, :, None, :] - corners[:, None, :, :]) + 1
    return np.sqrt((apart**2).sum(axis=-1).max(axis=(1, 2)))
