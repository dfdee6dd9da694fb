"""A slide with dark spots of the size of mitoses, which the model of ``dark_spots`` finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

__all__ = ["SPOTS", "SPOT_MPP", "write_shaded_spots", "write_spotted_slide"]

SPOT_MPP = 0.25
#: (x, y) in level-0 pixels; the last three lie together, and one at the corner of pieces of 256 cells.
SPOTS = np.array(
    [(351, 323), (1101, 400), (1024, 768), (600, 950), (1500, 280), (1550, 320), (1490, 340)], dtype=np.float64
)
_RADIUS_PX = 14


def write_spotted_slide(path: Path) -> Path:
    """Write pink tissue on glass, the left half of it darker, with the spots in it; return the path."""
    height, width = 1200, 1800
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.full((height, width, 3), 245, np.uint8)
    pixels[200:1000, 200:1700] = (225, 150, 195)
    pixels[200:1000, 200:800] = (110, 50, 115)
    for x, y in SPOTS:
        pixels[np.hypot(columns - x, rows - y) < _RADIUS_PX] = (30, 10, 40)
    write_pyramid(path, pixels, mpp=SPOT_MPP, size=Size(width, height), compression="deflate")
    return path


def write_shaded_spots(path: Path, spots: Sequence[tuple[float, float, float]]) -> Path:
    """Write a smaller one, whose spots are x, y and darkness, 1 of black: the darker, the surer the model is."""
    height, width = 1300, 1500
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.full((height, width, 3), 245, np.uint8)
    pixels[100:-100, 100:-100] = (225, 150, 195)
    for x, y, darkness in spots:
        pixels[np.hypot(columns - x, rows - y) < _RADIUS_PX] = round(255 * (1 - darkness))
    write_pyramid(path, pixels, mpp=SPOT_MPP, size=Size(width, height), compression="deflate")
    return path
