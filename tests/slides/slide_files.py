"""TIFF files that the package's own writer does not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile


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
