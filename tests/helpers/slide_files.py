"""TIFF files that the package's own writer does not write."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from napari_metastasis.geometry import Size


def write_levels(path: Path, pixels: npt.NDArray[np.uint8], *, downsamples: tuple[int, ...], mpp: float) -> None:
    """Write chosen levels only, averaged and cut as Aperio cuts them."""
    with tifffile.TiffWriter(path) as tiff:
        for index, step in enumerate(downsamples):
            rows, columns = pixels.shape[0] // step * step, pixels.shape[1] // step * step
            boxes = pixels[:rows, :columns].reshape(rows // step, step, columns // step, step, 3)
            per_cm = 1e4 / (mpp * step)
            tiff.write(
                boxes.mean(axis=(1, 3)).round().astype(np.uint8),
                tile=(128, 128),
                photometric="rgb",
                compression="zlib",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if index else 0,
                metadata=None,
            )


def write_empty_levels(
    path: Path, size: Size, *, piece: npt.NDArray[np.uint8] | None = None, corner: tuple[int, int] = (0, 0)
) -> None:
    """Write a pyramid at 0.25 µm/px whose tiles are all left out, but for a piece of 512 x 512 px.

    Parameters
    ----------
    path, size
        File to write, and level 0's size.
    piece
        uint8, (512, 512, 3).
    corner
        Its x and y; multiples of 512.
    """
    width, height, scale = size.width, size.height, 1
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        while True:
            tiff.write(
                _tiles(width, height, piece, (corner[0] // scale, corner[1] // scale)),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(512, 512),
                photometric="rgb",
                compression="zlib",
                resolution=(4e4 / scale, 4e4 / scale),
                resolutionunit="CENTIMETER",
                subfiletype=1 if scale > 1 else 0,
                metadata=None,
            )
            if max(width, height) <= 512:
                return
            width, height, scale = -(-width // 2), -(-height // 2), scale * 2
            if piece is not None:
                piece = piece.reshape(piece.shape[0] // 2, 2, -1, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def _tiles(width: int, height: int, piece: npt.NDArray[np.uint8] | None, corner: tuple[int, int]) -> Iterator[bytes]:
    x, y = corner
    for row in range(-(-height // 512)):
        for column in range(-(-width // 512)):
            if piece is None or (column, row) != (x // 512, y // 512):
                yield b""
                continue
            tile = np.full((512, 512, 3), 255, np.uint8)
            tile[y % 512 : y % 512 + len(piece), x % 512 : x % 512 + len(piece)] = piece
            yield zlib.compress(tile.tobytes())
