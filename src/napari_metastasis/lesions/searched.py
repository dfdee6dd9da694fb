"""Where tissue was looked at for mitoses: how much of it lies in an area, and which points lie in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import HotSpot
from napari_metastasis.geometry import HeatmapFrame, Point, Region

__all__ = ["Searched", "SearchedTissue"]

#: Side of the blocks in which it is kept: 64 cells, some 0.1 mm.
_BLOCK = 64


class Searched(Protocol):
    """What is known of where tissue was looked at."""

    def mm2_within(self, spot: HotSpot) -> float | None:
        """Return how much of it lies in an area; ``None`` where that is not known."""
        ...

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points, (n, 2) as (x, y) in level-0 pixels, lie in it: (n,) bool."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SearchedTissue:
    """Where tissue was looked at, in blocks of 64 cells of a map.

    Attributes
    ----------
    counts
        (rows, columns) int64: cells of each block that were looked at.
    partly
        Of the blocks of which a part was, by row and column: which cells, (64 * 64 / 8,) uint8 of bits, row by row.
    corner
        Level-0 location of the first cell's corner.
    cell_px, cell_mm2
        Side of a cell in level-0 pixels, and its area.
    """

    counts: NDArray[np.int64]
    partly: Mapping[tuple[int, int], NDArray[np.uint8]]
    corner: Point
    cell_px: float
    cell_mm2: float

    @classmethod
    def of(cls, parts: Iterable[tuple[Region, NDArray[np.bool_]]], frame: HeatmapFrame) -> Self:
        """Return what parts of a map, and which of their cells were looked at, say of all of it.

        Parameters
        ----------
        parts
            From :func:`~napari_metastasis.scanning.looked_at`: none splits a block.
        frame
            Where the cells lie.
        """
        counts = np.zeros([-(-side // _BLOCK) for side in frame.cells.shape], np.int64)
        partly = {}
        for region, looked_at in parts:
            for part in region.split(_BLOCK):
                inside = looked_at[part.shifted(-region.x, -region.y).slices]
                at = part.y // _BLOCK, part.x // _BLOCK
                counts[at] = np.count_nonzero(inside)
                if 0 < counts[at] < _BLOCK**2:
                    whole = np.zeros((_BLOCK, _BLOCK), np.bool_)
                    whole[: part.height, : part.width] = inside
                    partly[at] = np.packbits(whole)
        return cls(counts, partly, frame.cell_corner(0, 0), frame.cell_px, (frame.cell_um / 1000) ** 2)

    @property
    def mm2(self) -> float:
        """Return how much it is."""
        return int(self.counts.sum()) * self.cell_mm2

    def mm2_within(self, spot: HotSpot) -> float:
        """Return how much of it lies in an area, by the blocks whose middles do."""
        rows, columns = np.nonzero(self.counts)
        step, corner = _BLOCK * self.cell_px, self.corner
        middles = np.stack([corner.x + (columns + 0.5) * step, corner.y + (rows + 0.5) * step], axis=1)
        inside = spot.holds(middles)
        return int(self.counts[rows, columns][inside].sum()) * self.cell_mm2

    def holds(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points lie in a cell that was looked at; see :class:`Searched`."""
        cells = np.floor((xy - (self.corner.x, self.corner.y)) / self.cell_px).astype(np.int64)
        return np.array([self._holds(column, row) for column, row in cells.tolist()], np.bool_)

    def _holds(self, column: int, row: int) -> bool:
        at = row // _BLOCK, column // _BLOCK
        if not (0 <= at[0] < self.counts.shape[0] and 0 <= at[1] < self.counts.shape[1]) or not self.counts[at]:
            return False
        bit = row % _BLOCK * _BLOCK + column % _BLOCK
        return at not in self.partly or bool(self.partly[at][bit // 8] >> (7 - bit % 8) & 1)
