"""Where the border of a lesion runs: its cells' squares as polygons.

shapely's unions give the same polygons from other corners, and take 1.5 to 4 s where this takes 30 ms (460,000 cells).
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from napari_metastasis.geometry import HeatmapFrame

__all__ = ["outline"]


def outline(
    rows: NDArray[np.intp], columns: NDArray[np.intp], frame: HeatmapFrame
) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the union of the cells' squares, holes included, in level-0 pixels.

    Cells that touch at a corner only are polygons of their own that share that point.

    Parameters
    ----------
    rows, columns
        (n,) each, at least one: where the cells lie on the heatmap.
    frame
        Says where that is on the slide.
    """
    top, left = int(rows.min()), int(columns.min())
    mask = np.zeros((int(rows.max()) - top + 3, int(columns.max()) - left + 3), dtype=bool)
    mask[rows - top + 1, columns - left + 1] = True
    parts, _ = ndimage.label(mask)  # cells that share a side: one polygon each
    start, heading, following = _edges(mask, parts.ravel())
    order, first = _walk(following)
    start, heading = start[order], heading[order]
    part = parts.ravel()[start[first] + _right_of(mask.shape[1])[heading[first]]] - 1
    before = np.roll(heading, 1)
    before[first] = heading[np.append(first[1:], len(order)) - 1]
    corner = np.flatnonzero(heading != before)
    y, x = np.divmod(start[corner], mask.shape[1])
    origin = frame.cell_corner(left - 1, top - 1)
    rings = shapely.linearrings(
        np.column_stack((x, y)) * frame.cell_px + (origin.x, origin.y),
        indices=np.searchsorted(first, corner, side="right") - 1,
    )
    # Every part has one shell, which has to come before its holes. With the inside to the right, and y pointing down,
    # a shell turns from x to y.
    sorted_ = np.lexsort((~shapely.is_ccw(rings), part))
    polygons = shapely.polygons(rings[sorted_], indices=part[sorted_])
    return polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)


def _right_of(width: int) -> NDArray[np.int64]:
    """Return the step from a corner to the cell ahead on the right, for each heading: east, south, west, north.

    A corner has the number of the cell to its lower right. The cell ahead on the left is that of the heading before.
    """
    return np.array([0, -1, -width - 1, -width])


def _edges(
    mask: NDArray[np.bool_], part: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the unit edges between inside and outside, each with the inside to its right.

    Returns
    -------
    start
        (edges,) the corner that each begins at.
    heading
        (edges,) 0 to 3: east, south, west, north.
    following
        (edges,) the edge that each goes on with. Where two cells touch at a corner only, the border passes from one to
        the other if they are of one part (a hole then touches the border, or another hole, in that corner), and else
        turns back along the same cell: no ring ever touches itself.
    """
    width = mask.shape[1]
    inside = mask.ravel()
    upper, lower = inside[:-width], inside[width:]
    before, after = inside[:-1], inside[1:]
    starts = (
        np.flatnonzero(lower & ~upper) + width,
        np.flatnonzero(before & ~after) + 1,
        np.flatnonzero(upper & ~lower) + width + 1,
        np.flatnonzero(after & ~before) + width + 1,
    )
    offsets = np.cumsum([0, *map(len, starts)])
    start = np.concatenate(starts)
    heading = np.repeat(np.arange(4), [len(each) for each in starts])
    right = _right_of(width)
    end = start + np.array([1, width, -1, -width])[heading]
    ahead_right = inside[end + right[heading]]
    ahead_left = end + right[heading - 1]
    turns_left = inside[ahead_left] & (ahead_right | (part[ahead_left] == part[start + right[heading]]))
    turned = (heading + np.where(turns_left, -1, np.where(ahead_right, 0, 1))) % 4
    following = np.empty(len(start), dtype=np.int64)
    for each in range(4):
        chosen = np.flatnonzero(turned == each)
        # Edges of one heading were met in the order of their corners.
        following[chosen] = offsets[each] + np.searchsorted(starts[each], end[chosen])
    return start, heading, following


def _walk(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the edges ring by ring, in the order of walking, and where in it each ring begins."""
    count = len(following)
    edges = np.arange(count)

    def graph(beginnings: NDArray[np.int64], ends: NDArray[np.int64]) -> sparse.csr_array:
        return sparse.csr_array((np.ones(len(ends), dtype=np.int8), (beginnings, ends)), shape=(count, count))

    rings, ring = csgraph.connected_components(graph(edges, following), directed=True, connection="weak")
    heads = np.zeros(rings, dtype=np.int64)
    heads[ring[::-1]] = edges[::-1]
    previous = np.empty_like(following)
    previous[following] = edges
    # Every ring is cut open and tied to the next, so that one search walks them all.
    tied = following.copy()
    tied[previous[heads[:-1]]] = heads[1:]
    kept = np.delete(edges, previous[heads[-1]])
    order = csgraph.depth_first_order(graph(kept, tied[kept]), heads[0], return_predecessors=False)
    return order, np.flatnonzero(np.diff(ring[order], prepend=-1))
