"""What a heatmap says of single pixels, for comparison with masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from napari_metastasis.geometry import HeatmapFrame, Point, Region

__all__ = ["pixel_probabilities"]


def pixel_probabilities(
    probabilities: npt.NDArray[np.float32], frame: HeatmapFrame, region: Region
) -> npt.NDArray[np.float32]:
    """Return the probability at the centre of every level-0 pixel of a region, bilinear between cell centres.

    Parameters
    ----------
    probabilities
        (rows, columns) of the heatmap; NaN where nothing was scanned, which counts as 0.
    frame
        Where its cells lie.
    region
        Level-0 pixels.

    Returns
    -------
    float32 of shape (region.height, region.width)
    """
    # Only the pixels' own rows and columns are mapped: cells lie on a grid, so x decides the column alone.
    columns = [frame.cell_at(Point(x + 0.5, 0)).x for x in range(region.x, region.right)]
    rows = [frame.cell_at(Point(0, y + 0.5)).y for y in range(region.y, region.bottom)]
    grid = np.meshgrid(rows, columns, indexing="ij")
    known = np.nan_to_num(probabilities, nan=0.0)
    values: npt.NDArray[np.float32] = map_coordinates(known, grid, order=1, mode="nearest").astype(np.float32)
    return values
