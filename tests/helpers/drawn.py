"""Pictures as slides show them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Size

__all__ = ["draw_picture"]


def draw_picture(size: Size, seed: int = 7) -> npt.NDArray[np.uint8]:
    """Return a picture with detail at every scale on a light ground."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size.shape, 3), 235, np.int16)
    for cell in (4, 32, 128):
        coarse = rng.integers(-40, 20, (size.height // cell + 1, size.width // cell + 1, 3))
        picture += np.kron(coarse, np.ones((cell, cell, 1), np.int16)).astype(np.int16)[: size.height, : size.width]
    return np.clip(picture, 0, 255).astype(np.uint8)
