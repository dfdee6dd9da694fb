"""What lesions are read from: the scan's own map blended with those of the passes after it, or one of these alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import CHUNK_CELLS, ChunkedCells, HeatmapFrame, Region, cells_beneath, repeat_blocks
from napari_metastasis.scanning.maps.kinds import AnsweredMap, MapKind, MapValues

__all__ = ["blend", "read_from", "seen_answered", "seen_values"]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_Map = TypeVar("_Map", MapValues, AnsweredMap)
#: Which cells of a frame hold tissue: bool, (rows, columns).
Tissue = Callable[[HeatmapFrame], BoolArray]


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


def _blended_and_alone(
    own: _Map, others: Sequence[tuple[_Map, float]], tissue: Tissue | None
) -> tuple[list[tuple[_Map, float]], _Map | None]:
    """Return the maps that are blended, with their shares, and the one that lesions are read from alone, if any is."""
    read = [(other, share) for other, share in others if other.kind.is_probability]
    alone = [other for other, share in read if other.kind.stands_alone and share > 0]
    # One that answers for less takes nothing away.
    used = [other for other in alone if _answers_as_much(other, own, tissue)]
    return [(other, share) for other, share in read if not other.kind.stands_alone], used[-1] if used else None


def _answers_as_much(alone: _Map, own: _Map, tissue: Tissue | None) -> bool:
    """Return whether a map has an answer for all tissue that another one has one for, and any at all."""
    asked = None if tissue is None else tissue(alone.frame)
    rows, columns = cells_beneath(alone.frame, own.frame)
    answers = False
    for part in Region.of(alone.frame.cells).split(CHUNK_CELLS):
        here = ~np.isnan(_read(alone, part))
        answers = answers or bool(here.any())
        missing = ~here if asked is None else asked[part.slices] & ~here
        if missing.any():
            across, down = columns[part.x : part.right], rows[part.y : part.bottom]
            first = Region(int(across[0]), int(down[0]), int(across[-1] - across[0]) + 1, int(down[-1] - down[0]) + 1)
            beneath = _read(own, first)[down[:, None] - first.y, across - first.x]
            if (missing & ~np.isnan(beneath)).any():
                return False
    return answers


def _read(one: MapValues | AnsweredMap, cells: Region) -> FloatArray:
    return one.values[cells.slices] if isinstance(one, MapValues) else one.cells.read(cells)


def seen_values(own: MapValues, others: Sequence[tuple[MapValues, float]], tissue: Tissue | None = None) -> MapValues:
    """Return what lesions are read from: a map that stands alone, where one has a share, else the blend.

    Parameters
    ----------
    own
        The scan's own map. Its values are not copied where nothing is blended.
    others
        The maps of the passes after it, in their order, each with its share: of what came before it, or, of a map that
        stands alone, 0 or 1. What is no probability has none. A map that stands alone counts once it answers for all
        tissue that the scan's own has answers for: a result does not become one for less of the slide.
    tissue
        Returns which cells of a frame hold tissue; ``None`` where that is not known, and all of them do.

    Returns
    -------
    Its kind is that which lesions are said to be read from: the latest that has a share.
    """
    blended, alone = _blended_and_alone(own, others, tissue)
    if alone is not None:
        return alone
    values = own.values
    for other, share in blended:
        values = blend(values, own.frame, other, share)
    return MapValues(_latest(own, blended), own.frame, values)


def seen_answered(
    own: AnsweredMap, others: Sequence[tuple[AnsweredMap, float]], tissue: Tissue | None = None
) -> AnsweredMap:
    """Return what :func:`seen_values` does, chunk by chunk: nothing is blended where the scan's own map has none.

    Parameters
    ----------
    own, others, tissue
        As there.
    """
    probabilities, alone = _blended_and_alone(own, others, tissue)
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
    """Return the name of the map that lesions of a blend are said to be read from: the latest that has a share.

    Parameters
    ----------
    own, others
        As :func:`seen_values` takes them, without maps that stand alone.
    """
    return _latest(own, others).name


def _latest(own: _Map, blended: Sequence[tuple[_Map, float]]) -> MapKind:
    """Return the kind of the latest map that has a share in a blend."""
    read = (other.kind for other, share in reversed(blended) if share > 0)
    return next((kind for kind in read if kind.is_probability), own.kind)
