"""TIFF files that the package's own writer does not write."""

from __future__ import annotations

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


def write_empty_levels(path: Path, size: Size) -> None:
    """Write a pyramid whose tiles are all left out."""
    width, height, scale = size.width, size.height, 1
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        while True:
            tiff.write(
                (b"" for _ in range(-(-width // 512) * -(-height // 512))),
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
