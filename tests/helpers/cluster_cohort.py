"""Small slides for several workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.geometry import Size
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import write_pyramid

__all__ = ["SCAN", "write_slides"]

#: Nothing is left to be measured; many pieces, so that a scan can be met in the middle.
SCAN = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=192, dense_coefficient=2)
_SIDE_PX = 600


def write_slides(folder: Path, count: int) -> list[CohortSlide]:
    """Write slides, each with a dark square elsewhere."""
    slides = []
    for number in range(count):
        pixels = np.full((_SIDE_PX, _SIDE_PX, 3), 245, np.uint8)
        pixels[60:540, 60:540] = (225, 150, 195)
        corner = 80 + 35 * number
        pixels[corner : corner + 120, 150:300] = (90, 30, 110)
        path = folder / f"slide-{number}.tif"
        write_pyramid(path, pixels, mpp=0.972, size=Size(_SIDE_PX, _SIDE_PX), compression="deflate")
        slides.append(CohortSlide(name=path.stem, path=path))
    return slides
