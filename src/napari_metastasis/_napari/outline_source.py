"""The contours of a session's lesions within a square of its map, from the maps that the lesions were read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari_metastasis.lesions import ContourLines, Findings
    from napari_metastasis.scanning import MapValues

__all__ = ["contours_in"]


def contours_in(
    found: Findings, maps: Sequence[MapValues], shares: Sequence[float], corner: tuple[int, int], side: int
) -> ContourLines:
    """Return the contours that lie between the cells of one square, and between them and those before it.

    Squares side by side join. Where a later map alone decides, its own cells are interpolated, as they are drawn.

    Parameters
    ----------
    found
        The lesions.
    maps
        The scan's own map, then those of the passes after it, as they are now.
    shares
        Of each of the latter in what lesions are read from.
    corner
        Row and column of the square's first cell: multiples of its side.
    side
        Of the square, in cells: a multiple of the cells in a block of any map.
    """
    # Imported where there is a lesion: an empty window starts without it.
    from napari_metastasis.lesions import ContourLines, contour_lines

    row, column = corner
    own = maps[0]
    cells = Region(column - 1, row - 1, side + 1, side + 1)
    labels = _read(found.labels, cells, fill=0)
    if not labels.any():
        return ContourLines.none()
    read = [
        (other, share) for other, share in zip(maps[1:], shares, strict=True) if other.kind.is_probability and share
    ]
    if alone := [other for other, _ in read if other.kind.name == found.map and other.kind.stands_alone]:
        return contour_lines(
            labels, _read(alone[0].values, cells, fill=np.nan), found.threshold, cells=cells, frame=found.frame
        )
    read = [(other, share) for other, share in read if not other.kind.stands_alone]
    values = _read(own.values, cells, fill=np.nan)
    if read and read[-1][1] == 1:
        last = read[-1][0]
        block = own.frame.block_in(last.frame)
        coarse = Region(column // block - 1, row // block - 1, side // block + 1, side // block + 1)
        answers = _read(last.values, coarse, fill=np.nan)
        inner = _read(own.values, coarse.fine(block), fill=np.nan).reshape(coarse.height, block, coarse.width, block)
        if block > 1 and not (~np.isnan(inner).all(axis=(1, 3)) & np.isnan(answers)).any():
            of_blocks = _read(found.labels, coarse.fine(block), fill=0).reshape(inner.shape).max(axis=(1, 3))
            return contour_lines(of_blocks, answers, found.threshold, cells=coarse, frame=last.frame)
    for other, share in read:
        values = _blended(values, own, other, share, cells)
    return contour_lines(labels, values, found.threshold, cells=cells, frame=own.frame)


def _blended(
    values: npt.NDArray[np.float32], own: MapValues, other: MapValues, share: float, cells: Region
) -> npt.NDArray[np.float32]:
    """Return what lesions are read from, within cells that may reach past the map."""
    from napari_metastasis.scanning import blend

    there = cells.intersection(Region.of(own.frame.cells))
    part = there.shifted(-cells.x, -cells.y).slices
    values[part] = blend(values[part], own.frame, other, share, there)
    return values


def _read(array: npt.NDArray[Any], cells: Region, *, fill: float) -> npt.NDArray[Any]:
    """Return a copy of a part of an array that may reach past it."""
    there = cells.intersection(Region(0, 0, array.shape[1], array.shape[0]))
    part = np.full(cells.size.shape, fill, array.dtype)
    if not there.is_empty:
        part[there.shifted(-cells.x, -cells.y).slices] = array[there.slices]
    return part
