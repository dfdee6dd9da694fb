"""The pixels of mask images, level by level: TIFF tile by tile, pictures by their blocks that are not of one value."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Any, Protocol

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region, Size

__all__ = ["MASK_REMEDY", "MaskReader", "Values", "open_reader"]

Values = NDArray[np.uint8]

MASK_REMEDY = "choose a mask as 8-bit grey TIFF (tiled, with or without a pyramid), PNG or JPEG"
_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".svs"})
_JPEG_FAMILY = (6, 7, 33007, 34892)
#: Side of the squares that pictures are kept in; most of them are empty and take no memory.
_BLOCK_PX = 256
#: A picture is decoded whole; larger ones do not fit the memory of most machines.
_MAX_PICTURE_PX = 1 << 30
#: A page is a level of the one before where its sides shrink alike, to within so many pixels of rounding.
_OFF_PX = 2


class MaskReader(Protocol):
    """The pixels of a mask, level by level."""

    levels: tuple[Size, ...]

    def read(self, level: int, region: Region) -> Values:
        """Return values inside a level, (rows, columns)."""

    def close(self) -> None:
        """Give the file back."""


def open_reader(path: Path) -> MaskReader:
    """Open a mask; what its library raises on damaged files passes unchanged."""
    return _TiffReader(path) if path.suffix.lower() in _TIFF_SUFFIXES else _PictureReader(path)


class _TiffReader:
    """A TIFF mask, tile by tile."""

    def __init__(self, path: Path) -> None:
        # Held open: reading a place must not cost the parsing of a pyramid's directories.
        self._file = tifffile.TiffFile(path)
        self._lock = threading.Lock()
        self._pages = _pyramid(self._file)
        self._last: tuple[tuple[int, int], Values] | None = None
        for page in self._pages:
            if page.dtype is None or page.dtype.kind not in "uib" or getattr(page, "imagedepth", 1) != 1:
                self._file.close()
                raise AnnotationError(f"expected whole numbers in the mask {path}, got {page.dtype}; {MASK_REMEDY}")
        self.levels = tuple(Size(int(page.imagewidth), int(page.imagelength)) for page in self._pages)

    def read(self, level: int, region: Region) -> Values:
        page, size = self._pages[level], self.levels[level]
        width, height = (
            (page.tilewidth, page.tilelength) if page.is_tiled else (size.width, min(page.rowsperstrip, size.height))
        )
        columns = -(-size.width // width)
        result = np.zeros(region.size.shape, dtype=np.uint8)
        for row in range(region.y // height, -(-region.bottom // height)):
            for column in range(region.x // width, -(-region.right // width)):
                place = Region(column * width, row * height, width, height)
                part = place.intersection(region)
                tile = self._tile(level, page, row * columns + column)
                if tile is not None:
                    result[part.shifted(-region.x, -region.y).slices] = tile[part.shifted(-place.x, -place.y).slices]
        return result

    def _tile(self, level: int, page: Any, index: int) -> Values | None:
        """Return a decoded piece, ``None`` where the file leaves it out: nothing is marked there."""
        count = int(page.databytecounts[index])
        if count == 0:
            return None
        with self._lock:
            if self._last is not None and self._last[0] == (level, index):
                return self._last[1]
            data = self._bytes(int(page.dataoffsets[index]), count)
        tables = (
            {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG_FAMILY else {}
        )
        decoded, _, _ = page.decode(data, index, **tables)
        if decoded is None:
            return None
        tile = _as_bytes(np.asarray(decoded)[0, :, :, 0])
        with self._lock:
            self._last = (level, index), tile
        return tile

    def _bytes(self, offset: int, count: int) -> bytes:
        handle = self._file.filehandle
        if hasattr(os, "pread"):
            # A forked process shares the file's position with this one.
            return os.pread(handle.fileno(), count, offset)
        handle.seek(offset)
        data: bytes = handle.read(count)
        return data

    def close(self) -> None:
        self._file.close()


class _PictureReader:
    """A picture, decoded once and kept as its blocks that are not of one value."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        _check_picture_size(data, path)
        decoded = imagecodecs.imread(data)
        pixels = _as_bytes(decoded if decoded.ndim == 2 else decoded[..., 0])
        size = Size(pixels.shape[1], pixels.shape[0])
        self.levels: tuple[Size, ...] = (size,)
        self._constant: dict[tuple[int, int], int] = {}
        self._blocks: dict[tuple[int, int], Values] = {}
        for block in Region.of(size).split(_BLOCK_PX):
            values = pixels[block.slices]
            key = block.y // _BLOCK_PX, block.x // _BLOCK_PX
            if values.min() == values.max():
                self._constant[key] = int(values[0, 0])
            else:
                self._blocks[key] = values.copy()

    def read(self, level: int, region: Region) -> Values:
        del level
        result = np.empty(region.size.shape, dtype=np.uint8)
        for part in region.split(_BLOCK_PX):
            key = part.y // _BLOCK_PX, part.x // _BLOCK_PX
            target = part.shifted(-region.x, -region.y).slices
            if key in self._constant:
                result[target] = self._constant[key]
            else:
                result[target] = self._blocks[key][part.shifted(-key[1] * _BLOCK_PX, -key[0] * _BLOCK_PX).slices]
        return result

    def close(self) -> None:
        """Nothing is open."""


def _pyramid(file: tifffile.TiffFile) -> list[Any]:
    """Return the pages of a pyramid, the finest first; some writers do not mark further pages as its levels."""
    pages = [level.keyframe for level in file.series[0].levels]
    if len(pages) > 1:
        return pages
    first = pages[0]
    for series in file.series[1:]:
        page = series.keyframe
        ratio = first.imagewidth / page.imagewidth
        if page.imagewidth < pages[-1].imagewidth and abs(first.imagelength / ratio - page.imagelength) <= _OFF_PX:
            pages.append(page)
    return pages


def _as_bytes(pixels: NDArray[Any]) -> Values:
    """Return values as uint8; what is larger than a byte is a label above all classes."""
    return pixels if pixels.dtype == np.uint8 else np.clip(pixels, 0, 255).astype(np.uint8)


def _check_picture_size(data: bytes, path: Path) -> None:
    """Refuse pictures that would fill the memory, by the header that PNG begins with."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        if width * height > _MAX_PICTURE_PX:
            raise AnnotationError(
                f"expected a mask of at most {_MAX_PICTURE_PX:,} pixels, got {width} x {height} in {path}; "
                "save it as a tiled TIFF, or coarser"
            )
