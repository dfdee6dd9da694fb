"""The heatmap as a surface: its flat opening, and which way is up from every cell.

A flat grey-scale opening commutes with thresholding, ``open(p) >= t`` exactly where ``open(p >= t)``, so that one
opening serves every threshold. Cells below the floor never matter and never leave the tile that they are met in.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.geometry import CHUNK_CELLS, ChunkedCells, Region

__all__ = ["FloorCells", "floor_cells", "opened"]

BoolArray = NDArray[np.bool_]

#: Side of the squares that the map is worked through in: a float32 tile and its copies stay in a processor's cache.
_TILE = CHUNK_CELLS
#: More threads than this wait for memory.
_THREADS = 4

#: Neighbours that come before and after a cell in row-major order, as (row, column) steps, themselves in that order.
_BEFORE = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
_AFTER = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True)
class FloorCells:
    """Every cell of the opened map that reaches the floor, tile by tile.

    Cells are numbered row-major on the map with a border of one cell, so that a step to a neighbour is one addition
    that never wraps into another row.

    Attributes
    ----------
    cell
        (n,) int32, or int64 on maps of 2^31 cells. Number of each cell.
    value
        (n,) float32. The opened probability.
    probability
        (n,) float32. The probability before opening.
    uphill
        (n,) like ``cell``. Number of the highest of the cell and its eight neighbours; of equals, the first.
    border
        (n,) float32. A cell lies on the border of its lesion at thresholds above this: the lowest of the cells to its
        left and right, above and below; ``-inf`` where one of them has no answer.
    cut
        (n,) float32. At thresholds up to this a lesion with this cell is cut by the edge of what was scanned; ``-inf``
        where it never is.
    """

    cell: NDArray[Any]
    value: NDArray[np.float32]
    probability: NDArray[np.float32]
    uphill: NDArray[Any]
    border: NDArray[np.float32]
    cut: NDArray[np.float32]


def _slide(combine: Callable[..., NDArray[Any]], array: NDArray[Any], side: int, axis: int) -> NDArray[Any]:
    """Return ``combine`` over every run of ``side`` elements along an axis, by doubling."""
    array = array.swapaxes(0, axis)
    done = 1
    while done < side:
        step = min(done, side - done)
        array = combine(array[:-step], array[step:])
        done += step
    return array.swapaxes(0, axis)


def opened(window: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the opening of ``window`` with a flat square.

    Parameters
    ----------
    window
        (rows, columns) float32, ``-inf`` where there is nothing.
    side
        Side of the square, in cells; 1 changes nothing.

    Returns
    -------
    (rows - 2 (side - 1), columns - 2 (side - 1)): the cells whose answer the window decides.
    """
    for axis in (0, 1):
        window = _slide(np.minimum, window, side, axis)
    for axis in (0, 1):
        window = _slide(np.maximum, window, side, axis)
    return window


def _window(probabilities: ChunkedCells, cells: Region) -> NDArray[np.float32]:
    """Return some cells, ``-inf`` where the map ends or was not scanned."""
    window = probabilities.read(cells)
    np.copyto(window, -np.inf, where=np.isnan(window))
    return window


def _held(mask: BoolArray, cells: Region) -> BoolArray:
    """Return some cells of a mask, false past its edge."""
    held = np.zeros(cells.size.shape, np.bool_)
    inside = cells.intersection(Region(0, 0, mask.shape[1], mask.shape[0]))
    held[inside.shifted(-cells.x, -cells.y).slices] = mask[inside.slices]
    return held


def _edge(window: NDArray[np.float32], unanswered: BoolArray, side: int) -> NDArray[np.float32]:
    """Return up to which threshold a lesion goes on from each cell where unanswered cells are taken for tumour.

    What survives an opening is a union of squares. A lesion is therefore cut where a square of cells that reach the
    threshold or have no answer, some of the latter among them, overlaps or touches it. It also is wherever one of its
    cells touches a cell without an answer.

    Parameters
    ----------
    window
        (rows, columns) float32, ``-inf`` where there is nothing.
    unanswered
        bool, of the same shape: tissue without an answer.
    side
        Side of the opening's square, in cells.

    Returns
    -------
    (rows - 2 side, columns - 2 side): the cells whose answer the window decides; ``-inf`` where it never does.
    """
    lowest, holds = np.where(unanswered, np.float32(np.inf), window), unanswered
    for axis in (0, 1):
        lowest, holds = _slide(np.minimum, lowest, side, axis), _slide(np.logical_or, holds, side, axis)
    reached = np.where(holds, lowest, np.float32(-np.inf))
    margin = side - 1
    touched = unanswered[margin : unanswered.shape[0] - margin, margin : unanswered.shape[1] - margin]
    for axis in (0, 1):
        # Squares that begin up to a cell after this one, or end up to a cell before it.
        reached, touched = _slide(np.maximum, reached, side + 2, axis), _slide(np.logical_or, touched, 3, axis)
    return np.where(touched, np.float32(np.inf), reached)


