"""How long and how large lesions are."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist

__all__ = ["lengths", "longest_diameter"]

#: Hulls with more corners than this are measured one by one, the others together.
_FEW_CORNERS = 64


def lengths(
    lesion: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], *, count: int
) -> NDArray[np.float64]:
    """Return the longest diameter of each lesion, in cells, between the outermost corners of its cells.

    This is the maximum Feret diameter of the union of the cells' squares; a single cell measures √2.

    Parameters
    ----------
    lesion, rows, columns
        (n,) each. Lesion, counted from 0, and location of cells; every corner of a lesion's convex hull has to be among
        them.
    count
        Number of lesions; each must have a cell.

    Returns
    -------
    (count,) float64.
    """
    ends = _row_ends(lesion, rows, columns)
    cells = np.column_stack((columns[ends], rows[ends])).astype(float)
    return _longest_diameters(cells, lesion[ends], count=count, side=1.0)


def longest_diameter(points: ArrayLike) -> float:
    """Return the largest distance between any two of ``points``, an (n, 2) array, in its own unit."""
    points = np.asarray(points, dtype=np.float64)
    return float(_longest_diameters(points, np.zeros(len(points), dtype=np.intp), count=1, side=0.0)[0])


def _longest_diameters(
    points: NDArray[np.float64], owner: NDArray[np.intp], *, count: int, side: float
) -> NDArray[np.float64]:
    """Return the largest distance between any two points of each owner, in their own unit.

    Parameters
    ----------
    points
        (n, 2) of (x, y).
    owner
        (n,) whose each point is, counted from 0.
    count
        Number of owners; each must have a point.
    side
        Of the square that each point stands for; the far corners of two squares count.

    Returns
    -------
    (count,) float64.
    """
    order = np.argsort(owner, kind="stable")
    hulls = shapely.convex_hull(shapely.multipoints(points[order], indices=owner[order]))
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
            apart = np.abs(corners[index][:, :, None, :] - corners[index][:, None, :, :]) + side
            result[part] = np.sqrt((apart**2).sum(axis=-1).max(axis=(1, 2)))
    for large in np.flatnonzero(sizes > _FEW_CORNERS):
        x, y = (pdist(each[:, None]) + side for each in corners[starts[large] : starts[large + 1]].T)
        result[large] = np.sqrt((x**2 + y**2).max())
    return result


def _row_ends(lesion: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return which cells are the first or the last of their lesion in their row."""
    order = np.lexsort((columns, rows, lesion))
    new = np.ones(len(order) + 1, dtype=bool)
    new[1:-1] = (np.diff(lesion[order]) != 0) | (np.diff(rows[order]) != 0)
    return order[new[:-1] | new[1:]]
