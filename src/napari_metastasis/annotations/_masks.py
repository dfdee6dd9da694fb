"""Masks as images: CAMELYON's tumour pyramids, and single pictures of one resolution."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_metastasis.errors import AnnotationError

__all__ = ["MaskImage", "mask_value", "read_mask"]

#: What libraries raise on damaged files.
_DAMAGE = (
    ValueError, KeyError, IndexError, TypeError, RuntimeError, EOFError, OSError, AttributeError, AssertionError,
    NotImplementedError, struct.error, OverflowError, ZeroDivisionError,
)  # fmt: skip
#: A page belongs to the pyramid where both its sides shrink alike to within this share, or to within two pixels.
_TOLERANCE = 0.01
#: Rows that are read at a time where a finer level is thinned out, which bounds memory.
_STRIP = 512


@dataclass(frozen=True, slots=True, eq=False)
class MaskImage:
    """A mask at one resolution.

    Attributes
    ----------
    path
        Its file.
    values
        (rows, columns) uint8, as stored: which value means tumour is for :func:`mask_value` to say.
    extent
        Level-0 width and height that the file speaks for; a pixel may reach past the slide.
    """

    path: Path
    values: NDArray[np.uint8]
    extent: tuple[float, float]

    @property
    def stored_values(self) -> tuple[int, ...]:
        """Return the values that occur, in order."""
        return tuple(int(value) for value in np.flatnonzero(np.bincount(self.values.ravel(), minlength=256)))


def read_mask(path: str | os.PathLike[str], *, downsample: int, stored_downsample: float) -> MaskImage:
    """Read a mask at a resolution of the slide's.

    A coarser mask than the file holds takes every n-th pixel, never a mean, so that values stay what they are.

    Parameters
    ----------
    path
        A PNG, or a TIFF of one resolution or of several.
    downsample
        Level-0 pixels along a pixel wanted.
    stored_downsample
        Level-0 pixels along a pixel of a file of one resolution. A pyramid's first level is the slide's level 0.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no mask, or is coarser than wanted.
    """
    path = Path(path)
    try:
        values, extent = (_tiff if path.suffix.casefold() in {".tif", ".tiff"} else _picture)(
            path, downsample, stored_downsample
        )
    except AnnotationError:
        raise
    except FileNotFoundError as error:
        raise AnnotationError(f"expected a mask at {path}, got none there; check the path") from error
    except (*_DAMAGE, tifffile.TiffFileError, imagecodecs.DelayedImportError) as error:
        raise AnnotationError(
            f"expected a mask as a PNG or TIFF image, got {path}, which does not decode ({error}); save it again"
        ) from error
    return MaskImage(path=path, values=_one_channel(values, path), extent=extent)


def mask_value(values: Iterable[int], what: str) -> int:
    """Return the value that means tumour in masks of one origin: 255; or 2, beside which 1 is normal tissue; or 1.

    Parameters
    ----------
    values
        Every value that occurs in them.
    what
        What the masks are called, for the message.

    Raises
    ------
    AnnotationError
        If the values allow of no single answer.
    """
    stored = frozenset(values) - {0}
    meanings = {frozenset(): 255, frozenset({255}): 255, frozenset({1}): 1, frozenset({2}): 2, frozenset({1, 2}): 2}
    if stored not in meanings:
        shown = sorted(stored)
        listing = ", ".join(map(str, shown[:8])) + (", …" if len(shown) > 8 else "")
        raise AnnotationError(
            f"expected masks in which tumour is 255, 2 or 1, got the values {listing} in {what}; "
            "say which one is tumour with --tumour-value"
        )
    return meanings[stored]


def _picture(path: Path, downsample: int, stored: float) -> tuple[NDArray[np.generic], tuple[float, float]]:
    values = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    rows, columns = values.shape[:2]
    step = _step(stored, downsample, path)
    # The last pixels of a level may have been cut off: one more of each is allowed for.
    return values[::step, ::step], ((columns + 1) * stored, (rows + 1) * stored)


def _tiff(path: Path, downsample: int, stored: float) -> tuple[NDArray[np.generic], tuple[float, float]]:
    with tifffile.TiffFile(path) as file:
        levels = _levels(file)
        width, height = levels[0].imagewidth, levels[0].imagelength
        scales = [width / level.imagewidth for level in levels] if len(levels) > 1 else [stored]
        fine = [number for number, scale in enumerate(scales) if scale <= downsample * (1 + _TOLERANCE)]
        chosen = fine[-1] if fine else 0
        step = _step(scales[chosen], downsample, path)
        extent = (width, height) if len(levels) > 1 else ((width + 1) * stored, (height + 1) * stored)
        return _thinned(levels[chosen], step), extent


def _levels(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Return the pages of the pyramid, finest first: some files do not mark them as one."""
    series = [level.keyframe for level in file.series[0].levels]
    if len(series) > 1:
        return series
    first = file.pages[0].aspage()
    levels = [first]
    for other in file.pages[1:]:
        page = other.aspage()
        scale = first.imagewidth / page.imagewidth
        off = abs(first.imagelength / scale - page.imagelength)
        if page.imagewidth < levels[-1].imagewidth and off <= max(2, _TOLERANCE * page.imagelength):
            levels.append(page)
    return levels


def _thinned(page: tifffile.TiffPage, step: int) -> NDArray[np.generic]:
    """Return every ``step``-th pixel of a page, which is read in strips where not all of it is wanted."""
    if step == 1:
        return page.asarray()
    with page.aszarr() as store:
        array = zarr.open_array(store, mode="r")
        tops = range(0, array.shape[0], _STRIP * step)
        return np.concatenate([np.asarray(array[top : top + _STRIP * step])[::step, ::step] for top in tops])


def _step(stored: float, downsample: int, path: Path) -> int:
    step = round(downsample / stored)
    if step < 1 or abs(step * stored / downsample - 1) > _TOLERANCE:
        raise AnnotationError(
            f"expected a mask with a pixel for every {downsample} level-0 pixels, or a whole fraction of that, got one "
            f"for every {stored:g} in {path}; export it at another level"
        )
    return step


def _one_channel(values: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    """Return the mask of an image whose colours are all grey; an alpha channel says nothing."""
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise AnnotationError(f"expected a mask of one channel, got colours in {path}; choose the slide's mask")
        values = values[..., 0]
    if values.ndim != 2 or values.dtype not in (np.uint8, np.bool_):
        raise AnnotationError(
            f"expected a mask of 8-bit values, got {values.dtype} of shape {values.shape} in {path}; "
            "save it with 8 bits"
        )
    return values.astype(np.uint8, copy=False)
