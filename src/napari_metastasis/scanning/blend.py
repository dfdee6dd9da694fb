"""Two maps of one slide in one: the scan's own answers, and refined ones on coarser cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.geometry import HeatmapFrame, Region

__all__ = ["blend"]

FloatArray = npt.NDArray[np.float32]


def blend(
    raw: FloatArray,
    frame: HeatmapFrame,
    refined: FloatArray,
    native: HeatmapFrame,
    share: float,
    cells: Region | None = None,
) -> FloatArray:
    """Return probabilities on the scan's cells: its own answers, and refined ones interpolated between cell centres.

    Parameters
    ----------
    raw
        float32, (rows, columns) of ``cells``, NaN where nothing was scanned: there, the blend is NaN as well.
    frame
        Of the scan's cells.
    refined
        float32, (rows, columns) of the whole refined map, NaN where there is none: there, the scan's answer counts.
    native
        Of the refined map's cells.
    share
        Of the refined probability, 0 to 1.
    cells
        The part of the scan's map that ``raw`` holds; ``None`` for all of it.
    """
    if share == 0:
        return raw.copy()
    cells = Region.of(frame.cells) if cells is None else cells
    rows = np.array([native.cell_at(frame.cell_center(0, row)).y for row in range(cells.y, cells.bottom)])
    columns = np.array([native.cell_at(frame.cell_center(column, 0)).x for column in range(cells.x, cells.right)])
    # Cut to what the part needs, so that a small piece of a large map costs little.
    top, left = (max(0, int(np.floor(places[0]))) for places in (rows, columns))
    bottom, right = (int(np.ceil(places[-1])) + 1 for places in (rows, columns))
    part = refined[top:bottom, left:right]
    known = ~np.isnan(part)
    if not known.any():
        return raw.copy()
    places = np.meshgrid(rows - top, columns - left, indexing="ij")

    def between(values: npt.NDArray[np.float32]) -> FloatArray:
        return np.asarray(ndimage.map_coordinates(values, places, order=1, mode="nearest"), np.float32)

    # Cells without an answer have no weight: the others around a place speak for it.
    weight = between(known.astype(np.float32))
    total = between(np.where(known, part, np.float32(0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        interpolated = total / weight
    mixed = share * interpolated + (1 - share) * raw
    return np.where(weight > 0, mixed, raw).astype(np.float32)
