"""Slides with dark spots at known places, which the model of ``dark_mitoses`` finds, as sure as they are dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

__all__ = ["SPOT_MPP", "SPOT_SIZE", "write_spots"]

SPOT_MPP, SPOT_SIZE = 0.25, Size(1500, 1300)
#: In level-0 pixels: 3 µm.
_RADIUS_PX = 12


def write_spots(path: Path, spots: Sequence[tuple[float, float, float]]) -> Path:
    """Write pink tissue on glass with spots, each x, y (level-0 pixels) and its darkness, 1 of black."""
    rows, columns = np.mgrid[: SPOT_SIZE.height, : SPOT_SIZE.width] + 0.5
    pixels = np.full((SPOT_SIZE.height, SPOT_SIZE.width, 3), 245, np.uint8)
    pixels[100:-100, 100:-100] = (225, 150, 195)
    for x, y, darkness in spots:
        pixels[np.hypot(columns - x, rows - y) < _RADIUS_PX] = round(255 * (1 - darkness))
    write_pyramid(path, pixels, mpp=SPOT_MPP, size=SPOT_SIZE, compression="deflate")
    return path
