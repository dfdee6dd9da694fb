"""A slide with one dark disc, which the model of ``dark_model`` takes for tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_metastasis.geometry import Point, Size
from napari_metastasis.slides import write_pyramid

__all__ = ["DISC_CENTER", "DISC_RADIUS", "MPP", "write_disc_slide"]

MPP = 0.486
#: In level-0 pixels.
DISC_CENTER, DISC_RADIUS = Point(1130.0, 640.0), 250.0


def write_disc_slide(path: Path) -> Path:
    """Write pink tissue on glass with the disc in it; return the path."""
    height, width = 1200, 1700
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.full((height, width, 3), 245, np.uint8)
    pixels[300:1000, 500:1500] = (225, 150, 195)
    pixels[np.hypot(columns - DISC_CENTER.x, rows - DISC_CENTER.y) < DISC_RADIUS] = (90, 30, 110)
    write_pyramid(path, pixels, mpp=MPP, size=Size(width, height), compression="deflate")
    return path