def _shifted(surface: NDArray[np.float32], step: tuple[int, int]) -> NDArray[np.float32]:
    """Return the neighbour at ``step`` of every inner cell of a surface with a border of one cell."""
    rows, columns = surface.shape
    return surface[1 + step[0] : rows - 1 + step[0], 1 + step[1] : columns - 1 + step[1]]


def _uphill(surface: NDArray[np.float32], stride: int) -> NDArray[np.int32]:
    """Return the step, in cell numbers, from each inner cell to the highest around it, and the first of equals."""
    best = _shifted(surface, _BEFORE[0]).copy()
    steps = np.full(best.shape, _BEFORE[0][0] * stride + _BEFORE[0][1], dtype=np.int32)
    for row, column in (*_BEFORE[1:], (0, 0), *_AFTER):
        candidate = _shifted(surface, (row, column))
        # Strictly higher: of equals, the one met first stays, and they are met in row-major order.
        higher = candidate > best
        np.copyto(best, candidate, where=higher)
        steps[higher] = row * stride + column
    return steps


def _border(surface: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lowest of the four neighbours of each inner cell."""
    across = np.minimum(_shifted(surface, (0, -1)), _shifted(surface, (0, 1)))
    along = np.minimum(_shifted(surface, (-1, 0)), _shifted(surface, (1, 0)))
    return np.minimum(across, along)


def _tile(
    probabilities: ChunkedCells,
    cells: Region,
    *,
    unanswered: BoolArray | None,
    floor: np.float32,
    side: int,
    heights: NDArray[np.float32] | None,
) -> FloorCells | None:
    """Return the cells of one tile that reach the floor, or None where there is none; note their surroundings."""
    tile = probabilities.read(cells)
    # An opening never raises a value, so a tile without a cell at the floor stays without one.
    if not (tile >= floor).any():
        return None
    window = _window(probabilities, cells.grown(side))
    surface = opened(window, side)
    # The map's own border of one cell makes room for the tile's. Tiles beside each other note the same of one cell.
    if heights is not None:
        heights[cells.grown(1).shifted(1, 1).slices] = surface
    core = surface[1:-1, 1:-1]
    y, x = np.nonzero(core >= floor)
    cut = np.full(len(y), -np.inf, np.float32)
    if unanswered is not None and (missing := _held(unanswered, cells.grown(side))).any():
        cut = np.minimum(core, _edge(window, missing, side))[y, x]
    stride = probabilities.shape[1] + 2
    number: Any = np.int32 if (probabilities.shape[0] + 2) * stride < 2**31 else np.int64
    cell = ((y + (cells.y + 1)) * stride + (x + (cells.x + 1))).astype(number)
    return FloorCells(
        cell=cell,
        value=core[y, x],
        probability=tile[y, x],
        uphill=cell + _uphill(surface, stride)[y, x],
        border=_border(surface)[y, x],
        cut=cut,
    )


def floor_cells(
    probabilities: NDArray[np.float32] | ChunkedCells,
    *,
    floor: float,
    side: int,
    heights: NDArray[np.float32] | None = None,
    unanswered: BoolArray | None = None,
) -> FloorCells:
    """Return the cells of the opened map that reach ``floor``.

    Parameters
    ----------
    probabilities
        (rows, columns) float32, NaN where nothing was scanned; or its chunks.
    floor
        Lowest threshold that will ever be asked for.
    side
        Side of the opening's square, in cells; 1 switches it off.
    heights
        float32, (rows + 2, columns + 2): the opened map is written there, ``-inf`` without an answer, wherever a cell
        at the floor or a neighbour of one lies.
    unanswered
        bool, (rows, columns): cells without an answer that hold tissue; ``None`` where there is none.
    """
    chunks = ChunkedCells.of(probabilities)
    tiles = [tile for cells, _ in chunks for tile in cells.split(_TILE)]
    work = functools.partial(_tile, chunks, unanswered=unanswered, floor=np.float32(floor), side=side, heights=heights)

    # numpy lets go of the interpreter on arrays of this size; map keeps the order, so that threads change nothing.
    with ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1)) as pool:
        found = [tile for tile in pool.map(work, tiles) if tile is not None]
    if not found:
        none, nothing = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        found = [FloorCells(cell=none, value=nothing, probability=nothing, uphill=none, border=nothing, cut=nothing)]
    columns = zip(*map(attrgetter(*(column.name for column in fields(FloorCells))), found), strict=True)
    return FloorCells(*map(np.concatenate, columns))
