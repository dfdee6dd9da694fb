"""Whether an image is a smaller copy of another one, and which level has the tiles that a smaller one lacks.

Files say which of their images are levels of one pyramid, or leave it to their sizes. Neither is believed: sides must
shrink alike, and pixels must be those of the larger image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.pyramid import snapped_downsamples
from napari_metastasis.slides.resample import resample
from napari_metastasis.slides.tiff_tiles import TiffTiles

__all__ = ["LevelTiles", "on_edge", "resembles", "shrinks_alike"]

#: Sides shrink alike to within this share or two pixels.
_ASPECT_TOLERANCE = 0.01
#: Squares that two images are compared in: how many at most, and their sides, in pixels of the larger image.
_SQUARES, _SQUARE_PX = 6, 192
#: A square is averaged to so many blocks along a side: what pixels were sampled or averaged, blocks show alike.
_BLOCKS = 8
#: Below this deviation between blocks, in gray levels, a square is blank and tells nothing.
_BLANK = 3.0
#: Blocks are the same where they go together so closely, or differ by so few gray levels on average.
_ALIKE, _EQUAL = 0.6, 8.0
#: The fullest tiles are looked at first where some are so many times fuller than the usual.
_FULLER = 1.2


def shrinks_alike(full: Size, smaller: Size) -> bool:
    """Return whether an image may show all of another one, smaller: both sides shrink by the same factor."""
    if not 0 < smaller.width < full.width or smaller.height < 1:
        return False
    expected = full.height * smaller.width / full.width
    return abs(smaller.height - expected) <= max(2.0, _ASPECT_TOLERANCE * expected)


def resembles(larger: TiffTiles, smaller: TiffTiles) -> bool:
    """Return whether an image shows what a larger one shows, by a look into a few squares of both.

    Raises
    ------
    CorruptSlideError
        If a tile cannot be decoded.
    """
    scale = snapped_downsamples((larger.size, smaller.size))[1]
    side = int(np.clip(_SQUARE_PX / scale, 2 * _BLOCKS, 128)) // _BLOCKS * _BLOCKS
    unlike = 0
    for square in _squares(smaller, side):
        there = smaller.read(square)
        coarse = _blocks(there)
        if coarse.std() < _BLANK:
            continue
        fine = _blocks(resample(partial(on_edge, larger.read, larger.size), square, scale))
        if _same(fine, coarse):
            return True
        unlike += 1
    return unlike == 0


def _squares(image: TiffTiles, side: int) -> Iterator[Region]:
    """Yield squares of an image, those of its fullest tiles first."""
    whole, counts = Region.of(image.size), image.tile_bytes
    places: list[tuple[float, float]] = []
    if len(counts) > _SQUARES and counts.max() > _FULLER * max(1.0, float(np.median(counts))):
        for index in np.argsort(-counts, kind="stable")[:_SQUARES].tolist():
            tile = image.region(index)
            # Not its middle, where four tiles of a level twice as large meet.
            places.append((tile.x + tile.width / 4, tile.y + tile.height / 4))
    steps = (0.5, 0.3, 0.7)
    places += [(whole.width * x, whole.height * y) for y in steps for x in steps]
    wide, high = min(side, whole.width), min(side, whole.height)
    for x, y in places:
        left, top = (
            int(np.clip(x - wide / 2, 0, whole.width - wide)),
            int(np.clip(y - high / 2, 0, whole.height - high)),
        )
        yield Region(left, top, wide, high)


def on_edge(read: Callable[[Region], UInt8Array], size: Size, region: Region) -> UInt8Array:
    """Return the pixels of a region; past the image, those of its edge."""
    inside = region.intersection(Region.of(size))
    if inside.is_empty:
        return np.full((*region.size.shape, 3), 255, np.uint8)
    pixels = read(inside)
    around = (
        (inside.y - region.y, region.bottom - inside.bottom),
        (inside.x - region.x, region.right - inside.right),
        (0, 0),
    )
    return pixels if inside == region else np.pad(pixels, around, mode="edge")


def _blocks(pixels: UInt8Array) -> npt.NDArray[np.float64]:
    """Return the mean gray of blocks, as many along each side as :data:`_BLOCKS`, fewer of images smaller than that."""
    gray = pixels.mean(axis=2)
    rows, columns = (np.array_split(np.arange(count), min(_BLOCKS, count)) for count in gray.shape)
    return np.array([[gray[np.ix_(row, column)].mean() for column in columns] for row in rows])


def _same(fine: npt.NDArray[np.float64], coarse: npt.NDArray[np.float64]) -> bool:
    if np.abs(fine - coarse).mean() <= _EQUAL:
        return True
    spread = fine.std() * coarse.std()
    together = ((fine - fine.mean()) * (coarse - coarse.mean())).mean()
    return bool(spread > 0 and together / spread >= _ALIKE)


class LevelTiles:
    """The levels of a pyramid; what a smaller one lacks is drawn from a larger one.

    Parameters
    ----------
    levels
        From the finest to the coarsest.
    """

    def __init__(self, levels: tuple[TiffTiles, ...]) -> None:
        self._levels = levels
        # Those that the slide is shown with: a pixel of a missing tile lies where its neighbours' pixels lie.
        self._downsamples = snapped_downsamples(tuple(level.size for level in levels))

    def __getitem__(self, level: int) -> TiffTiles:
        return self._levels[level]

    def __iter__(self) -> Iterator[TiffTiles]:
        return iter(self._levels)

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3); ``region`` lies inside it.

        A tile that is not stored is drawn from the next finer level that has something there: scanners leave out tiles
        that hold nothing but glass, writers that were stopped leave out others.

        Raises
        ------
        CorruptSlideError
            If a tile cannot be read or decoded.
        """
        own = self._levels[level]
        pixels = own.read(region)
        if level == 0 or own.is_whole:
            return pixels
        for _, tile in own.over(region):
            part = tile.intersection(region)
            finer = None if own.stores(part) else self._finer(level, part)
            if finer is not None:
                pixels[part.shifted(-region.x, -region.y).slices] = self._drawn(finer, level, part)
        return pixels

    def _scaled(self, region: Region, level: int, finer: int) -> Region:
        """Return the pixels of a finer level that a region of a level lies on."""
        own, other = self._levels[level].size, self._levels[finer].size
        x, y = other.width / own.width, other.height / own.height
        left, top = math.floor(region.x * x), math.floor(region.y * y)
        right, bottom = math.ceil(region.right * x), math.ceil(region.bottom * y)
        return Region(left, top, right - left, bottom - top).intersection(Region.of(other))

    def _finer(self, level: int, region: Region) -> int | None:
        """Return the next finer level that stores something there; ``None`` where none does."""
        for finer in reversed(range(level)):
            if self._levels[finer].stores(self._scaled(region, level, finer)):
                return finer
        return None

    def _drawn(self, finer: int, level: int, region: Region) -> UInt8Array:
        other, ratio = self._levels[finer].size, self._downsamples[level] / self._downsamples[finer]
        return resample(lambda part: on_edge(partial(self.read, finer), other, part), region, ratio)
