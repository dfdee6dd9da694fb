"""Tumour masks as files: TIFF pyramids read by region, and pictures, of which only what is not empty is kept."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from napari_metastasis.annotations.mask_readers import MASK_REMEDY, MaskReader, Values, open_reader
from napari_metastasis.errors import AnnotationError, first_line
from napari_metastasis.geometry import Region, Size

__all__ = ["MaskFile", "mask_downsample"]

#: Pixels looked at when the values of a mask are listed: level 5 of CAMELYON's largest, 8 µm each.
_SURVEYED_PX = 1 << 25
#: A level's scale that is so near to a power of two is taken for it: sides that were padded to whole tiles tell less.
_PADDED_SHARE = 0.1

#: What tifffile and imagecodecs raise on damaged files.
_DECODING_ERRORS = (
    tifffile.TiffFileError, OSError, RuntimeError, ValueError, IndexError, TypeError, KeyError, EOFError,
    AttributeError, OverflowError, NotImplementedError, AssertionError, ZeroDivisionError, MemoryError, struct.error,
)  # fmt: skip


class MaskFile:
    """An open mask; a pickled one opens its file again when it is next read.

    Parameters
    ----------
    path
        TIFF, PNG or JPEG: grey, or numbers of a palette; white is 0 where the TIFF says so.

    Raises
    ------
    AnnotationError
        If the file cannot be opened or is no such image.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._opened: MaskReader | None = None
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
        if not level:
            return 1.0
        whole = mask_downsample(self.levels[level], self.size)
        # Most pyramids halve, and round or pad the sides of what they halved.
        halved = 2.0 ** round(np.log2(self.size.width / self.levels[level].width))
        return halved if whole is None or abs(whole / halved - 1) < _PADDED_SHARE else whole

    def read(self, region: Region, level: int = 0) -> Values:
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
            try:
                found = self._reader().values(level)
            except _DECODING_ERRORS as error:
                raise AnnotationError(
                    f"expected mask pixels of {self.path.name}, got damaged data ({first_line(error)}); copy the mask "
                    "again from its source"
                ) from error
            self._values = frozenset(int(value) for value in np.flatnonzero(found))
        return self._values

    def level_within(self, pixels: int) -> int:
        """Return the finest level of at most so many pixels, or the coarsest."""
        fitting = (number for number, size in enumerate(self.levels) if size.area <= pixels)
        return next(fitting, len(self.levels) - 1)

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
        # Nobody closes the references that batches hold; the attribute is missing where the file did not open.
        if getattr(self, "_opened", None) is not None:
            self.close()

    def _reader(self) -> MaskReader:
        if self._opened is None:
            try:
                self._opened = open_reader(self.path)
            except AnnotationError:
                raise
            except _DECODING_ERRORS as error:
                raise AnnotationError(
                    f"expected a mask image, got {self.path}, which cannot be read ({first_line(error)}); "
                    + MASK_REMEDY
                ) from error
        return self._opened

    def _read(self, level: int, region: Region) -> Values:
        try:
            return self._reader().read(level, region)
        except _DECODING_ERRORS as error:
            raise AnnotationError(
                f"expected mask pixels of {self.path.name} at {region}, got damaged data ({first_line(error)}); "
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
