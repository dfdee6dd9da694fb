"""Masks of whole slides at one resolution."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations.mask_file import MaskFile
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region

__all__ = ["MaskImage", "read_mask"]

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
        (rows, columns) uint8, as stored; :func:`~napari_metastasis.annotations.tumour_pixels` tells tumour
    extent
        Level-0 width and height that the file covers; its last pixels may reach past the slide.
    """

    path: Path
    values: NDArray[np.uint8]
    extent: tuple[float, float]

    @property
    def stored_values(self) -> frozenset[int]:
        """Return the values that occur."""
        return frozenset(np.flatnonzero(np.bincount(self.values.ravel(), minlength=256)).tolist())


def read_mask(
    mask: str | os.PathLike[str] | MaskFile,
    *,
    downsample: int,
    stored_downsample: float,
    pyramid_downsample: float = 1.0,
) -> MaskImage:
    """Read a mask at a resolution of the slide's.

    A coarser mask than the file holds takes every n-th pixel, never a mean, so that values stay what they are.

    Parameters
    ----------
    mask
        An image of one resolution, or a TIFF of several; it is closed.
    downsample
        Level-0 pixels along a pixel wanted.
    stored_downsample
        Level-0 pixels along a pixel of a file of one resolution.
    pyramid_downsample
        The same of a pyramid's first level, which is mostly the slide's level 0.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no mask, or is coarser than wanted.
    """
    with mask if isinstance(mask, MaskFile) else MaskFile(mask) as file:
        base = pyramid_downsample if len(file.levels) > 1 else stored_downsample
        scales = [base * file.downsample(level) for level in range(len(file.levels))]
        # The coarsest one that what is wanted is a whole multiple of: pyramids need not halve.
        level = max((level for level, scale in enumerate(scales) if _fits(scale, downsample)), default=0)
        step = _step(scales[level], downsample, file.path)
        # The last pixels of a level may have been cut off where it is all there is: one more of each is allowed for.
        spare = 0 if len(file.levels) > 1 else 1
        extent = (file.size.width + spare) * base, (file.size.height + spare) * base
        return MaskImage(path=file.path, values=_thinned(file, level, step), extent=extent)


def _thinned(file: MaskFile, level: int, step: int) -> NDArray[np.uint8]:
    """Return every ``step``-th pixel of a level."""
    size = file.levels[level]
    strips = [
        file.read(Region(0, top, size.width, min(_STRIP * step, size.height - top)), level)[::step, ::step]
        for top in range(0, size.height, _STRIP * step)
    ]
    return np.concatenate(strips)


def _fits(stored: float, downsample: int) -> bool:
    step = round(downsample / stored)
    return step >= 1 and abs(step * stored / downsample - 1) <= _TOLERANCE


def _step(stored: float, downsample: int, path: Path) -> int:
    step = round(downsample / stored)
    if not _fits(stored, downsample):
        raise AnnotationError(
            f"expected a mask with a pixel for every {downsample} level-0 pixels, or a whole fraction of that, got one "
            f"for every {stored:g} in {path}; export it at another level"
        )
    return step
