"""How large a lesion is, and where its border runs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.geometry import HeatmapFrame

__all__ = ["SizeClass", "lengths", "outline", "size_class"]

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
    # An edge lies where the mask changes; edge (r, c) starts at the top-left corner of mask cell (r, c).
    level = np.zeros_like(mask)
    level[1:, :] = mask[1:, :] != mask[:-1, :]
    upright = np.zeros_like(mask)
    upright[:, 1:] = mask[:, 1:] != mask[:, :-1]
    lines = np.concatenate((_runs(level, upright), _runs(upright.T, level.T)[:, :, ::-1]))
    origin = frame.cell_corner(left - 1, top - 1)
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines)))
    # Every edge parts inside from outside, so that a face is one or the other; its cell says which. build_area, which
    # decides by nesting alone, is wrong where holes touch at a corner.
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(np.intp).T
    inside = faces[mask[y, x]]
    area = inside[0] if len(inside) == 1 else shapely.multipolygons(inside)
    placed: shapely.Polygon | shapely.MultiPolygon = shapely.transform(
        area, lambda corners: corners * frame.cell_px + (origin.x, origin.y)
    )
    return placed


def _runs(level: NDArray[np.bool_], upright: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the straight runs of horizontal edges between corners, as (n, 2 ends, (x, y))."""
    before = np.zeros_like(level)
    before[:, 1:] = level[:, :-1]
    # A corner is touched by an upright edge from below (its own) or from above (the one that starts a row higher).
    corner = upright.copy()
    corner[1:, :] |= upright[:-1, :]
    start_y, start_x = np.nonzero(level & (~before | corner))
    end_y, end_x = np.nonzero(before & (~level | corner))
    starts, ends = np.column_stack((start_x, start_y)), np.column_stack((end_x, end_y))
    return np.stack((starts, ends), axis=1)
