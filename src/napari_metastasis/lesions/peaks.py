"""Where the detections of a map lie: the middle of each peak, less those too near to a higher one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_metastasis.geometry import ChunkedCells, Region, sparse_zeros
from napari_metastasis.lesions.component_tree import ComponentTree, follow
from napari_metastasis.lesions.surface import FloorCells

__all__ = ["INDISTINCT", "Peaks", "find_peaks", "find_points", "suppress"]

#: Probabilities closer than this are one plateau. Twice the spacing of bfloat16 in [0.5, 1), so that a saturated lesion
#: has one middle, and the same one, whichever precision the network ran in.
INDISTINCT = np.float32(1 / 128)
#: How far from the highest cell of a point its middle is looked for, in cells.
_AROUND = 3


@dataclass(frozen=True, slots=True)
class Peaks:
    """Where each node has its middle, and which nodes are detections.

    Attributes
    ----------
    row, column
        (nodes,) float64. Middle of the peak, in cells; whole numbers are cell centres.
    probability
        (nodes,) float32. Highest probability on the peak, before opening.
    kept
        (k,) intp. Nodes that non-maximum suppression leaves, highest first.
    """

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    probability: NDArray[np.float32]
    kept: NDArray[np.intp]


def find_peaks(cells: FloorCells, tree: ComponentTree, *, shape: tuple[int, int], radius: float) -> Peaks:
    """Return the middles of all peaks, and those that non-maximum suppression keeps.

    A node that stands out from its parent by less than :data:`INDISTINCT` is part of the parent's peak. A peak is all
    of its node within :data:`INDISTINCT` of the top, and lies at its centroid, or at the nearest of its cells where
    the centroid is none of them. Peaks are then taken from the highest down, each dropping those closer than
    ``radius``.

    Parameters
    ----------
    cells, tree
        The surface and its component tree.
    shape
        Rows and columns of the map.
    radius
        In cells.
    """
    count = len(tree.peak)
    itself = np.arange(count, dtype=np.int32)
    distinct = tree.peak - tree.saddle >= INDISTINCT
    broad = follow(np.where(distinct, itself, tree.parent))
    row, column, probability = _middles(cells, tree, broad, tree.peak[broad], shape)
    if not distinct.all():
        # An indistinct node is a lesion of its own at the few thresholds between its saddle and its peak.
        own = _middles(cells, tree, itself, np.where(distinct, np.float32(np.inf), tree.peak), shape)
        row, column = np.where(distinct, row, own[0]), np.where(distinct, column, own[1])
        probability = np.where(distinct, probability, own[2])
    candidates = np.flatnonzero(distinct)
    kept = suppress(np.rint(row[candidates]), np.rint(column[candidates]), shape=shape, radius=radius)
    return Peaks(row=row, column=column, probability=probability, kept=candidates[kept])


def _middles(
    cells: FloorCells,
    tree: ComponentTree,
    owners: NDArray[np.int32],
    heights: NDArray[np.float32],
    shape: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Return row, column and highest probability of each peak.

    ``owners`` says, for each node, whose peak its cells belong to, and ``heights`` how high that is (infinite: none).
    """
    count, stride = len(tree.peak), shape[1] + 2
    on_peak = np.flatnonzero(cells.value > (heights - INDISTINCT)[tree.of_cell])
    owner, number = owners[tree.of_cell[on_peak]], cells.cell[on_peak]
    rows, columns = number // stride - 1, number % stride - 1
    size = np.maximum(np.bincount(owner, minlength=count), 1)
    row = np.bincount(owner, weights=rows, minlength=count) / size
    column = np.bincount(owner, weights=columns, minlength=count) / size
    probability = np.zeros(count, dtype=np.float32)
    np.maximum.at(probability, owner, cells.probability[on_peak])
    covered = np.zeros(count, dtype=bool)
    covered[owner[(rows == np.rint(row)[owner]) & (columns == np.rint(column)[owner])]] = True
    # A peak bent around its centroid: fall back to the nearest of its cells, the first of equals.
    bent = np.flatnonzero(~covered[owner])
    distance = (rows[bent] - row[owner[bent]]) ** 2 + (columns[bent] - column[owner[bent]]) ** 2
    order = bent[np.lexsort((number[bent], distance, owner[bent]))]
    nearest = order[np.unique(owner[order], return_index=True)[1]]
    row[owner[nearest]], column[owner[nearest]] = rows[nearest], columns[nearest]
    return row, column, probability


