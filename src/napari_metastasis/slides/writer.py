"""Write a pyramid that this package, OpenSlide, QuPath and any other TIFF reader opens.

A tiled BigTIFF with one page a level, each half of the one before, and the pixel size in the resolution tags.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from napari_metastasis.errors import SettingsError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import PyramidSettings
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.metadata import MAX_MPP, MIN_MPP
from napari_metastasis.storage import atomic_write

__all__ = [
    "PixelSource",
    "check_pyramid",
    "half_size",
    "halved",
    "level_sizes",
    "tile_encoder",
    "write_level",
    "write_pyramid",
]

#: Level-0 pixels of a region, uint8 of shape (rows, columns, 3); or an array with all of them.
PixelSource = Callable[[Region], UInt8Array] | UInt8Array

_DEFAULTS = PyramidSettings()

_CENTIMETER = 3  # TIFF's ResolutionUnit
_UM_PER_CM = 10_000.0

#: Tiles that may wait for each encoder: enough to keep every thread busy, and no more memory than that.
_TILES_AHEAD_PER_THREAD = 4


def write_pyramid(
    path: str | Path,
    source: PixelSource,
    *,
    mpp: float | None,
    size: Size,
    tile_px: int = _DEFAULTS.tile_px,
    levels: int | None = None,
    compression: str = _DEFAULTS.compression,
    quality: int = _DEFAULTS.quality,
    threads: int = _DEFAULTS.threads,
) -> None:
    """Write a pyramid tile by tile; the slide is never in memory, and the file appears whole or not at all.

    Memory holds one row of tiles of every level but the finest: about 160 MB for a slide 100,000 px wide.

    Parameters
    ----------
    path
        File to write.
    source
        Level-0 pixels. A function is called for one tile after another, row by row, in the calling thread.
    mpp
        Micrometres per level-0 pixel; ``None`` leaves them out, for a slide that does not state them.
    size
        Of level 0, in pixels.
    tile_px
        Side of a tile.
    levels
        Levels in all; ``None`` for a coarsest level of one tile.
    compression
        ``jpeg``, ``lzw``, ``deflate`` or ``none``.
    quality
        Of JPEG.
    threads
        Threads that encode.

    Raises
    ------
    SettingsError
        If a parameter is out of range.
    StorageError
        If the file cannot be written.
    """
    PyramidSettings(tile_px=tile_px, compression=compression, quality=quality, threads=threads)
    check_pyramid(mpp=mpp, size=size, tile_px=tile_px, levels=levels)
    sizes = level_sizes(size, tile_px=tile_px, levels=levels)
    encode = tile_encoder(compression, tile_px=tile_px, quality=quality)
    with atomic_write(path) as file, ExitStack() as stack:
        coarser: _SpilledLevel | None = None
        spilled: list[_SpilledLevel] = []
        for level_size in reversed(sizes[1:]):
            # Beside the target, where there is room for a slide; /tmp may be a small memory disk.
            spill = stack.enter_context(tempfile.TemporaryFile(dir=Path(path).parent))
            coarser = _SpilledLevel(level_size, tile_px, encode, spill, coarser)
            spilled.insert(0, coarser)
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        # tifffile wants a name, and this file has none yet.
        named = tifffile.FileHandle(file, name=Path(path).name, offset=0, size=0)
        with tifffile.TiffWriter(named, bigtiff=True) as tiff:
            tiles = _finest(source, size, tile_px, encode, pool, coarser, ahead=_TILES_AHEAD_PER_THREAD * threads)
            write_level(tiff, tiles, size, index=0, mpp=mpp, tile_px=tile_px, compression=compression)
            for index, level in enumerate(spilled, start=1):
                write_level(
                    tiff, level.encoded(), level.size, index=index, mpp=mpp, tile_px=tile_px, compression=compression
                )


class _SpilledLevel:
    """A level that is averaged while the finer one is written; its encoded tiles wait in a file."""

    def __init__(
        self,
        size: Size,
        tile_px: int,
        encode: Callable[[UInt8Array], bytes],
        spill: BinaryIO,
        coarser: _SpilledLevel | None,
    ) -> None:
        self.size = size
        self._tile_px = tile_px
        self._encode = encode
        self._spill = spill
        self._coarser = coarser
        self._lengths: list[int] = []
        self._rows = np.empty((tile_px, size.width, 3), np.uint8)

    def receive(self, tile: UInt8Array, column: int, row: int, *, completes_row: bool) -> None:
        """Average a tile of the finer level in; ``completes_row`` with the last one of a row of this level."""
        half = halved(tile)
        x, y = column * self._tile_px // 2, row % 2 * self._tile_px // 2
        self._rows[y : y + half.shape[0], x : x + half.shape[1]] = half
        if completes_row:
            self._finish_row(row // 2)

    def encoded(self) -> Iterator[bytes]:
        """Yield the tiles in reading order."""
        self._spill.seek(0)
        for length in self._lengths:
            yield self._spill.read(length)

    def _finish_row(self, row: int) -> None:
        strip = Region(0, row * self._tile_px, self.size.width, self._tile_px).intersection(Region.of(self.size))
        for part in strip.split(self._tile_px):
            tile = self._rows[: part.height, part.x : part.right]
            data = self._encode(tile)
            self._spill.write(data)
            self._lengths.append(len(data))
            if self._coarser is not None:
                ends = part.right == self.size.width and (row % 2 == 1 or part.bottom == self.size.height)
                self._coarser.receive(tile, part.x // self._tile_px, row, completes_row=ends)


def _finest(
    source: PixelSource,
    size: Size,
    tile_px: int,
    encode: Callable[[UInt8Array], bytes],
    pool: ThreadPoolExecutor,
    coarser: _SpilledLevel | None,
    *,
    ahead: int,
) -> Iterator[bytes]:
    """Yield the encoded tiles of level 0 in reading order, and average each into the coarser level."""
    waiting: deque[Future[bytes]] = deque()
    for part in Region.of(size).split(tile_px):
        tile = np.ascontiguousarray(source(part) if callable(source) else source[part.slices])
        if tile.shape != (*part.size.shape, 3) or tile.dtype != np.uint8:
            raise SettingsError(
                f"expected uint8 pixels of shape {(*part.size.shape, 3)} from the source, "
                f"got {tile.dtype} {tile.shape}; return RGB for the region asked for"
            )
        waiting.append(pool.submit(encode, tile))
        if coarser is not None:
            row = part.y // tile_px
            ends = part.right == size.width and (row % 2 == 1 or part.bottom == size.height)
            coarser.receive(tile, part.x // tile_px, row, completes_row=ends)
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def write_level(
    tiff: tifffile.TiffWriter,
    tiles: Iterator[bytes],
    size: Size,
    *,
    index: int,
    mpp: float | None,
    tile_px: int,
    compression: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a level from its encoded tiles in reading order; ``more`` are further options of tifffile's."""
    options: dict[str, Any] = {}
    if mpp is not None:
        per_cm = _UM_PER_CM / (mpp * 2**index)
        options = {"resolution": (per_cm, per_cm), "resolutionunit": _CENTIMETER}
    if compression == "jpeg":
        options |= {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg"}
    else:
        names = {"lzw": "lzw", "deflate": "adobe_deflate", "none": None}
        options |= {"photometric": "rgb", "compression": names[compression]}
    tiff.write(
        tiles,
        shape=(*size.shape, 3),
        dtype=np.uint8,
        tile=(tile_px, tile_px),
        subfiletype=0 if index == 0 else 1,
        software="napari-metastasis",
        metadata=None,
        **options,
        **(more or {}),
    )


def tile_encoder(compression: str, *, tile_px: int, quality: int) -> Callable[[UInt8Array], bytes]:
    """Return a function that pads a tile of the slide's edge to full size, and encodes it."""

    def compress(tile: UInt8Array) -> bytes:
        if compression == "jpeg":
            return bytes(
                imagecodecs.jpeg8_encode(
                    tile, level=quality, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"
                )
            )
        if compression == "lzw":
            return bytes(imagecodecs.lzw_encode(tile.tobytes()))
        if compression == "deflate":
            return bytes(imagecodecs.zlib_encode(tile.tobytes()))
        return tile.tobytes()

    def encode(tile: UInt8Array) -> bytes:
        missing = tile_px - tile.shape[0], tile_px - tile.shape[1]
        # The edge is repeated past the slide: JPEG would let any other colour bleed into the last pixels.
        whole = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else tile
        return compress(np.ascontiguousarray(whole))

    return encode


def halved(tile: UInt8Array) -> UInt8Array:
    """Return the tile averaged two by two; the last row and column count twice where there is an odd one."""
    height, width, _ = tile.shape
    even = np.pad(tile, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else tile
    wide = even.astype(np.uint16)
    total = wide[0::2, 0::2] + wide[0::2, 1::2] + wide[1::2, 0::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def level_sizes(size: Size, *, tile_px: int, levels: int | None) -> list[Size]:
    """Return the sizes of a pyramid's levels, each half of the one before; by default down to one tile."""
    sizes = [size]
    while len(sizes) < levels if levels is not None else max(sizes[-1].width, sizes[-1].height) > tile_px:
        sizes.append(half_size(sizes[-1]))
    return sizes


def half_size(size: Size) -> Size:
    """Return the size of what :func:`halved` makes of pixels of a size."""
    return Size(-(-size.width // 2), -(-size.height // 2))


def check_pyramid(*, mpp: float | None, size: Size, tile_px: int, levels: int | None) -> None:
    """Refuse a pyramid that cannot be written.

    Raises
    ------
    SettingsError
        If a parameter is out of range.
    """
    if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
        raise SettingsError(
            f"expected a pixel size between {MIN_MPP:g} and {MAX_MPP:g} µm, got {mpp:g}; choose one in that range"
        )
    if size.width < 1 or size.height < 1:
        raise SettingsError(f"expected at least one pixel, got {size.width} x {size.height}; choose a larger slide")
    if tile_px % 16:
        raise SettingsError(f"expected tile-px to be a multiple of 16, got {tile_px}; choose 256 or 512")
    deepest = max(size.width, size.height).bit_length()
    if levels is not None and not 1 <= levels <= deepest:
        raise SettingsError(f"expected 1 to {deepest} levels, got {levels}; choose a number in that range")
