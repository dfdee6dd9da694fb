"""Masks of whole slides at one resolution, and the value in them that means tumour."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations._mask_file import MaskFile
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region

__all__ = ["MaskImage", "mask_value", "read_mask"]

#: A level fits where its pixels are this nearly a whole fraction of those wanted.
_TOLERANCE = 0.01
#: Rows of the result that are read at a time, which bounds memory.
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
        An image of one resolution, or a TIFF of several.
    downsample
        Level-0 pixels along a pixel wanted.
    stored_downsample
        Level-0 pixels along a pixel of a file of one resolution. A pyramid's first level is the slide's level 0.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no mask, or is coarser than wanted.
    """
    with closing(MaskFile(path)) as file:
        base = 1.0 if len(file.levels) > 1 else stored_downsample
        scales = [base * file.downsample(level) for level in range(len(file.levels))]
        fine = [level for level, scale in enumerate(scales) if scale <= downsample * (1 + _TOLERANCE)]
        level = fine[-1] if fine else 0
        step = _step(scales[level], downsample, file.path)
        # The last pixels of a level may have been cut off where it is all there is: one more of each is allowed for.
        spare = 0 if len(file.levels) > 1 else 1
        extent = (file.size.width + spare) * base, (file.size.height + spare) * base
        return MaskImage(path=file.path, values=_thinned(file, level, step), extent=extent)


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


def _thinned(file: MaskFile, level: int, step: int) -> NDArray[np.uint8]:
    """Return every ``step``-th pixel of a level."""
    size = file.levels[level]
    strips = [
        file.read(Region(0, top, size.width, min(_STRIP * step, size.height - top)), level)[::step, ::step]
        for top in range(0, size.height, _STRIP * step)
    ]
    return np.concatenate(strips)


def _step(stored: float, downsample: int, path: Path) -> int:
    step = round(downsample / stored)
    if step < 1 or abs(step * stored / downsample - 1) > _TOLERANCE:
        raise AnnotationError(
            f"expected a mask with a pixel for every {downsample} level-0 pixels, or a whole fraction of that, got one "
            f"for every {stored:g} in {path}; export it at another level"
        )
    return step
