"""A slide's levels as its dyes show them; nothing is read before it is looked at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np

from napari_metastasis.slides.stains.macenko import StainMatrix, StainView, stain_picture

if TYPE_CHECKING:
    import dask.array.core

    from napari_metastasis.slides.slide import Slide

__all__ = ["stained_levels"]


def stained_levels(slide: Slide, stains: StainMatrix, view: StainView) -> tuple[dask.array.core.Array, ...]:
    """Return every level of a slide as :func:`~napari_metastasis.slides.stains.stain_picture` draws it.

    Parameters
    ----------
    slide
        The open slide, which has to stay open.
    stains
        Its dyes.
    view
        Which of them are seen.

    Returns
    -------
    Dask arrays of the shapes, types and chunks of the slide's own levels.
    """
    # Named by content, as the slide's own arrays are: dask would hash what it is given.
    told = hashlib.sha256(repr((slide.fingerprint, stains, view)).encode()).hexdigest()[:24]
    return tuple(
        da.map_blocks(
            stain_picture,
            level.array,
            stains=stains,
            view=view,
            name=f"stained-{told}-{index}",
            dtype=np.uint8,
            meta=np.empty((0, 0, 0), np.uint8),
        )
        for index, level in enumerate(slide.levels)
    )
