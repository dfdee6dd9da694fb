"""Small slides with a dark square, to train on in seconds."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

__all__ = ["MPP", "SIDE", "no_bar", "write_slide"]

SIDE, MPP = 640, 0.972


def write_slide(path, seed, *, tumour):
    """Pink tissue with a dark square: tumour, or a mimic of another hue."""
    generator = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), 245, np.int16)
    pixels[40:600, 40:600] = (225, 150, 195)
    pixels[200:400, 240:440] = (70, 30, 110) if tumour else (110, 30, 70)
    pixels += generator.integers(-12, 13, pixels.shape, dtype=np.int16)
    write_pyramid(path, pixels.clip(0, 255).astype(np.uint8), mpp=MPP, size=Size(SIDE, SIDE), compression="deflate")


def no_bar(title):
    assert title
    return nullcontext(lambda *_: None)
