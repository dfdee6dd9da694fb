"""Regions with masks, put side by side on one slide, so that they can be scanned as a slide is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import write_pyramid

#: White between two regions: as wide as half of the widest window, so that no answer within one sees another.
GAP_PX = 256


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Where each region lies on the slide, and which of its pixels are tumour."""

    places: tuple[Region, ...]
    masks: tuple[NDArray[np.bool_], ...]


def _unchanged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image


def write_mosaic(
    folder: Path,
    slide: Path,
    *,
    mpp: float,
    columns: int = 6,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = _unchanged,
) -> Mosaic:
    """Write the images of ``folder/images`` on one pyramidal slide, and return where they lie.

    Parameters
    ----------
    folder
        Holds ``images`` and ``masks`` with files of the same names; a mask is tumour from 128 on.
    slide
        TIFF file to write.
    mpp
        Micrometres per pixel of the images.
    columns
        Images in a row.
    change
        From a region's image to what is laid in its place; none by default.
    """
    names = sorted(path.name for path in (folder / "images").iterdir())
    images = [change(np.asarray(imagecodecs.imread(folder / "images" / name))) for name in names]
    masks = [read_mask(folder / "masks" / name) for name in names]
    side = images[0].shape[0]
    step = side + GAP_PX
    rows = -(-len(images) // columns)
    canvas = np.full((rows * step + GAP_PX, columns * step + GAP_PX, 3), 255, np.uint8)
    places = []
    for k, image in enumerate(images):
        place = Region(GAP_PX + k % columns * step, GAP_PX + k // columns * step, side, side)
        canvas[place.slices] = image
        places.append(place)
    size = Size(canvas.shape[1], canvas.shape[0])
    write_pyramid(slide, canvas, mpp=mpp, size=size, compression="deflate")
    return Mosaic(tuple(places), tuple(masks))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return which pixels of a region are tumour."""
    mask = np.asarray(imagecodecs.imread(path)) > 127
    return mask if mask.ndim == 2 else mask[..., 0]
