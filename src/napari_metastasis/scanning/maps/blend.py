"""Blends the maps of one slide: the scan's own, and those of the passes after it, each with its share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region, repeat_blocks
from napari_metastasis.scanning.maps.kinds import AnsweredMap, MapValues

__all__ = ["blend", "blend_all", "blend_answered", "read_from"]

FloatArray = npt.NDArray[np.float32]


def blend(
    scanned: FloatArray, frame: HeatmapFrame, other: MapValues, share: float, cells: Region | None = None
) -> FloatArray:
    """Return the scan's map blended with another one, on the scan's cells.

    A cell of the other map covers a square of the scan's cells, and each of these takes its value. Nothing is
    interpolated: a peak of the other map is as high in the blend.

    Parameters
    ----------
    scanned
        float32, (rows, columns) of ``cells``. Where nothing was scanned it is NaN, and so is the blend.
    frame
        Of the scan's cells.
    other
        The whole of another map. Where it is NaN, the scan's answer counts.
    share
        Of the other map, 0 to 1.
    cells
        The part of the scan's map that ``scanned`` holds; ``None`` for all of it.
    """
    if share == 0:
        return scanned.copy()
    cells = Region.of(frame.cells) if cells is None else cells
    blended: FloatArray = repeat_blocks(other.values, frame.block_in(other.frame), cells)
    missing = np.isnan(blended)
    if share != 1:
        blended *= np.float32(share)
        blended += np.float32(1 - share) * scanned
    blended[np.isnan(scanned)] = np.nan
    np.copyto(blended, scanned, where=missing)
    return blended


def blend_all(scanned: FloatArray, frame: HeatmapFrame, others: Sequence[tuple[MapValues, float]]) -> FloatArray:
    """Return probabilities on the scan's cells, each further map taking its share of what came before it.

    Parameters
    ----------
    scanned, frame
        The scan's own map: (rows, columns) float32, and where its cells lie. Not copied where there is no other.
    others
        The maps of the passes after it, in their order, each with its share. What is no probability has none.
    """
    for other, share in others:
        if other.kind.is_probability:
            scanned = blend(scanned, frame, other, share)
    return scanned


def blend_answered(own: AnsweredMap, others: Sequence[tuple[AnsweredMap, float]]) -> ChunkedCells:
    """Return what :func:`blend_all` does, chunk by chunk of the scan's own map: nothing is blended where it has none.

    Parameters
    ----------
    own
        The scan's own map.
    others
        The maps of the passes after it, in their order, each with its share.
    """
    blended = {}
    probabilities = [(other, share) for other, share in others if other.kind.is_probability]
    for key, (cells, scanned) in zip(own.cells.chunks, own.cells, strict=True):
        seen = scanned
        for other, share in probabilities:
            # A chunk is made of whole blocks, so that both parts begin at the same corner.
            near = other.cells.read(cells.coarse(own.frame.block_in(other.frame)))
            part = MapValues(other.kind, other.frame, near)
            seen = blend(seen, own.frame, part, share, Region.of(cells.size))
        blended[key] = seen
    return ChunkedCells(own.cells.size, blended)


def read_from(own: MapValues | AnsweredMap, others: Sequence[tuple[MapValues | AnsweredMap, float]]) -> str:
    """Return the map that lesions of a blend are said to be read from: the name of the latest that has a share."""
    read = (other.kind for other, share in reversed(others) if share > 0)
    return next((kind.name for kind in read if kind.is_probability), own.kind.name)
