"""Patches as another scanner, stain or archive would have shown them, to ask how steady a model is.

Each shift is one change of known size to every patch, drawn from a seed where it has a direction, so that two models
see the very same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import imagecodecs
import numpy as np
import numpy.typing as npt
from changed_patches import ChangedPatches
from scipy.ndimage import affine_transform, gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv

from napari_metastasis.cohorts.patches import PatchSource

__all__ = ["SHIFTS", "shifted", "shifted_patches"]

_Image = npt.NDArray[np.uint8]
_Shift = Callable[[_Image, np.random.Generator], _Image]


def _as_bytes(values: npt.NDArray[np.floating]) -> _Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _hue(image: _Image, generator: np.random.Generator, *, turn: float) -> _Image:
    """Turn the hue by a share of the colour circle, one way or the other."""
    hsv = rgb2hsv(image)
    hsv[..., 0] = (hsv[..., 0] + generator.choice((-turn, turn))) % 1.0
    return _as_bytes(hsv2rgb(hsv) * 255)


def _saturation(image: _Image, generator: np.random.Generator, *, factor: float) -> _Image:
    """Multiply or divide the saturation: fresh and faded stains."""
    hsv = rgb2hsv(image)
    hsv[..., 1] = np.clip(hsv[..., 1] * generator.choice((factor, 1 / factor)), 0, 1)
    return _as_bytes(hsv2rgb(hsv) * 255)


def _brightness(image: _Image, generator: np.random.Generator, *, factor: float) -> _Image:
    """Multiply or divide all colours: the lamp."""
    return _as_bytes(image * float(generator.choice((factor, 1 / factor))))


def _blur(image: _Image, generator: np.random.Generator, *, sigma_px: float) -> _Image:
    """Smooth by a Gaussian: out of focus."""
    del generator
    return _as_bytes(gaussian_filter(image.astype(np.float32), (sigma_px, sigma_px, 0), mode="reflect"))


def _jpeg(image: _Image, generator: np.random.Generator, *, quality: int) -> _Image:
    """Compress once more: an archive."""
    del generator
    data = imagecodecs.jpeg8_encode(image, level=quality, subsampling="420")
    return np.asarray(imagecodecs.jpeg8_decode(data), dtype=np.uint8)


def _scale(image: _Image, generator: np.random.Generator, *, magnification: float) -> _Image:
    """Magnify about the centre: a wrong pixel size. What then lies outside the patch is mirrored in."""
    del generator
    side = np.array(image.shape[:2])
    middle = (side - 1) / 2
    step = np.full(2, 1 / magnification)
    channels = [
        affine_transform(
            image[..., channel].astype(np.float32), step, offset=middle - step * middle, order=1, mode="mirror"
        )
        for channel in range(3)
    ]
    return _as_bytes(np.stack(channels, axis=-1))


#: Every shift by its name, from none on.
SHIFTS: Mapping[str, _Shift] = MappingProxyType(
    {
        "none": lambda image, _: image,
        "hue ±0.03 turns": partial(_hue, turn=0.03),
        "hue ±0.06 turns": partial(_hue, turn=0.06),
        "saturation x 1.4 or / 1.4": partial(_saturation, factor=1.4),
        "brightness x 1.15 or / 1.15": partial(_brightness, factor=1.15),
        "brightness x 1.3 or / 1.3": partial(_brightness, factor=1.3),
        "blur, 1.0 px": partial(_blur, sigma_px=1.0),
        "blur, 1.5 px": partial(_blur, sigma_px=1.5),
        "JPEG, quality 50": partial(_jpeg, quality=50),
        "JPEG, quality 30": partial(_jpeg, quality=30),
        "magnified 0.8": partial(_scale, magnification=0.8),
        "magnified 0.9": partial(_scale, magnification=0.9),
        "magnified 1.1": partial(_scale, magnification=1.1),
        "magnified 1.25": partial(_scale, magnification=1.25),
    }
)


def shifted(image: _Image, shift: str, generator: np.random.Generator) -> _Image:
    """Return a patch, (rows, columns, 3) uint8, under one of :data:`SHIFTS`."""
    return SHIFTS[shift](image, generator)


def shifted_patches(source: PatchSource, shift: str, seed: int) -> ChangedPatches:
    """Return patches under one of :data:`SHIFTS`; the seed decides in which direction each is shifted."""
    return ChangedPatches(source, lambda patch, index: shifted(patch, shift, np.random.default_rng([seed, index])))
