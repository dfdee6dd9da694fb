"""How long and how large lesions are."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import pdist

__all__ = ["LEAST_HEIGHT", "border_points", "joined", "longest_diameter", "longest_diameters", "mask_length"]

#: A cell at the very threshold is inside, and its line lies beside its centre: no lesion is a point.
LEAST_HEIGHT = np.float32(1 / 64)

#: Hulls with more corners than this are measured one by one, the others together.
_FEW_CORNERS = 64


def border_points(
    cells: NDArray[Any], heights: NDArray[np.float32], threshold: np.float32
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return where the contour of the interpolated heights passes between cells and their four neighbours.

    Every corner of a lesion's contour is among these points, so that the longest distance between two of them is its
    maximum Feret diameter. The squares of the cells are longer by up to a diagonal of one: 5 % of 0.2 mm.

    Parameters
    ----------
    cells
        (n,) numbers of cells at the threshold, row-major on ``heights``.
    heights
        (rows, columns) float32, ``-inf`` without an answer; there the line lies halfway.
    threshold
        Of the lesions.

    Returns
    -------
    points
        (k, 2) of (x, y) in cells: whole numbers are centres.
    of
        (k,) which of the cells each belongs to.
    """
    flat, stride = heights.ravel(), heights.shape[1]
    above = np.maximum(flat[cells] - threshold, LEAST_HEIGHT)
    points, of = [], []
    for step, way in ((1, (1, 0)), (-1, (-1, 0)), (stride, (0, 1)), (-stride, (0, -1))):
        beside = flat[cells + step]
        crossed = np.flatnonzero(beside < threshold)
        below = np.maximum(threshold - beside[crossed], LEAST_HEIGHT)
        share = np.where(np.isinf(below), 0.5, above[crossed] / (above[crossed] + below))
        row, column = np.divmod(cells[crossed], stride)
        points.append(np.column_stack((column + way[0] * share, row + way[1] * share)))
        of.append(crossed)
    return np.concatenate(points), np.concatenate(of)


def mask_length(mask: NDArray[np.bool_]) -> float:
    """Return the longest diameter of a mask in its pixels, on the contour that a map of yes and no has.

    Parameters
    ----------
    mask
        (rows, columns), with at least one true pixel.
    """
    heights = np.full((mask.shape[0] + 2, mask.shape[1] + 2), -np.inf, np.float32)
    heights[1:-1, 1:-1][mask] = 1
    points, _ = border_points(np.flatnonzero(heights > 0), heights, np.float32(0.5))
    return longest_diameter(points)


def longest_diameter(points: ArrayLike) -> float:
    """Return the largest distance between any two of ``points``, an (n, 2) array, in its own unit."""
    points = np.asarray(points, dtype=np.float64)
    return float(longest_diameters(points, np.zeros(len(points), dtype=np.intp), count=1)[0])


def longest_diameters(points: NDArray[np.float64], owner: NDArray[np.intp], *, count: int) -> NDArray[np.float64]:
    """Return the largest distance between any two points of each owner, in their own unit.

    Parameters
    ----------
    points
        (n, 2) of (x, y).
    owner
        (n,) whose each point is, counted from 0.
    count
        Number of owners; each must have a point.

    Returns
    -------
    (count,) float64.
    """
    order = np.argsort(owner, kind="stable")
    points, owner = points[order], owner[order]
    # A line through an owner's points has their hull, and is made many times as fast as a set of them; it has two ends.
    first = np.searchsorted(owner, np.arange(count))
    lines = shapely.linestrings(
        np.insert(points, first, points[first], axis=0), indices=np.insert(owner, first, owner[first])
    )
    hulls = shapely.convex_hull(lines)
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
            x, y = (_squares_apart(each[index]) for each in corners.T)
            x += y
            result[part] = np.sqrt(x.max(axis=(1, 2)))
    for large in np.flatnonzero(sizes > _FEW_CORNERS):
        result[large] = pdist(corners[starts[large] : starts[large + 1]]).max()
    return result


def _squares_apart(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared difference of any two of each row, in place: these are the largest arrays here."""
    apart = values[:, :, None] - values[:, None, :]
    apart *= apart
    return apart


def joined(points: NDArray[np.float64], focus: NDArray[np.intp], *, reach: float) -> NDArray[np.intp]:
    """Return, for each focus, the first of those that it is joined with: itself, where that is the first.

    Parameters
    ----------
    points
        (n, 2): points on the borders of foci.
    focus
        (n,) whose each is, counted from 0; each focus has one.
    reach
        Foci are joined where two of their points lie no farther apart than this, also one by way of another.

    Returns
    -------
    (foci,) numbers of foci.
    """
    order = np.argsort(focus, kind="stable")
    shapes = shapely.multipoints(points[order], indices=focus[order])
    left, top, right, bottom = shapely.bounds(shapes).T
    around = shapely.box(left - reach, top - reach, right + reach, bottom + reach)
    one, other = shapely.STRtree(shapes).query(around)
    one, other = one[one < other], other[one < other]
    shapely.prepare(shapes[one])
    near = shapely.dwithin(shapes[one], shapes[other], reach)
    one, other = one[near], other[near]
    pairs = sparse.coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(shapes), len(shapes)))
    _, group = csgraph.connected_components(pairs, directed=False)
    _, first = np.unique(group, return_index=True)
    return first[group]
