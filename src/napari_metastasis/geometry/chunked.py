"""The values of a map's cells in square chunks, of which only those with answers are held: glass takes no memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry.plane import Region, Size

__all__ = ["CHUNK_CELLS", "ChunkedCells", "chunks_over"]

FloatArray = npt.NDArray[np.float32]

#: Side of a chunk in cells: 256 KiB, about one ROI of a scan.
CHUNK_CELLS = 256


@dataclass(frozen=True, slots=True, eq=False)
class ChunkedCells:
    """Values of a map's cells, NaN wherever there is no chunk.

    Attributes
    ----------
    size
        Of the map, in cells.
    chunks
        By row and column of the chunk, in reading order: float32, :data:`CHUNK_CELLS` a side, cut at the map's edge.
    """

    size: Size
    chunks: Mapping[tuple[int, int], FloatArray] = field(repr=False)

    @classmethod
    def of(cls, values: FloatArray | ChunkedCells) -> ChunkedCells:
        """Return an array, (rows, columns), as chunks that are views of it where it is float32."""
        if isinstance(values, ChunkedCells):
            return values
        values = np.asarray(values, np.float32)
        size = Size(values.shape[1], values.shape[0])
        return cls(size, {key: values[cells.slices] for key, cells in chunks_over(Region.of(size), size)})

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns) of the map."""
        return self.size.shape

    def __iter__(self) -> Iterator[tuple[Region, FloatArray]]:
        """Yield the cells and the values of every chunk that is held."""
        for (row, column), values in self.chunks.items():
            yield Region(column * CHUNK_CELLS, row * CHUNK_CELLS, values.shape[1], values.shape[0]), values

    def read(self, cells: Region) -> FloatArray:
        """Return a copy of some cells, (rows, columns); NaN where there is nothing, also past the map."""
        read = np.full(cells.size.shape, np.nan, np.float32)
        for key, chunk in chunks_over(cells.intersection(Region.of(self.size)), self.size):
            if key in self.chunks:
                part, values = chunk.intersection(cells), self.chunks[key]
                read[part.shifted(-cells.x, -cells.y).slices] = values[part.shifted(-chunk.x, -chunk.y).slices]
        return read

    def whole(self) -> FloatArray:
        """Return all cells, (rows, columns): large on a large slide."""
        return self.read(Region.of(self.size))

    def max_pooled(self) -> ChunkedCells:
        """Return the highest of every 2 x 2 cells; NaN only where all four are."""
        pooled = Size(-(-self.size.width // 2), -(-self.size.height // 2))
        keys = sorted({(row // 2, column // 2) for row, column in self.chunks})
        return ChunkedCells(pooled, {key: _max_pooled(self.read(chunk_at(*key, pooled).fine(2))) for key in keys})


def chunk_at(row: int, column: int, size: Size) -> Region:
    """Return the cells of one chunk of a map."""
    whole = Region(column * CHUNK_CELLS, row * CHUNK_CELLS, CHUNK_CELLS, CHUNK_CELLS)
    return whole.intersection(Region.of(size))


def chunks_over(cells: Region, size: Size) -> Iterator[tuple[tuple[int, int], Region]]:
    """Yield row and column, and all cells, of each chunk of a map that touches a region, in reading order."""
    if cells.is_empty:
        return
    touched = cells.coarse(CHUNK_CELLS)
    for row in range(touched.y, touched.bottom):
        for column in range(touched.x, touched.right):
            yield (row, column), chunk_at(row, column, size)


def _max_pooled(values: FloatArray) -> FloatArray:
    # fmax passes over NaN where the other operand is a number.
    pairs = np.fmax(values[0::2], values[1::2])
    pooled: FloatArray = np.fmax(pairs[:, 0::2], pairs[:, 1::2])
    return pooled
