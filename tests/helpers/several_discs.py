"""A slide with several dark discs at stated places: findings to go through."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

__all__ = ["discs_slide"]

_PALE = np.array([233.0, 214.0, 226.0], dtype=np.float32)
_DARK = np.array([78.0, 40.0, 110.0], dtype=np.float32)


def discs_slide(
    path: Path, *, width_um: float, height_um: float, mpp: float, discs: Iterable[tuple[float, float, float]]
) -> Path:
    """Write a pale slide with dark discs, and return its path.

    Parameters
    ----------
    path
        File to write.
    width_um, height_um
        Of the slide.
    mpp
        Its pixels, in µm.
    discs
        x and y of the centre, and radius, in µm.
    """
    size = Size(round(width_um / mpp), round(height_um / mpp))
    rng = np.random.default_rng(3)
    pixels = _PALE + rng.normal(0, 2, (size.height, size.width, 1)).astype(np.float32)
    y, x = np.ogrid[: size.height, : size.width]
    for center_x, center_y, radius in discs:
        pixels[np.hypot((x + 0.5) * mpp - center_x, (y + 0.5) * mpp - center_y) < radius] = _DARK
    write_pyramid(path, np.rint(pixels).clip(0, 255).astype(np.uint8), mpp=mpp, size=size)
    return path
