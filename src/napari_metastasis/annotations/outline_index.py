"""Outlines asked at many small windows: what lies in a window costs no more than the edges that pass it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.annotations import Annotation, fill_edges, rasterize
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size

__all__ = ["OutlineIndex"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

#: Horizontal bands that a ring's edges are sorted into, at most; a patch then meets one or two of them.
_MAX_BANDS = 512
#: Steps along an edge that mark the cells it passes, in cells: short enough that no cell next to a mark is missed.
_STEP_CELLS = 0.5


class _Ring:
    """A closed ring whose edges are found by height.

    Parameters
    ----------
    corners
        (n, 2) of (x, y) in level-0 pixels.
    """

    def __init__(self, corners: FloatArray) -> None:
        self.start = corners
        self.end = np.roll(corners, -1, axis=0)
        self.low, self.high = corners.min(axis=0), corners.max(axis=0)
        upper = np.minimum(self.start[:, 1], self.end[:, 1]) - self.low[1]
        lower = np.maximum(self.start[:, 1], self.end[:, 1]) - self.low[1]
        height = max(float(self.high[1] - self.low[1]), 1.0)
        self._bands = min(_MAX_BANDS, max(1, len(corners) // 8))
        self._band_px = height / self._bands
        first, last = self._band(upper), self._band(lower)
        count = last - first + 1
        edge = np.repeat(np.arange(len(corners), dtype=np.int32), count)
        band = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        order = np.argsort(band, kind="stable")
        self._edges = edge[order]
        self._starts = np.searchsorted(band[order], np.arange(self._bands + 1))

    def _band(self, height: FloatArray) -> npt.NDArray[np.int64]:
        return np.clip(height // self._band_px, 0, self._bands - 1).astype(np.int64)

    def meets(self, low: FloatArray, high: FloatArray) -> bool:
        """Return whether the ring's bounding box meets a rectangle from ``low`` to ``high``."""
        return bool((self.low < high).all() and (self.high > low).all())

    def fill(self, origin: FloatArray, step: float, region: Region) -> BoolArray:
        """Return the pixels of a window whose centres lie inside, by the even-odd rule.

        Parameters
        ----------
        origin
            (x, y) of the window's corner, in level-0 pixels.
        step
            Side of a pixel.
        region
            The window, of which only the size counts.
        """
        top = origin[1] - self.low[1]
        first, last = self._band(np.array([top, top + region.height * step]))
        edges = self._edges[self._starts[first] : self._starts[last + 1]]
        if last > first:
            # An edge that spans several bands is listed in each, and must not count twice.
            edges = np.unique(edges)
        return fill_edges((self.start[edges] - origin) / step, (self.end[edges] - origin) / step, region.size)

    def cells_passed(self, origin: FloatArray, step: float, cells: Size) -> npt.NDArray[np.int64]:
        """Return (n, 2) of (column, row) of cells along the edges, close enough together to miss no neighbour."""
        start, end = _clipped((self.start - origin) / step, (self.end - origin) / step, cells)
        pieces = np.ceil(np.abs(end - start).max(axis=1) / _STEP_CELLS).astype(np.int64) + 1
        edge = np.repeat(np.arange(len(start)), pieces)
        piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        along = (piece / pieces[edge])[:, None]
        return np.floor(start[edge] + along * (end[edge] - start[edge])).astype(np.int64)


class OutlineIndex:
    """Areas with holes, indexed for small windows; agrees with :func:`~napari_metastasis.annotations.rasterize`.

    Parameters
    ----------
    annotations
        Areas in level-0 pixels, all of which count.
    """

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        self._annotations = tuple(annotations)
        self._areas = tuple(
            (_Ring(area.exterior), tuple(_Ring(hole) for hole in area.holes)) for area in self._annotations
        )
        self._low = np.array([ring.low for ring, _ in self._areas]).reshape(-1, 2)
        self._high = np.array([ring.high for ring, _ in self._areas]).reshape(-1, 2)

    @property
    def empty(self) -> bool:
        """Return whether there is no area at all."""
        return not self._areas

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return the least and the greatest (x, y) of every area, each (n, 2), in level-0 pixels."""
        return self._low, self._high

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return which model pixels' centres lie in an area, (rows, columns)."""
        step = frame.scale
        origin = np.array([region.x, region.y]) * step
        corner = origin + np.array([region.width, region.height]) * step
        mask = np.zeros(region.size.shape, dtype=bool)
        for number in np.flatnonzero((self._low < corner).all(axis=1) & (self._high > origin).all(axis=1)):
            exterior, holes = self._areas[number]
            area = exterior.fill(origin, step, region)
            for hole in holes:
                if hole.meets(origin, corner):
                    area &= ~hole.fill(origin, step, region)
            mask |= area
        return mask

    def over_cells(self, grid: HeatmapFrame) -> tuple[BoolArray, BoolArray]:
        """Return which cells may hold part of an area, and which surely lie inside one whole; both (rows, columns)."""
        inside = rasterize(self._annotations, grid, grid.cells)
        passed = np.zeros(grid.cells.shape, dtype=bool)
        corner = grid.cell_corner(0, 0)
        for exterior, holes in self._areas:
            for ring in (exterior, *holes):
                cells = ring.cells_passed(np.array([corner.x, corner.y]), grid.cell_px, grid.cells)
                cells = cells[((cells >= 0) & (cells < (grid.cells.width, grid.cells.height))).all(axis=1)]
                passed[cells[:, 1], cells[:, 0]] = True
        passed = ndimage.binary_dilation(passed, structure=np.ones((3, 3), dtype=bool))
        return inside | passed, inside & ~passed


def _clipped(start: FloatArray, end: FloatArray, cells: Size) -> tuple[FloatArray, FloatArray]:
    """Return the parts of edges that pass over a grid (Liang & Barsky 1984); coordinates may be any nonsense."""
    along = end - start
    # Edges along an axis never leave the grid on the other: a step too small to matter keeps 0 / 0 away.
    slope = np.where(along == 0, np.finfo(np.float64).tiny, along)
    with np.errstate(over="ignore"):
        first, second = -start / slope, (np.array([cells.width, cells.height]) - start) / slope
    enter = np.minimum(first, second).max(axis=1).clip(0, 1)[:, None]
    leave = np.maximum(first, second).min(axis=1).clip(0, 1)[:, None]
    over = (enter <= leave)[:, 0]
    return (start + enter * along)[over], (start + leave * along)[over]
