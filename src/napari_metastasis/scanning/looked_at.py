"""What was looked at for points: answered cells whose surroundings are answered, too.

A point whose middle lies past the edge of what is answered would else show as one on the edge, where its map ends. So
whoever looks for points in a part of the tissue answers for a margin around it, and nothing in there is said to have
been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region, chunks_over, sparse_zeros
from napari_metastasis.scanning.plan import BoolArray
from napari_metastasis.settings import PointScoringSettings, setting_of

__all__ = ["looked_at", "margin_cells", "with_margin"]

#: What is farther away than two points are told apart changes no point.
_MARGIN_UM, _ = setting_of(PointScoringSettings, "radius_um")


def margin_cells(frame: HeatmapFrame) -> float:
    """Return how far around what is looked at a map is answered, in cells."""
    return float(_MARGIN_UM) / frame.cell_um


def with_margin(asked: BoolArray, frame: HeatmapFrame) -> BoolArray:
    """Return the cells that have to be answered for some to have been looked at: bool, (rows, columns).

    Parameters
    ----------
    asked
        bool, (rows, columns) of the whole map: what is to be looked at.
    frame
        Where the cells lie.
    """
    radius, size = margin_cells(frame), frame.cells
    grown = sparse_zeros(asked.shape)
    for _, cells in chunks_over(Region.of(size), size):
        near = _near(asked, cells, radius)
        if near is not None:
            np.copyto(grown[cells.slices], True, where=near)
    return grown


def looked_at(tissue: BoolArray, answered: ChunkedCells, frame: HeatmapFrame) -> Iterator[tuple[Region, BoolArray]]:
    """Yield the cells of each chunk with answers, and which of them were looked at: bool, (rows, columns) of the chunk.

    Those hold tissue, and all tissue around them, as far as :func:`margin_cells`, is answered.

    Parameters
    ----------
    tissue
        bool, (rows, columns): from :func:`~napari_metastasis.scanning.answerable_cells`.
    answered
        The map, NaN where there is no answer.
    frame
        Where the cells lie.
    """
    radius = margin_cells(frame)
    reach = math.floor(radius)
    for cells, values in answered:
        asked = tissue[cells.slices]
        around = cells.grown(reach).intersection(Region.of(answered.size))
        missing = tissue[around.slices] & np.isnan(answered.read(around))
        inside = asked & ~np.isnan(values)
        near = _near(missing, cells.shifted(-around.x, -around.y), radius)
        yield cells, inside if near is None else inside & ~near


def _near(cells: BoolArray, part: Region, radius: float) -> npt.NDArray[np.bool_] | None:
    """Return which cells of a part lie within a radius of a true one; ``None`` where none does."""
    around = part.grown(math.floor(radius)).intersection(Region(0, 0, cells.shape[1], cells.shape[0]))
    window = cells[around.slices]
    if not window.any():
        return None
    distance = ndimage.distance_transform_edt(~window)
    near: npt.NDArray[np.bool_] = distance[part.shifted(-around.x, -around.y).slices] <= radius
    return near
