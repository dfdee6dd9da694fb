"""Slides of known geometry: a dark disc at a stated place, for tests of where things lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Point, Region, Size
from napari_metastasis.slides import write_pyramid

__all__ = ["DiscPhantom", "disc_slide"]

#: Side of the squares that the background's texture is drawn in.
_BLOCK = 256
_PALE = np.array([233.0, 214.0, 226.0], dtype=np.float32)
_DARK = np.array([78.0, 40.0, 110.0], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscPhantom:
    """A pale, faintly textured slide with one dark-purple disc.

    Attributes
    ----------
    size
        Of level 0, in pixels.
    mpp
        Micrometres per level-0 pixel.
    center
        Of the disc, in level-0 pixels; (0, 0) is the corner of the first pixel.
    radius_px
        Of the disc, in level-0 pixels.
    seed
        Of the texture.
    """

    size: Size
    mpp: float
    center: Point
    radius_px: float
    seed: int = 0

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8 of ``region`` in level-0 pixels: the same pixel whatever the region is.

        Raises
        ------
        RegionError
            If the region does not lie on the slide.
        """
        if region.is_empty or not Region.of(self.size).contains(region):
            raise RegionError(
                f"expected a region on the slide ({Region.of(self.size)}), got {region}; choose one inside"
            )
        x = np.arange(region.x, region.right) + 0.5 - self.center.x
        y = np.arange(region.y, region.bottom) + 0.5 - self.center.y
        # Pixels on the rim take the disc's share of them, so that the centroid is right to a fraction of a pixel.
        disc = (self.radius_px - np.hypot(x, y[:, None]) + 0.5).clip(0, 1)[..., None].astype(np.float32)
        colour = disc * _DARK + (1 - disc) * (_PALE + self._texture(region)[..., None])
        return colour.round().astype(np.uint8)

    def _texture(self, region: Region) -> NDArray[np.float32]:
        """Return grey values within ±6 that depend on the place alone."""
        texture = np.empty(region.size.shape, dtype=np.float32)
        for part in region.split(_BLOCK):
            column, row = part.x // _BLOCK, part.y // _BLOCK
            block = np.random.default_rng((self.seed, row, column)).uniform(-6, 6, (_BLOCK, _BLOCK))
            inner = part.shifted(-column * _BLOCK, -row * _BLOCK)
            texture[part.shifted(-region.x, -region.y).slices] = block[inner.slices]
        return texture


def disc_slide(
    path: str | os.PathLike[str], *, size: Size, mpp: float, center: Point, radius_px: float, seed: int = 0
) -> DiscPhantom:
    """Write a pyramidal TIFF of a :class:`DiscPhantom` and return the phantom.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    size, mpp, center, radius_px, seed
        See :class:`DiscPhantom`.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    phantom = DiscPhantom(size=size, mpp=mpp, center=center, radius_px=radius_px, seed=seed)
    write_pyramid(Path(path), phantom.read, size=size, mpp=mpp)
    return phantom
