"""The component tree of a surface: its connected components at every threshold at once.

Each cell climbs to the highest of its neighbours until it stands on a peak; the cells that reach one peak are a node.
Lowering the threshold, two nodes become one component at the highest saddle between them, and the one with the lower
peak becomes the child (the elder rule of persistent homology: Edelsbrunner, Letscher and Zomorodian 2002). A node is
thus its peak, the height at which it joins, and the parent that it joins; nothing is quantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.lesions.surface import FloorCells

__all__ = ["ComponentTree", "build_tree", "follow"]

#: Cells whose neighbours are looked up at once: the temporary arrays stay at a few MB.
_CHUNK = 1 << 20
#: Once a round joins fewer than this share of the nodes, the plain loop does the rest: long chains do not slow it down.
_WORTHWHILE = 0.05


@dataclass(frozen=True, slots=True)
class ComponentTree:
    """The nodes of a surface, highest peak first; of equal peaks, the first in row-major order.

    Attributes
    ----------
    peak
        (n,) float32. Height of each peak.
    saddle
        (n,) float32, below ``peak``. Threshold down from which the node belongs to ``parent``; ``-inf`` if never.
    parent
        (n,) int32. The node that it joins, always an earlier one; itself where it joins none.
    top
        (n,) integers. Number of the first cell of its peak.
    of_cell
        (cells,) int32. Node of each cell.
    """

    peak: NDArray[np.float32]
    saddle: NDArray[np.float32]
    parent: NDArray[np.int32]
    top: NDArray[Any]
    of_cell: NDArray[np.int32]

    def lesions_at(self, threshold: np.float32) -> NDArray[np.int32]:
        """Return, for every node that reaches ``threshold``, the node that names its lesion.

        Nodes are sorted by their peaks, so that those are the first ``len(result)``.
        """
        shown = int(np.searchsorted(-self.peak, -threshold, side="right"))
        itself = np.arange(shown, dtype=np.int32)
        return follow(np.where(self.saddle[:shown] >= threshold, self.parent[:shown], itself))


def follow(pointers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return where each chain of pointers ends; an element that points at itself ends one.

    ``pointers`` is used as working space: its contents are lost.
    """
    # Two arrays take turns, since fresh ones of this size cost more in page faults than the look-ups themselves.
    further = np.empty_like(pointers)
    while True:
        # "clip" alone writes straight to `out`; nothing is ever out of range.
        np.take(pointers, pointers, out=further, mode="clip")
        if np.array_equal(further, pointers):
            return pointers
        pointers, further = further, pointers


def build_tree(cells: FloorCells, numbers: NDArray[np.int32], stride: int) -> ComponentTree:
    """Return the component tree of a surface.

    Parameters
    ----------
    cells
        The surface.
    numbers
        (bordered map,) int32, all zero; scratch space, zero again on return.
    stride
        Cell numbers from one row to the next.
    """
    count = len(cells.cell)
    numbers[cells.cell] = np.arange(1, count + 1, dtype=np.int32)
    top_of = follow(numbers[cells.uphill] - 1)
    tops = np.flatnonzero(top_of == np.arange(count, dtype=np.int32))
    tops = tops[np.lexsort((cells.cell[tops], -cells.value[tops]))]
    rank = np.empty(count, dtype=np.int32)
    rank[tops] = np.arange(len(tops), dtype=np.int32)
    of_cell = rank[top_of]
    first, second, height = _borders(cells, of_cell, numbers, stride)
    numbers[cells.cell] = 0
    saddle, parent = _join(len(tops), first, second, height)
    peak = cells.value[tops]
    # The tops of one plateau, and nodes that share a shoulder as high as their peak, are one node to every threshold.
    kept = saddle < peak
    into = follow(np.where(kept, np.arange(len(tops), dtype=np.int32), parent))
    renamed = np.cumsum(kept, dtype=np.int32) - 1
    return ComponentTree(
        peak=peak[kept],
        saddle=saddle[kept],
        parent=renamed[into[parent[kept]]],
        top=cells.cell[tops[kept]],
        of_cell=renamed[into[of_cell]],
    )


def _borders(
    cells: FloorCells, of_cell: NDArray[np.int32], numbers: NDArray[np.int32], stride: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return the nodes of every two touching cells of different nodes, and the height of the lower cell."""
    firsts, seconds, heights = [], [], []
    for start in range(0, len(cells.cell), _CHUNK):
        here = slice(start, start + _CHUNK)
        own, value = of_cell[here], cells.value[here]
        # Half of the eight neighbours; the other half finds the pair from the other side.
        for step in (1, stride - 1, stride, stride + 1):
            neighbour = numbers[cells.cell[here] + step] - 1
            # Where there is none, -1 reads the last cell; that pair is dropped here.
            differ = np.flatnonzero((neighbour >= 0) & (of_cell[neighbour] != own))
            neighbour = neighbour[differ]
            firsts.append(own[differ])
            seconds.append(of_cell[neighbour])
            heights.append(np.minimum(value[differ], cells.value[neighbour]))
    if not firsts:
        none = np.empty(0, dtype=np.int32)
        return none, none, np.empty(0, dtype=np.float32)
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(heights)


def _join(
    count: int, first: NDArray[np.int32], second: NDArray[np.int32], height: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the saddle at which each node joins a parent, and that parent.

    As in Borůvka's algorithm every node looks at its highest border. If the node beyond it has a higher peak, that is
    the parent, whatever else is on the map: all such nodes join at once, and the parent takes over their borders.
    """
    saddle = np.full(count, -np.inf, dtype=np.float32)
    itself = np.arange(count, dtype=np.int32)
    parent = itself.copy()
    while len(first):
        highest = np.full(count, -np.inf, dtype=np.float32)
        np.maximum.at(highest, first, height)
        np.maximum.at(highest, second, height)
        beyond = itself.copy()
        for own, other in ((first, second), (second, first)):
            through = np.flatnonzero(height == highest[own])
            # The smallest number is the highest peak.
            np.minimum.at(beyond, own[through], other[through])
        settled = np.flatnonzero(beyond < itself)
        saddle[settled] = highest[settled]
        parent[settled] = beyond[settled]
        root = follow(beyond)
        first, second = root[first], root[second]
        open_ = np.flatnonzero(first != second)
        first, second, height = first[open_], second[open_], height[open_]
        if len(settled) < _WORTHWHILE * len(np.unique(first)):
            _join_one_by_one(saddle, parent, first, second, height)
            break
    return saddle, parent


def _join_one_by_one(
    saddle: NDArray[np.float32],
    parent: NDArray[np.int32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    height: NDArray[np.float32],
) -> None:
    """Join the remaining nodes, in place, from the highest border down (Kruskal's algorithm, elder rule)."""
    joined: dict[int, int] = {}

    def root(node: int) -> int:
        path = []
        while node in joined:
            path.append(node)
            node = joined[node]
        joined.update(dict.fromkeys(path, node))
        return node

    order = np.argsort(-height, kind="stable")
    for one, other, at in zip(first[order].tolist(), second[order].tolist(), height[order].tolist(), strict=True):
        older, younger = sorted((root(one), root(other)))
        if older != younger:
            saddle[younger], parent[younger], joined[younger] = at, older, older
