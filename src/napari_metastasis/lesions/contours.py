"""Where the outlines of lesions are drawn: the contour of the interpolated probability at the threshold.

A contour is made of
the lines that cross single squares between four cell centres (marching squares: Lorensen and Cline 1987, in a plane),
so that any part of a map is drawn alone, and joins the part beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.lesions.measure import LEAST_HEIGHT

__all__ = ["ContourLines", "contour_lines"]

#: Corners of a square: to the upper left, upper right, lower left, lower right; each with its bit.
_BITS = np.array([1, 2, 4, 8], np.uint8)
#: The two corners that each side of a square lies between: top, left, right, bottom.
_SIDES = np.array([(0, 1), (0, 2), (1, 3), (2, 3)])
_TOP, _LEFT, _RIGHT, _BOTTOM = range(4)
#: Row and column of each corner.
_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.float64)
#: The sides that lines join, by the corners that lie inside, which is to the right of the way from one to the other.
#: Cells that touch at a corner are one lesion.
_LINES = {
    1: [(_TOP, _LEFT)],
    2: [(_RIGHT, _TOP)],
    3: [(_RIGHT, _LEFT)],
    4: [(_LEFT, _BOTTOM)],
    5: [(_TOP, _BOTTOM)],
    6: [(_LEFT, _TOP), (_RIGHT, _BOTTOM)],
    7: [(_RIGHT, _BOTTOM)],
    8: [(_BOTTOM, _RIGHT)],
    9: [(_TOP, _RIGHT), (_BOTTOM, _LEFT)],
    10: [(_BOTTOM, _TOP)],
    11: [(_BOTTOM, _LEFT)],
    12: [(_LEFT, _RIGHT)],
    13: [(_TOP, _RIGHT)],
    14: [(_LEFT, _TOP)],
}
_NOTHING, _EVERYTHING = 0, 15


@dataclass(frozen=True, slots=True, eq=False)
class ContourLines:
    """Short straight lines that together go round lesions and their holes.

    Attributes
    ----------
    ends
        (n, 2, 2) float64. The two ends of each line, as (x, y) in level-0 pixels; the lesion lies to the right of the
        way from the first to the second (with y downwards).
    lesion
        (n,) int32. The lesion that each line belongs to.
    following
        (n,) integers. The line that goes on where each one ends; -1 where another part of the map does.
    """

    ends: NDArray[np.float64]
    lesion: NDArray[np.int32]
    following: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def none(cls) -> ContourLines:
        """Return no line."""
        return cls(np.zeros((0, 2, 2)), np.zeros(0, np.int32), np.zeros(0, np.intp))

    @classmethod
    def joined(cls, parts: Sequence[ContourLines]) -> ContourLines:
        """Return the lines of several parts of a map."""
        if not parts:
            return cls.none()
        before = np.cumsum([0, *map(len, parts[:-1])])
        following = [np.where(one.following < 0, -1, one.following + n) for one, n in zip(parts, before, strict=True)]
        return cls(
            np.concatenate([one.ends for one in parts]),
            np.concatenate([one.lesion for one in parts]),
            np.concatenate(following),
        )

    def chosen(self, which: NDArray[np.bool_]) -> ContourLines:
        """Return some of the lines; one whose follower is left out ends there."""
        number = np.full(len(self) + 1, -1)
        number[:-1][which] = np.arange(np.count_nonzero(which))
        return ContourLines(self.ends[which], self.lesion[which], number[self.following[which]])

    def chained(self) -> NDArray[np.intp]:
        """(n,). Return the numbers of the lines in the order in which they go on, one outline after the other."""
        following, seen = self.following.tolist(), bytearray(len(self))
        is_led_to = np.zeros(len(self), np.bool_)
        is_led_to[self.following[self.following >= 0]] = True
        order: list[int] = []
        # What no line leads to, and then rings.
        for first in (*np.flatnonzero(~is_led_to).tolist(), *range(len(self))):
            at = first
            while at >= 0 and not seen[at]:
                seen[at] = 1
                order.append(at)
                at = following[at]
        return np.array(order, np.intp)

    @property
    def is_dot(self) -> NDArray[np.bool_]:
        """(n,) bool. Return which of the lines are dots: lesions too small to be gone round."""
        dots: NDArray[np.bool_] = (self.ends[:, 0] == self.ends[:, 1]).all(axis=1)
        return dots

    def dotted(self, size_px: float, *, parts: bool = False) -> ContourLines:
        """Return these lines with one dot in place of all of a lesion that is smaller than ``size_px``.

        A dot is a line of no length in the lesion's middle: thousands of rings of a few screen pixels cost more than
        they show. A lesion that goes on in another part of the map keeps its lines, unless all ``parts`` are here.
        """
        ids, of = np.unique(self.lesion, return_inverse=True)
        low, high = np.full((len(ids), 2), np.inf), np.full((len(ids), 2), -np.inf)
        np.minimum.at(low, of, self.ends.min(axis=1))
        np.maximum.at(high, of, self.ends.max(axis=1))
        small = (high - low).max(axis=1) < size_px
        if not parts:
            small[of[self.following < 0]] = False
        middle = (low + high)[small] / 2
        dots = ContourLines(
            np.stack((middle, middle), axis=1), ids[small].astype(np.int32), np.full(len(middle), -1, np.intp)
        )
        return ContourLines.joined([self.chosen(~small[of]), dots])

    def simplified(self, tolerance_px: float) -> ContourLines:
        """Return fewer lines within ``tolerance_px`` level-0 pixels of these; every ring keeps at least one.

        Where another part of the map goes on, the end stays: parts that joined still do.
        """
        chain = _Chain(self)
        while chain.drop_some(tolerance_px):
            pass
        return chain.lines()


class _Chain:
    """The ends of lines as vertices that know their neighbours, of which more and more are dropped.

    Parameters
    ----------
    lines
        Where they come from. The first vertices are the beginnings of the lines, then come the ends of those that are
        not followed.
    """

    def __init__(self, lines: ContourLines) -> None:
        count = len(lines)
        last = np.flatnonzero(lines.following < 0)
        self._lines = lines
        self._at = np.concatenate((lines.ends[:, 0], lines.ends[last, 1]))
        self._next = np.concatenate((lines.following, np.full(len(last), -1)))
        self._next[last] = count + np.arange(len(last))
        self._before = np.full(len(self._at), -1)
        followed = self._next >= 0
        self._before[self._next[followed]] = np.flatnonzero(followed)
        #: How far what was dropped beside a vertex may lie from the lines that are left.
        self._error = np.zeros(len(self._at))
        self._alive = np.arange(len(self._at))
        # Which of two neighbours goes first: a fixed shuffle, so that the same lines always come out.
        self._turn = np.random.default_rng(0).permutation(len(self._at))

    def drop_some(self, tolerance: float) -> bool:
        """Drop vertices that nearly lie between their neighbours, never two neighbours; return whether any was."""
        inner = self._alive[(self._before[self._alive] >= 0) & (self._next[self._alive] >= 0)]
        before, after = self._before[inner], self._next[inner]
        inner = inner[before != after]  # two are the least that a ring has
        before, after = self._before[inner], self._next[inner]
        distance = _distances(self._at[inner], self._at[before], self._at[after])
        error = distance + np.maximum(self._error[inner], np.maximum(self._error[before], self._error[after]))
        turn = np.full(len(self._at), -1)
        ready = error <= tolerance
        turn[inner[ready]] = self._turn[inner[ready]]
        dropped = ready & (turn[inner] > turn[before]) & (turn[inner] > turn[after])
        gone, before, after, error = inner[dropped], before[dropped], after[dropped], error[dropped]
        self._next[before], self._before[after] = after, before
        np.maximum.at(self._error, before, error)
        np.maximum.at(self._error, after, error)
        turn[:] = 0
        turn[gone] = 1
        self._alive = self._alive[turn[self._alive] == 0]
        return bool(len(gone))

    def lines(self) -> ContourLines:
        """Return the lines between the vertices that are left; a ring of two vertices is one line, there and back."""
        first = self._alive[self._next[self._alive] >= 0]
        second = self._next[first]
        back = (self._next[second] == first) & (second < first)
        first, second = first[~back], second[~back]
        number = np.full(len(self._at), -1)
        number[first] = np.arange(len(first))
        return ContourLines(
            np.stack((self._at[first], self._at[second]), axis=1), self._lines.lesion[first], number[second]
        )


def _distances(
    points: NDArray[np.float64], begin: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each point lies from a straight line from one point to another."""
    way, there = end - begin, points - begin
    squared = (way**2).sum(axis=1)
    share = np.clip((there * way).sum(axis=1) / np.where(squared > 0, squared, 1), 0, 1)
    distances: NDArray[np.float64] = np.hypot(*(there - share[:, None] * way).T)
    return distances


