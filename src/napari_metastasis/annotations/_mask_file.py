"""Tumour masks as files: TIFF pyramids read by region, and pictures, of which only what is not empty is kept."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region, Size

__all__ = ["MaskFile", "detect_tumour_value", "mask_downsample", "tumour_pixels"]

Pixels = NDArray[np.uint8]

_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".svs"})
_JPEG_FAMILY = (6, 7, 33007, 34892)
#: Side of the squares that pictures are kept in; most of them are empty and take no memory.
_BLOCK_PX = 256
#: A picture is decoded whole; larger ones do not fit the memory of most machines.
_MAX_PICTURE_PX = 1 << 30
#: Pixels looked at when the values of a mask are listed.
_SURVEYED_PX = 1 << 24
#: Values of small whole numbers mean classes; anything above is a grey level, of which the upper half is tumour.
_MAX_CLASS, _HALF = 2, 127

_REMEDY = "choose a mask as 8-bit grey TIFF (tiled, with or without a pyramid), PNG or JPEG"
#: What tifffile and imagecodecs raise on damaged files.
_DECODING_ERRORS = (
    tifffile.TiffFileError, OSError, RuntimeError, ValueError, IndexError, TypeError, KeyError, EOFError,
    AttributeError, OverflowError, NotImplementedError, struct.error,
)  # fmt: skip


class _Reader(Protocol):
    """The pixels of a mask, level by level."""

    levels: tuple[Size, ...]

    def read(self, level: int, region: Region) -> Pixels:
        """Return values inside a level, (rows, columns)."""

    def close(self) -> None:
        """Give the file back."""


class MaskFile:
    """An open mask; a pickled one opens its file again where it is unpickled.

    Parameters
    ----------
    path
        TIFF, PNG or JPEG. Of colour images the first channel counts.

    Raises
    ------
    AnnotationError
        If the file cannot be opened or is no such image.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._opened: _Reader | None = None
        self._values: frozenset[int] | None = None
        self._reader()

    @property
    def levels(self) -> tuple[Size, ...]:
        """Return the sizes of its levels, the finest first."""
        return self._reader().levels

    @property
    def size(self) -> Size:
        """Return the size of the finest level."""
        return self.levels[0]

    def downsample(self, level: int) -> float:
        """Return the pixels of the finest level along a pixel of ``level``."""
        ratio = self.size.width / self.levels[level].width
        return 2.0 ** round(np.log2(ratio)) if level else 1.0

    def read(self, region: Region, level: int = 0) -> Pixels:
        """Return values, uint8 of shape (rows, columns); 0 where the region reaches past the mask.

        Raises
        ------
        AnnotationError
            If the file is damaged.
        """
        inside = region.intersection(Region.of(self.levels[level]))
        if inside == region and not region.is_empty:
            return self._read(level, region)
        result = np.zeros(region.size.shape, dtype=np.uint8)
        if not inside.is_empty:
            result[inside.shifted(-region.x, -region.y).slices] = self._read(level, inside)
        return result

    def values(self) -> frozenset[int]:
        """Return the values that it holds, looked up on a level that is quick to read."""
        if self._values is None:
            level = self.level_within(_SURVEYED_PX)
            found = np.zeros(256, dtype=bool)
            for strip in self.strips(level):
                found[np.unique(self.read(strip, level))] = True
            self._values = frozenset(int(value) for value in np.flatnonzero(found))
        return self._values

    def level_within(self, pixels: int) -> int:
        """Return the finest level of at most so many pixels, or the coarsest."""
        fitting = (number for number, size in enumerate(self.levels) if size.area <= pixels)
        return next(fitting, len(self.levels) - 1)

    def strips(self, level: int) -> Iterator[Region]:
        """Yield strips of a level that fit into memory each."""
        size = self.levels[level]
        rows = max(1, _SURVEYED_PX // max(size.width, 1))
        for y in range(0, size.height, rows):
            yield Region(0, y, size.width, min(rows, size.height - y))

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Truths are held by streams, which nobody closes; the attribute is missing where the file did not open.
        if getattr(self, "_opened", None) is not None:
            self.close()

    def _reader(self) -> _Reader:
        if self._opened is None:
            kind = _TiffReader if self.path.suffix.lower() in _TIFF_SUFFIXES else _PictureReader
            try:
                self._opened = kind(self.path)
            except AnnotationError:
                raise
            except _DECODING_ERRORS as error:
                raise AnnotationError(
                    f"expected a mask image, got {self.path}, which cannot be read ({_first_line(error)}); {_REMEDY}"
                ) from error
        return self._opened

    def _read(self, level: int, region: Region) -> Pixels:
        try:
            return self._reader().read(level, region)
        except _DECODING_ERRORS as error:
            raise AnnotationError(
                f"expected mask pixels of {self.path.name} at {region}, got damaged data ({_first_line(error)}); "
                "copy the mask again from its source"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # An open file belongs to its process; another opens it when it first reads.
        return {**self.__dict__, "_opened": None}


def mask_downsample(mask: Size, slide: Size) -> float | None:
    """Return the level-0 pixels along a mask pixel, or ``None`` where the two are not of one shape.

    A mask's sides are the slide's over a whole number, rounded up or down; other ratios are taken as they are where
    both sides agree on them.
    """
    ratio = slide.width / mask.width
    whole = max(1, round(ratio))
    fits = [abs(side / whole - own) <= 1 for side, own in zip(slide.shape, mask.shape, strict=True)]
    if all(fits):
        return float(whole)
    # Both sides agree to within a pixel of the mask.
    return ratio if abs(slide.height / ratio - mask.height) <= 1 and ratio >= 1 else None


def detect_tumour_value(masks: Iterable[MaskFile]) -> int:
    """Return which class means tumour in masks of small numbers: 2 where any of them holds a 2, else 1.

    CAMELYON's masks are 0 for glass, 1 for tissue and 2 for tumour, or 0 and 1 alone; a mask of the first kind without
    tumour looks like one of the second, so that the masks of a whole cohort have to be looked at. Masks that hold
    higher values are grey levels, and have no say.
    """
    small = (values for values in (mask.values() for mask in masks) if max(values, default=0) <= _MAX_CLASS)
    return _MAX_CLASS if any(_MAX_CLASS in values for values in small) else 1


class _TiffReader:
    """A TIFF mask, tile by tile."""

    def __init__(self, path: Path) -> None:
        # Held open: reading a place must not cost the parsing of a pyramid's directories.
        self._file = tifffile.TiffFile(path)
        self._lock = threading.Lock()
        self._pages = [level.keyframe for level in self._file.series[0].levels]
        self._last: tuple[tuple[int, int], Pixels] | None = None
        for page in self._pages:
            if page.dtype is None or page.dtype.kind not in "uib" or getattr(page, "imagedepth", 1) != 1:
                self._file.close()
                raise AnnotationError(f"expected whole numbers in the mask {path}, got {page.dtype}; {_REMEDY}")
        self.levels = tuple(Size(int(page.imagewidth), int(page.imagelength)) for page in self._pages)

    def read(self, level: int, region: Region) -> Pixels:
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

    def _tile(self, level: int, page: Any, index: int) -> Pixels | None:
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
        self._blocks: dict[tuple[int, int], Pixels] = {}
        for block in Region.of(size).split(_BLOCK_PX):
            values = pixels[block.slices]
            key = block.y // _BLOCK_PX, block.x // _BLOCK_PX
            if values.min() == values.max():
                self._constant[key] = int(values[0, 0])
            else:
                self._blocks[key] = values.copy()

    def read(self, level: int, region: Region) -> Pixels:
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


def _as_bytes(pixels: NDArray[Any]) -> Pixels:
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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def tumour_pixels(pixels: Pixels, values: frozenset[int], tumour_value: int) -> NDArray[np.bool_]:
    """Return which mask pixels are tumour.

    Parameters
    ----------
    pixels
        Values of the mask.
    values
        All values of the mask, from :meth:`MaskFile.values`.
    tumour_value
        The class that means tumour, from :func:`detect_tumour_value`; grey levels follow their upper half instead.
    """
    return pixels > _HALF if max(values, default=0) > _MAX_CLASS else pixels == tumour_value
