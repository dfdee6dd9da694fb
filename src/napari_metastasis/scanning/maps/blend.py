"""What lesions are read from: the scan's own map blended with those of the passes after it, or one of these alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region, repeat_blocks
from napari_metastasis.scanning.maps.kinds import AnsweredMap, MapKind, MapValues

__all__ = ["blend", "read_from", "seen_answered", "seen_values"]

FloatArray = npt.NDArray[np.float32]
_Map = TypeVar("_Map", MapValues, AnsweredMap)


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


def _blended_and_alone(others: Sequence[tuple[_Map, float]]) -> tuple[list[tuple[_Map, float]], _Map | None]:
    """Return the maps that are blended, with their shares, and the one that lesions are read from alone, if any is."""
    read = [(other, share) for other, share in others if other.kind.is_probability]
    # One that holds nothing yet takes nothing away.
    alone = [other for other, share in read if other.kind.stands_alone and share > 0 and not other.is_blank]
    return [(other, share) for other, share in read if not other.kind.stands_alone], alone[-1] if alone else None


def seen_values(own: MapValues, others: Sequence[tuple[MapValues, float]]) -> MapValues:
    """Return what lesions are read from: a map that stands alone, where one has a share and answers, else the blend.

    Parameters
    ----------
    own
        The scan's own map. Its values are not copied where nothing is blended.
    others
        The maps of the passes after it, in their order, each with its share: of what came before it, or, of a map that
        stands alone, 0 or 1. What is no probability has none.

    Returns
    -------
    Its kind is that which lesions are said to be read from: the latest that has a share.
    """
    blended, alone = _blended_and_alone(others)
    if alone is not None:
        return alone
    values = own.values
    for other, share in blended:
        values = blend(values, own.frame, other, share)
    return MapValues(_latest(own, blended), own.frame, values)


def seen_answered(own: AnsweredMap, others: Sequence[tuple[AnsweredMap, float]]) -> AnsweredMap:
    """Return what :func:`seen_values` does, chunk by chunk: nothing is blended where the scan's own map has none.

    Parameters
    ----------
    own
        The scan's own map.
    others
        The maps of the passes after it, in their order, each with its share.
    """
    probabilities, alone = _blended_and_alone(others)
    if alone is not None:
        return alone
    blended = {}
    for key, (cells, scanned) in zip(own.cells.chunks, own.cells, strict=True):
        seen = scanned
        for other, share in probabilities:
            # A chunk is made of whole blocks, so that both parts begin at the same corner.
            near = other.cells.read(cells.coarse(own.frame.block_in(other.frame)))
            part = MapValues(other.kind, other.frame, near)
            seen = blend(seen, own.frame, part, share, Region.of(cells.size))
        blended[key] = seen
    return AnsweredMap(_latest(own, probabilities), own.frame, ChunkedCells(own.cells.size, blended))


def read_from(own: _Map, others: Sequence[tuple[_Map, float]]) -> str:
    """Return the name of the map that lesions are said to be read from; see :func:`seen_values`."""
    blended, alone = _blended_and_alone(others)
    return alone.kind.name if alone is not None else _latest(own, blended).name


def _latest(own: _Map, blended: Sequence[tuple[_Map, float]]) -> MapKind:
    """Return the kind of the latest map that has a share in a blend."""
    return next((other.kind for other, share in reversed(blended) if share > 0), own.kind)
