"""Points as maps of probability, which tiles are cut from: Pearce 2017 (3.2).

A person marks one pixel of a cell that covers hundreds. The map says how near each pixel is to a point, so that a tile
that a cell reaches into knows of it, whichever side of the border its point lies on.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.settings import PointMapSettings

__all__ = ["point_map", "tile_probabilities"]

FloatArray = npt.NDArray[np.float32]


def point_map(xy: npt.NDArray[np.float64], frame: ModelFrame, region: Region, settings: PointMapSettings) -> FloatArray:
    """Return π = exp(-a·d) of a region, d the distance from a pixel's centre to the nearest point (Pearce 2017, 3.2).

    Points outside the region count as those inside do: the maps of two neighbours are the halves of the map of both.

    Parameters
    ----------
    xy
        (n, 2) float64, points as (x, y) in level-0 pixels.
    frame
        The model's pixels on the slide.
    region
        In model pixels.
    settings
        How fast it falls, and from where on it is 0.

    Returns
    -------
    float32 (rows, columns), 0..1
    """
    found = np.zeros(region.size.shape, np.float32)
    decay = settings.decay_per_um * frame.effective_mpp
    reach = -math.log(settings.floor) / decay
    # In model pixels from the region's corner, where the centre of pixel i lies at i + 1/2.
    for x, y in np.asarray(xy, np.float64).reshape(-1, 2) / frame.scale - (region.x, region.y):
        columns, rows = _within(x, reach, region.width), _within(y, reach, region.height)
        if columns.start < columns.stop and rows.start < rows.stop:
            along = np.arange(columns.start, columns.stop) + 0.5 - x
            across = np.arange(rows.start, rows.stop) + 0.5 - y
            near = np.exp(-decay * np.hypot(across[:, None], along))
            near[near < settings.floor] = 0
            np.maximum(found[rows, columns], near, out=found[rows, columns], casting="same_kind")
    return found


def _within(center: float, reach: float, length: int) -> slice:
    """Return the pixels of an axis whose centres lie within reach."""
    first = max(0, math.ceil(center - reach - 0.5))
    return slice(first, max(first, min(length, math.floor(center + reach - 0.5) + 1)))


def tile_probabilities(probabilities: FloatArray, tile_px: int) -> FloatArray:
    """Return the highest probability in each tile, float32 (rows, columns); the last ones may be cut by the edge.

    A tile's label is whether that reaches a threshold, which can be changed without looking at the map again.

    Parameters
    ----------
    probabilities
        From :func:`point_map`, float32 (rows, columns).
    tile_px
        Side of a tile.
    """
    starts = [np.arange(0, length, tile_px) for length in probabilities.shape]
    found: FloatArray = np.maximum.reduceat(np.maximum.reduceat(probabilities, starts[0], axis=0), starts[1], axis=1)
    return found
