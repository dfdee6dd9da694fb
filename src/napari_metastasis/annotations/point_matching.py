"""Points that were found against those that a person set, one to one.

The rule: a found point finds a set one within a radius, and each finds, or is found by, one at the most. As many are
matched as can be, whatever the order of the file; among the many ways to do that, the surest are matched. Both hold at
every threshold at once: points that were found are taken in falling order of probability, and each is matched that can
be without giving up an earlier one (an augmenting path: the sets that can be matched are a matroid, so that this makes
the largest set, and the surest).

Greedy matching, as most published code has it, takes the nearest point or the first, and can miss a pair that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_metastasis.errors import EvaluationError

__all__ = ["PointOutcome", "match_points"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PointOutcome:
    """One slide's share of every figure.

    Attributes
    ----------
    slide
        The slide's name.
    probability
        (n,) float64, of the points that were found, the surest first.
    found
        (n,) int: which of the set points each finds; -1 where it is a false positive, at every threshold.
    points
        How many were set.
    """

    slide: str
    probability: Floats
    found: NDArray[np.int64]
    points: int

    def counts_at(self, threshold: float) -> tuple[int, int, int]:
        """Return true positives, false positives and misses among points of at least a probability."""
        kept = self.found[: np.count_nonzero(self.probability >= threshold)]
        hits = int(np.count_nonzero(kept >= 0))
        return hits, len(kept) - hits, self.points - hits


def match_points(
    slide: str, *, found: Floats, probability: Floats, reference: Floats, mpp: float, radius_um: float
) -> PointOutcome:
    """Return which of a slide's points were found.

    Parameters
    ----------
    slide
        Its name.
    found, reference
        (n, 2) and (m, 2) float64, as (x, y) in level-0 pixels.
    probability
        (n,) of the points that were found.
    mpp
        Micrometres per level-0 pixel.
    radius_um
        Largest distance of a pair.

    Raises
    ------
    EvaluationError
        If there is not one probability for each point that was found, or one is not finite.
    """
    found, reference = (np.asarray(xy, np.float64).reshape(-1, 2) for xy in (found, reference))
    probability = np.asarray(probability, np.float64)
    if probability.shape != (len(found),) or not np.isfinite(probability).all():
        raise EvaluationError(
            f"expected a finite probability for each of the {len(found)} points found on {slide}, got "
            f"{np.isfinite(probability).sum()}; write one for each"
        )
    order = np.argsort(-probability, kind="stable")
    near: list[list[int]] = [[] for _ in order]
    if len(found) and len(reference):
        # The nearest first, so that pairs look as a person would make them where there is a choice.
        for place, close in enumerate(cKDTree(reference).query_ball_point(found[order], radius_um / mpp)):
            distances = np.linalg.norm(reference[close] - found[order[place]], axis=1)
            near[place] = np.asarray(close, np.int64)[np.argsort(distances, kind="stable")].tolist()
    return PointOutcome(slide, probability[order], _matched(near, len(reference)), len(reference))


def _matched(near: Sequence[Sequence[int]], points: int) -> NDArray[np.int64]:
    """Return for each found point the set one that it is matched with, or -1.

    Parameters
    ----------
    near
        Of each found point, the surest first, the set ones that it may find.
    points
        How many were set.
    """
    matched, finder = np.full(len(near), -1, np.int64), np.full(points, -1, np.int64)
    for place in range(len(near)):
        _match(place, near, matched, finder)
    return matched


def _match(place: int, near: Sequence[Sequence[int]], matched: NDArray[np.int64], finder: NDArray[np.int64]) -> None:
    """Match a found point, where need be after earlier ones have moved to other set points: breadth first.

    Parameters
    ----------
    place
        Which found point.
    near
        What each may find.
    matched, finder
        Which set point each found one finds, and the other way round; -1 for none. Changed in place.
    """
    reached_by: dict[int, int] = {}
    waiting = [place]
    for one in waiting:
        for point in near[one]:
            if point in reached_by:
                continue
            reached_by[point] = one
            if finder[point] >= 0:
                waiting.append(int(finder[point]))
                continue
            # It is free: each on the way takes what it reached, and leaves what it had to the one before.
            free = point
            while free >= 0:
                taker = reached_by[free]
                left = int(matched[taker])
                matched[taker], finder[free] = free, taker
                free = left
            return