def suppress(
    rows: NDArray[np.float64], columns: NDArray[np.float64], *, shape: tuple[int, int], radius: float
) -> NDArray[np.intp]:
    """Return which cells, given strongest first, have no kept one closer than ``radius``.

    Every kept cell paints its disc on a map of the slide; a painted cell is dropped. The map costs one byte a cell
    where there are peaks, and nothing elsewhere.
    """
    reach = max(0, math.ceil(radius) - 1)
    if reach == 0 and radius <= 0:
        return np.arange(len(rows))
    offsets = np.arange(-reach, reach + 1)
    disc = np.hypot(offsets[:, None], offsets[None, :]) < radius
    side = 2 * reach + 1
    painted = sparse_zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    row, column = rows.astype(np.intp), columns.astype(np.intp)
    kept: list[int] = []
    for start in range(0, len(row), 4096):
        part = np.arange(start, min(start + 4096, len(row)))
        part = part[~painted[row[part] + reach, column[part] + reach]]
        for index, y, x in zip(part.tolist(), row[part].tolist(), column[part].tolist(), strict=True):
            if not painted[y + reach, x + reach]:
                window = painted[y : y + side, x : x + side]
                np.logical_or(window, disc, out=window)
                kept.append(index)
    return np.array(kept, dtype=np.intp)


def find_points(
    cells: ChunkedCells, *, floor: float, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Return the points of a map: its highest cells, none closer than a radius to a higher one.

    Those at a threshold are the ones that reach it: what is lower takes nothing away.

    Parameters
    ----------
    cells
        Values, NaN where there is no answer.
    floor
        The lowest value of a point.
    radius
        In cells.

    Returns
    -------
    Row, column and value, (n,) each, the highest first; whole rows and columns are cell centres. Equal neighbours are
    one point, in their middle.
    """
    found = [np.zeros((3, 0))]
    for region, _ in cells:
        window = cells.read(region.grown(1))
        np.copyto(window, -np.inf, where=np.isnan(window))
        values = window[1:-1, 1:-1]
        if not (values >= floor).any():
            continue
        highest = (ndimage.maximum_filter(window, 3)[1:-1, 1:-1] == values) & (values >= floor)
        labels, count = ndimage.label(highest, structure=np.ones((3, 3)))
        numbers = np.arange(1, count + 1)
        middles = np.array(ndimage.center_of_mass(highest, labels, numbers)).reshape(-1, 2)
        value = ndimage.maximum(values, labels, numbers)
        found.append(np.stack([middles[:, 0] + region.y, middles[:, 1] + region.x, value]))
    rows, columns, value = np.concatenate(found, axis=1)
    order = np.argsort(-value, kind="stable")
    rows, columns, value = rows[order], columns[order], value[order]
    kept = _apart(np.stack([rows, columns], axis=1), radius)
    rows, columns, value = rows[kept], columns[kept], value[kept].astype(np.float32)
    places = [_middle(cells, *place) for place in zip(rows.tolist(), columns.tolist(), value, strict=True)]
    return *np.array(places).reshape(-1, 2).T, value


def _middle(cells: ChunkedCells, row: float, column: float, value: np.float32) -> tuple[float, float]:
    """Return the middle of the cells around a peak that are as high as it, as far as that can be told."""
    window = Region(round(column) - _AROUND, round(row) - _AROUND, 2 * _AROUND + 1, 2 * _AROUND + 1)
    high = cells.read(window) > value - INDISTINCT
    rows, columns = np.nonzero(high)
    return float(rows.mean()) + window.y, float(columns.mean()) + window.x


def _apart(places: NDArray[np.float64], radius: float) -> NDArray[np.intp]:
    """Return which places, the highest first, have no kept one closer than a radius."""
    if not len(places) or radius <= 0:
        return np.arange(len(places))
    tree, dropped, kept = cKDTree(places), np.zeros(len(places), np.bool_), []
    for place in range(len(places)):
        if not dropped[place]:
            kept.append(place)
            dropped[tree.query_ball_point(places[place], np.nextafter(radius, 0))] = True
    return np.array(kept, np.intp)
