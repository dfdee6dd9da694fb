"""The label of every cell at a threshold that moves: only what changes is touched."""

from __future__ import annotations

import bisect
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_metastasis.geometry import Region, sparse_zeros
from napari_metastasis.lesions.component_tree import ComponentTree
from napari_metastasis.lesions.surface import FloorCells

__all__ = ["Labelling", "stable_ids"]

#: Side of the squares that changes of the labels are reported in, in cells.
_BLOCK = 512
#: From so many cells on it is faster to rename within a rectangle, in memory's order, than cell by cell.
_MANY = 300_000
#: Rows that one thread renames at a time; they stay in its cache.
_STRIP = 32
#: More threads than this wait for memory.
_THREADS = 4


def stable_ids(tree: ComponentTree) -> NDArray[np.int32]:
    """Return the label of each node: 1 for the one that stands out most, of equals the first in row-major order."""
    # A node that never joins another stands out from nothing.
    prominence = tree.peak - np.maximum(tree.saddle, 0)
    ids = np.empty(len(prominence), dtype=np.int32)
    ids[np.lexsort((tree.top, -prominence))] = np.arange(1, len(prominence) + 1, dtype=np.int32)
    return ids


class Labelling:
    """Cells sorted by value and by node, and the labels at the threshold last moved to.

    Parameters
    ----------
    cells, tree
        The surface and its component tree.
    numbers
        (bordered map,) zeros; becomes the labels.
    shape
        Rows and columns of the map.

    Attributes
    ----------
    labels
        (rows, columns) labels, rewritten in place.
    shown
        Cells at the threshold: so many first ones of ``cell``.
    node_area
        (nodes,) int64. How many of them each node has.
    node_probability
        (nodes,) float32. Their highest probability before opening, ``-inf`` where there are none.
    cell, node, border
        (cells,) by falling value: number, node, and the threshold above which a cell lies on its lesion's border.
    cell_by_node, node_start
        The cells of node ``i`` by falling value are ``cell_by_node[node_start[i] : node_start[i + 1]]``.
    """

    def __init__(
        self, cells: FloorCells, tree: ComponentTree, *, numbers: NDArray[np.signedinteger[Any]], shape: tuple[int, int]
    ) -> None:
        self.stride = shape[1] + 2
        self.ids = stable_ids(tree)
        # The labels share the border of the cells' numbers, so that a number is an index; users see the inside.
        self._flat = numbers
        self.labels = numbers.reshape(shape[0] + 2, self.stride)[1:-1, 1:-1]
        self.shown = 0
        self.node_area = np.zeros(len(tree.peak), dtype=np.int64)
        self.node_probability = np.full(len(tree.peak), -np.inf, dtype=np.float32)
        self._lesion_of = np.empty(0, dtype=np.int32)
        order = np.argsort(-cells.value)
        self._value = cells.value[order]
        self.border = cells.border[order]
        self.node = tree.of_cell[order]
        self.cell = cells.cell[order]
        self.cell_by_node = self.cell[self._sort_by_node()]
        self._map_nodes(shape)
        self._find_rises(cells.probability[order], tree.peak)

    def _sort_by_node(self) -> NDArray[np.intp]:
        """Return the indices of ``cell`` node by node, and note where each node starts."""
        # Transposing a matrix with one entry a row is a counting sort, which keeps the order inside each node.
        count = len(self.node)
        row_starts = np.arange(count + 1, dtype=self.cell.dtype)
        one_a_row = sparse.csr_array(
            (np.ones(count, dtype=np.int8), self.node, row_starts), shape=(count, len(self.node_area))
        )
        by_node = one_a_row.tocsc()
        self.node_start = by_node.indptr.astype(np.intp)
        indices: NDArray[np.intp] = by_node.indices
        return indices

    def _map_nodes(self, shape: tuple[int, int]) -> None:
        """Draw each cell's node on a map, counted from 1, and note the rectangle around each node."""
        flat = sparse_zeros(((shape[0] + 2) * self.stride,), np.int32)
        flat[self.cell] = self.node + 1
        self._node_map = flat.reshape(shape[0] + 2, self.stride)[1:-1, 1:-1]
        self._boxes = np.zeros((4, len(self.node_area)), dtype=np.int32)
        if len(self.node_area):
            rows, columns = self.locate(self.cell_by_node)
            starts = self.node_start[:-1]
            for index, (reduce, along) in enumerate(
                ((np.minimum, rows), (np.minimum, columns), (np.maximum, rows), (np.maximum, columns))
            ):
                self._boxes[index] = reduce.reduceat(along, starts)

    def _find_rises(self, probability: NDArray[np.float32], peak: NDArray[np.float32]) -> None:
        """Note the cells that raise their node's highest probability as the threshold falls, and from what."""
        # Opening only lowers: the first cell of a node is at least as probable as the peak is high, and every cell
        # that outdoes it is more so. Without opening those are the first cells alone.
        above = np.flatnonzero(probability >= peak[self.node])
        above = above[np.argsort(self.node[above], kind="stable")]
        node = self.node[above]
        # Offset so that each node starts above the last: float64 leaves 2^-31 for 2^21 nodes, and a float32 above 0.01
        # is spaced no finer.
        running = np.maximum.accumulate(node * 2.0 + probability[above])
        rises = np.flatnonzero(np.diff(running, prepend=-1.0) > 0)
        at = above[rises]
        first = np.diff(node[rises], prepend=-1) > 0
        before = np.where(first, np.float32(-np.inf), np.roll(probability[at], 1))
        order = np.argsort(at)
        self._rise = at[order]
        self._rise_to = probability[self._rise]
        self._rise_from = before[order]

    def move(self, threshold: np.float32, lesion_of: NDArray[np.int32]) -> tuple[Region, ...]:
        """Bring everything to ``threshold``; return the squares of the map whose labels were touched.

        Parameters
        ----------
        threshold
            New threshold.
        lesion_of
            For each node that reaches it, the node that names its lesion.
        """
        shown = self._shown_at(threshold)
        between = slice(min(shown, self.shown), max(shown, self.shown))
        cells, nodes = self.cell[between], self.node[between]
        rises = slice(*np.searchsorted(self._rise, (between.start, between.stop)))
        risen = self.node[self._rise[rises]]
        if shown > self.shown:
            self._flat[cells] = self.ids[lesion_of[nodes]]
            self.node_area += np.bincount(nodes, minlength=len(self.node_area))
            np.maximum.at(self.node_probability, risen, self._rise_to[rises])
        else:
            self._flat[cells] = 0
            self.node_area -= np.bincount(nodes, minlength=len(self.node_area))
            np.minimum.at(self.node_probability, risen, self._rise_from[rises])
        touched = self._squares_of(cells) | self._rename(lesion_of)
        self.shown, self._lesion_of = shown, lesion_of
        return self._regions(touched)

    def _rename(self, lesion_of: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Relabel the shown cells of every node whose lesion has another name than before; return their squares."""
        common = min(len(lesion_of), len(self._lesion_of))
        renamed = np.flatnonzero(lesion_of[:common] != self._lesion_of[:common])
        # Of the two names that a node goes between, the younger is that of the lesion that parts or joins.
        parted = np.maximum(lesion_of[renamed], self._lesion_of[renamed])
        large = np.bincount(parted, weights=self.node_area[renamed], minlength=common) > _MANY
        touched = np.zeros(self._grid, dtype=bool)
        for lesion in np.flatnonzero(large):
            touched |= self._rename_within(renamed[parted == lesion], lesion_of)
        few = renamed[~large[parted]]
        cells, counts = self.cells_of(few, self.node_area[few])
        self._flat[cells] = np.repeat(self.ids[lesion_of[few]], counts)
        return touched | self._squares_of(cells)

    def _rename_within(self, renamed: NDArray[np.intp], lesion_of: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Relabel all shown cells in the rectangle around the nodes; return its squares.

        Two large lesions that part or join rename millions of cells, which only a pass in memory's order does in time.
        """
        top, left = self._boxes[:2, renamed].min(axis=1).tolist()
        bottom, right = (self._boxes[2:, renamed].max(axis=1) + 1).tolist()
        names = np.zeros(len(self.node_area) + 1, dtype=np.int32)
        names[1 : len(lesion_of) + 1] = self.ids[lesion_of]

        def strip(row: int) -> None:
            part = slice(row, min(row + _STRIP, bottom)), slice(left, right)
            labels = self.labels[part]
            # "clip" skips the check of bounds, which nothing here can break, and a third of the time.
            np.copyto(labels, names.take(self._node_map[part], mode="clip"), where=labels != 0)

        with ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1)) as pool:
            list(pool.map(strip, range(top, bottom, _STRIP)))
        touched = np.zeros(self._grid, dtype=bool)
        touched[top // _BLOCK : (bottom - 1) // _BLOCK + 1, left // _BLOCK : (right - 1) // _BLOCK + 1] = True
        return touched

    def _shown_at(self, threshold: np.float32) -> int:
        """Return how many cells reach a threshold: so many first ones."""
        return bisect.bisect_right(self._value, -threshold, key=lambda value: -value)

    def border_at(self, threshold: np.float32) -> NDArray[np.intp]:
        """Return which cells lie on the borders of lesions at a threshold, as indices of ``cell``."""
        return np.flatnonzero(self.border[: self._shown_at(threshold)] < threshold)

    def cells_of(self, nodes: NDArray[np.intp], counts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the numbers of the ``counts`` highest cells of each node, node after node, and ``counts``."""
        ends = np.cumsum(counts)
        first = np.repeat(self.node_start[nodes] - ends + counts, counts)
        return self.cell_by_node[first + np.arange(len(first))], counts

    def locate(self, cells: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return rows and columns of cell numbers."""
        row, column = np.divmod(cells, self.stride)
        return row - 1, column - 1

    @property
    def _grid(self) -> tuple[int, int]:
        """Return how many squares the map has down and across."""
        rows, columns = self.labels.shape
        return -(-rows // _BLOCK), -(-columns // _BLOCK)

    def _squares_of(self, cells: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which squares of the map hold any of the cells."""
        touched = np.zeros(self._grid, dtype=bool)
        row, column = self.locate(cells)
        touched[row // _BLOCK, column // _BLOCK] = True
        return touched

    def _regions(self, touched: NDArray[np.bool_]) -> tuple[Region, ...]:
        """Return squares as regions of the map."""
        rows, columns = self.labels.shape
        whole = Region(0, 0, columns, rows)
        return tuple(
            Region(column * _BLOCK, row * _BLOCK, _BLOCK, _BLOCK).intersection(whole)
            for row, column in np.argwhere(touched).tolist()
        )