def contour_lines(
    labels: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    threshold: float,
    *,
    cells: Region,
    frame: HeatmapFrame,
) -> ContourLines:
    """Return the contours of lesions within a part of a map, and what of them lies there of larger lesions.

    Between a cell of a lesion and one below the threshold the line lies where the interpolated probability is the
    threshold. Where the neighbour was not scanned, or is above the threshold and yet of no lesion (the opening took it
    away), the line lies halfway: on the edge of the cell.

    Parameters
    ----------
    labels
        (rows, columns) int32, 0 outside lesions.
    probabilities
        (rows, columns) float32, NaN where nothing was scanned: what the lesions were read from.
    threshold
        At which they were read.
    cells
        Which cells of the map those are. Lines run between their centres: parts share a row or column of cells where
        they are to join. A part may reach past the map; there is nothing.
    frame
        Says where the cells lie.
    """
    inside = labels > 0
    case = _windows(inside.view(np.uint8), _BITS).ravel()
    crossed = np.flatnonzero((case != _NOTHING) & (case != _EVERYTHING))
    if not len(crossed):
        return ContourLines.none()
    row, column = np.divmod(crossed, labels.shape[1] - 1)
    case = case[crossed]
    corner = (row * labels.shape[1] + column)[:, None] + np.array([0, 1, labels.shape[1], labels.shape[1] + 1])
    heights = _heights(inside, probabilities, np.float32(threshold)).ravel()[corner]
    lesion = labels.ravel()[corner].max(axis=1)
    begin, end = _CORNERS[_SIDES[:, 0]], _CORNERS[_SIDES[:, 1]]
    before, after = heights[:, _SIDES[:, 0]], heights[:, _SIDES[:, 1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Sides that are not crossed are never asked for.
        share = before / (before - after)
    share = np.where(np.isfinite(share), share, 0.5)[..., None]
    crossings = begin + share * (end - begin) + np.column_stack((row, column))[:, None]
    of, first, last = _lines_of(case)
    at = np.stack((crossings[of, first], crossings[of, last]), axis=1)[..., ::-1]
    # Each pair of neighbouring cells has a number, that of the first cell twice: of a pair in a column, plus one.
    pairs = 2 * (row * labels.shape[1] + column)[:, None] + np.array([0, 1, 3, 2 * labels.shape[1]])
    following = _following(pairs[of, first], pairs[of, last])
    origin = frame.cell_center(cells.x, cells.y)
    return ContourLines(at * frame.cell_px + (origin.x, origin.y), lesion[of], following)


def _windows(array: NDArray[np.uint8], weights: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the weighted sum of the corners of every square between four cells."""
    summed = weights[0] * array[:-1, :-1]
    for weight, part in zip(weights[1:], (array[:-1, 1:], array[1:, :-1], array[1:, 1:]), strict=True):
        summed += weight * part
    return summed


def _heights(
    inside: NDArray[np.bool_], probabilities: NDArray[np.float32], threshold: np.float32
) -> NDArray[np.float32]:
    """Return how far each cell lies above the threshold: negative outside lesions, NaN where that is not known."""
    height = probabilities - threshold
    outside = np.where(height < 0, np.fmin(height, -LEAST_HEIGHT), np.float32(np.nan))
    return np.where(inside, np.fmax(height, LEAST_HEIGHT), outside)


def _lines_of(case: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return, for each line, which of the squares it crosses and the two sides that it joins."""
    of, first, last = [], [], []
    for corners, lines in _LINES.items():
        squares = np.flatnonzero(case == corners)
        for one, other in lines:
            of.append(squares)
            first.append(np.full(len(squares), one))
            last.append(np.full(len(squares), other))
    return np.concatenate(of), np.concatenate(first), np.concatenate(last)


def _following(begin: NDArray[np.intp], end: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return, for the pair of cells that each line ends between, the line that begins there; -1 where none does."""
    order = np.argsort(begin)
    at = np.minimum(np.searchsorted(begin, end, sorter=order), len(begin) - 1)
    found = order[at]
    return np.where(begin[found] == end, found, -1)
