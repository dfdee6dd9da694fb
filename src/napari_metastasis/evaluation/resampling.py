"""Percentile intervals over resampled slides or patches, many resamples at a time.

A resample is a row of counts: how often each sample was drawn. Figures that follow from counts by sums, as most here
do, are then computed for hundreds of resamples in one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Resamples", "estimate"]

#: Numbers of one intermediate array, which bounds memory and changes no answer.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def ci95(self) -> tuple[float, float]:
        """Return both ends of the interval."""
        return self.low, self.high

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the figure under ``name`` and its interval under ``<name>_ci95``, each unless it is NaN."""
        figure: dict[str, Any] = {} if math.isnan(self.value) else {name: self.value}
        return figure if math.isnan(self.low) else figure | {f"{name}_ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """How to draw them.

    Attributes
    ----------
    groups
        (n,) integers: samples are redrawn within their group, so that a resample has as many of each as the cohort.
    number
        How many resamples.
    seed
        Of the draws; the same draws serve every figure of a cohort.
    """

    groups: NDArray[np.integer]
    number: int
    seed: int

    def blocks(self, width: int) -> Iterator[NDArray[np.int64]]:
        """Yield counts (resamples, n), so many rows at a time that arrays of ``width`` columns stay small."""
        generator = np.random.default_rng(self.seed)
        members = [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]
        # The number of rows must not reach the draws: one row after another, they come out the same in any blocks.
        step = max(1, _BLOCK // max(width, len(self.groups), 1))
        for start in range(0, self.number, step):
            rows = min(step, self.number - start)
            counts = np.zeros((rows, len(self.groups)), dtype=np.int64)
            for row in range(rows):
                for group in members:
                    drawn = generator.integers(len(group), size=len(group))
                    counts[row, group] = np.bincount(drawn, minlength=len(group))
            yield counts


def estimate(
    measure: Callable[[NDArray[np.int64]], NDArray[np.float64]], resamples: Resamples, *, width: int
) -> Sequence[Estimate]:
    """Return figures of all samples with their 95 % percentile intervals (Efron 1979).

    Parameters
    ----------
    measure
        From counts (k, n) to figures (k, figures); NaN where a figure is not defined, which leaves the resample out of
        that figure's interval.
    resamples
        How to draw.
    width
        Columns of the largest array that ``measure`` makes, with a row for each resample.
    """
    whole = measure(np.ones((1, len(resamples.groups)), dtype=np.int64))[0]
    drawn = np.concatenate([measure(counts) for counts in resamples.blocks(width)])
    estimates = []
    for value, column in zip(whole, drawn.T, strict=True):
        defined = column[~np.isnan(column)]
        low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
        estimates.append(Estimate(float(value), float(low), float(high)))
    return estimates
