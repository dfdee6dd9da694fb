"""The encoded tiles of a pyramid in a folder, made piece by piece, so that a killed conversion goes on.

A piece is a square of level 0 with all that lies over it in the next levels. Its tiles are written first, then a small
file that says how long each of them is, and holds the piece averaged once more: that the file is there, and that its
tiles are so long, is what makes a piece finished. The coarse levels are made from these averages at the end.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.writer import halved
from napari_metastasis.storage import atomic_write, storage_errors

__all__ = ["PyramidPieces", "ReadLevel"]

#: Returns pixels of a level, uint8 of shape (rows, columns, 3).
ReadLevel = Callable[[int, Region], UInt8Array]

#: Tiles along a side of a piece, at level 0: 48 MiB of pixels with tiles of 512 px, some seconds of work.
_TILES = 8
#: Levels that lie in a piece: in the last of them it is one tile.
_LEVELS = _TILES.bit_length()
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class PyramidPieces:
    """Where the tiles of a pyramid lie, and how they are made.

    Attributes
    ----------
    tiles
        Folder of the encoded tiles, as those of an OME-Zarr lie: ``level/c/0/row/column``.
    finished
        Folder of what is known of finished pieces.
    sizes
        Of the levels, each half of the one before, in level pixels.
    given
        Levels that the source has; the others are averaged from the one before.
    tile_px
        Side of a tile.
    encode
        Returns the bytes of a tile, which the slide's edge may crop.
    """

    tiles: Path
    finished: Path
    sizes: tuple[Size, ...]
    given: frozenset[int]
    tile_px: int
    encode: Callable[[UInt8Array], bytes]

    @property
    def regions(self) -> list[Region]:
        """Return the level-0 pixels of every piece, in reading order."""
        return list(Region.of(self.sizes[0]).split(self.tile_px * _TILES))

    def tile_path(self, level: int, row: int, column: int) -> Path:
        """Return the file of a tile."""
        return self.tiles / str(level) / "c" / "0" / str(row) / str(column)

    def encoded(self, level: int) -> Iterator[bytes]:
        """Yield the tiles of a level in reading order."""
        for region in Region.of(self.sizes[level]).split(self.tile_px):
            path = self.tile_path(level, region.y // self.tile_px, region.x // self.tile_px)
            yield path.read_bytes()

    def is_finished(self, region: Region) -> bool:
        """Return whether a piece and all of its tiles are there."""
        try:
            with np.load(self._record(region), allow_pickle=False) as record:
                rows = record["tiles"].tolist()
            return all(self.tile_path(*at).stat().st_size == length for *at, length in rows)
        except _DAMAGED:
            return False

    def make(self, region: Region, read: ReadLevel, pool: ThreadPoolExecutor) -> None:
        """Make all tiles of a piece.

        Parameters
        ----------
        region
            One of :attr:`regions`.
        read
            Returns pixels of a given level, uint8 of shape (rows, columns, 3); called from many threads.
        pool
            Reads and encodes.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        lengths: list[tuple[int, int, int, int]] = []
        half = np.empty((0, 0, 3), np.uint8)
        for level in range(min(_LEVELS, len(self.sizes))):
            own = _at(region, level).intersection(Region.of(self.sizes[level]))
            # Of a level that a scanner cut, nothing may be left at the slide's edge.
            if own.is_empty:
                half = half[:0]
                break
            pixels = self._read(level, own, read, pool) if level in self.given else half[: own.height, : own.width]
            lengths += self._write(level, own, pixels, pool)
            half = self._halved(pixels, pool)
        with storage_errors(self.finished):
            self.finished.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._record(region)) as file:
            np.savez(file, tiles=np.array(lengths, np.int64), half=half)

    def make_coarse_levels(self, read: ReadLevel) -> None:
        """Make the levels that no piece holds, once all pieces are finished.

        Parameters
        ----------
        read
            As :meth:`make` takes it.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        top = len(self.sizes) - 1
        if top < _LEVELS:
            return
        for region in Region.of(self.sizes[top]).split(self.tile_px):
            self._coarse(top, region, read)

    def _coarse(self, level: int, region: Region, read: ReadLevel) -> UInt8Array:
        """Make a tile of a coarse level and the four below it, and return its pixels."""
        pixels = np.empty((*region.size.shape, 3), np.uint8)
        below = Region(2 * region.x, 2 * region.y, 2 * region.width, 2 * region.height)
        for part in below.intersection(Region.of(self.sizes[level - 1])).split(self.tile_px):
            half = self._half(level, part, read)
            y, x = part.y // 2 - region.y, part.x // 2 - region.x
            into = pixels[y : y + half.shape[0], x : x + half.shape[1]]
            into[:] = half[: into.shape[0], : into.shape[1]]
        pixels = read(level, region) if level in self.given else pixels
        self._write_tile(level, region, pixels)
        return pixels

    def _half(self, level: int, part: Region, read: ReadLevel) -> UInt8Array:
        """Return a tile of the level below, averaged two by two."""
        if level > _LEVELS:
            return halved(self._coarse(level - 1, part, read))
        scale = _TILES
        piece = Region(part.x * scale, part.y * scale, part.width * scale, part.height * scale)
        with storage_errors(self.finished), np.load(self._record(piece), allow_pickle=False) as record:
            return np.asarray(record["half"])

    def _read(self, level: int, region: Region, read: ReadLevel, pool: ThreadPoolExecutor) -> UInt8Array:
        pixels = np.empty((*region.size.shape, 3), np.uint8)

        def fill(part: Region) -> None:
            pixels[part.shifted(-region.x, -region.y).slices] = read(level, part)

        list(pool.map(fill, region.split(self.tile_px)))
        return pixels

    def _halved(self, pixels: UInt8Array, pool: ThreadPoolExecutor) -> UInt8Array:
        """Return pixels averaged two by two, tile by tile: as a whole they would take three times their size again."""
        height, width, _ = pixels.shape
        result = np.empty((-(-height // 2), -(-width // 2), 3), np.uint8)

        def fill(part: Region) -> None:
            half = halved(pixels[part.slices])
            result[part.y // 2 : part.y // 2 + half.shape[0], part.x // 2 : part.x // 2 + half.shape[1]] = half

        list(pool.map(fill, Region(0, 0, width, height).split(self.tile_px)))
        return result

    def _write(
        self, level: int, region: Region, pixels: UInt8Array, pool: ThreadPoolExecutor
    ) -> list[tuple[int, int, int, int]]:
        """Write the tiles of a piece at one level; return level, row, column and length of each."""

        def write(part: Region) -> tuple[int, int, int, int]:
            return self._write_tile(level, part, pixels[part.shifted(-region.x, -region.y).slices])

        return list(pool.map(write, region.split(self.tile_px)))

    def _write_tile(self, level: int, region: Region, pixels: UInt8Array) -> tuple[int, int, int, int]:
        row, column = region.y // self.tile_px, region.x // self.tile_px
        path, data = self.tile_path(level, row, column), self.encode(pixels)
        # Not one by one whole or not at all: a piece that was interrupted is made anew.
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return level, row, column, len(data)

    def _record(self, region: Region) -> Path:
        side = self.tile_px * _TILES
        return self.finished / f"{region.y // side}-{region.x // side}.npz"


def _at(region: Region, level: int) -> Region:
    """Return the pixels of a level that lie over a piece; its corner divides."""
    right, bottom = -(-region.right // 2**level), -(-region.bottom // 2**level)
    return Region(region.x >> level, region.y >> level, right - (region.x >> level), bottom - (region.y >> level))
