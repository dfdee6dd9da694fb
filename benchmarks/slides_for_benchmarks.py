"""Slides of any size in seconds: a few JPEG tiles of tissue-like texture, repeated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from napari_metastasis.scanning.engines.tuning import phantom

__all__ = ["write_repeated_slide"]

_TILE_PX = 512
_KINDS = 8
_UM_PER_CM = 10_000


def _tiles() -> list[bytes]:
    """Return JPEG tiles that decode as slowly as tissue does."""
    texture = phantom(_TILE_PX * 3)[0]
    offsets = itertools.product((0, 300, 700, 1000), repeat=2)
    cut = (texture[y : y + _TILE_PX, x : x + _TILE_PX] for x, y in itertools.islice(offsets, _KINDS))
    return [imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=85) for tile in cut]


def write_repeated_slide(path: Path, side_px: int, *, mpp: float) -> None:
    """Write a square slide of tissue from edge to edge, with levels at 1/2, 1/4, … down to one tile.

    Parameters
    ----------
    path
        File to write; one that is there is kept.
    side_px
        Side of level 0.
    mpp
        Its µm per pixel.
    """
    if path.exists():
        return
    kinds = _tiles()

    def repeated(side: int) -> Iterator[bytes]:
        for number in range((-(-side // _TILE_PX)) ** 2):
            yield kinds[(number * 5 + number // 7) % _KINDS]

    partial = path.with_suffix(".part")
    with tifffile.TiffWriter(partial, bigtiff=True) as tiff:
        downsample = 1
        while True:
            side = -(-side_px // downsample)
            tiff.write(
                repeated(side),
                shape=(side, side, 3),
                dtype="uint8",
                tile=(_TILE_PX, _TILE_PX),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                resolution=(_UM_PER_CM / (mpp * downsample),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )
            if side <= _TILE_PX:
                break
            downsample *= 2
    partial.rename(path)
