"""Where the border of a lesion runs: the contour of the interpolated probability, as polygons with holes."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.lesions.contours import contour_lines

__all__ = ["outline"]

#: How far an outline may lie from its contour, in cells: a quarter of the corners is left of a round lesion of 0.2 mm,
#: and its length changes by less than 1 %.
_TOLERANCE = 0.125
#: Cells that touch at a corner are one lesion.
_TOUCHING = np.ones((3, 3), np.bool_)


def outline(
    cells: NDArray[Any], heights: NDArray[np.float32], threshold: np.float32, frame: HeatmapFrame
) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the contour of a lesion in level-0 pixels, simplified within an eighth of a cell; holes are kept.

    Foci that lie apart are polygons of their own.

    Parameters
    ----------
    cells
        (n,) numbers of the lesion's cells, at least one, row-major on ``heights``.
    heights
        (rows + 2, columns + 2) float32: the map with a border of one cell, ``-inf`` without an answer.
    threshold
        Of the lesion.
    frame
        Says where the cells lie on the slide.
    """
    row, column = np.divmod(cells, heights.shape[1])
    top, left = int(row.min()) - 1, int(column.min()) - 1
    window = heights[top : int(row.max()) + 2, left : int(column.max()) + 2]
    inside = np.zeros(window.shape, np.bool_)
    inside[row - top, column - left] = True
    foci, _ = ndimage.label(inside, _TOUCHING)
    answered = np.where(np.isinf(window), np.float32(np.nan), window)
    # The border of the map is no cell of the frame.
    where = Region(left - 1, top - 1, window.shape[1], window.shape[0])
    lines = contour_lines(foci, answered, float(threshold), cells=where, frame=frame)
    order, first = _walk(lines.following)
    number = np.searchsorted(first, np.arange(len(order)), side="right") - 1
    rings = shapely.linearrings(lines.ends[order, 0], indices=number)
    focus = lines.lesion[order[first]]
    # Every focus has one shell, which has to come before its holes. With the inside to the right, and y pointing down,
    # a shell turns from x to y.
    sorted_ = np.lexsort((~shapely.is_ccw(rings), focus))
    polygons = shapely.polygons(rings[sorted_], indices=focus[sorted_] - 1)
    whole = polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
    fewer = shapely.simplify(whole, _TOLERANCE * frame.cell_px, preserve_topology=True)
    return fewer if fewer.is_valid else whole


def _walk(following: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the lines ring by ring, in the order of walking, and where in it each ring begins."""
    # As a list, step by step: faster than any search of a graph, for ten lines and for a hundred thousand.
    after = following.tolist()
    walked = bytearray(len(after))
    order: list[int] = []
    first: list[int] = []
    for start in range(len(after)):
        line = start
        if not walked[line]:
            first.append(len(order))
        while not walked[line]:
            walked[line] = True
            order.append(line)
            line = after[line]
    return np.array(order, dtype=np.intp), np.array(first, dtype=np.intp)
