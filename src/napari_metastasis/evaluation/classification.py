"""Figures of a binary classifier, each with its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

__all__ = ["RESAMPLES", "SEED", "Estimate", "auc_with_interval", "bootstrap"]

#: Resamples of an interval: the third digit of its ends no longer moves.
RESAMPLES = 1000
SEED = 0


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


def bootstrap(measure: Callable[[npt.NDArray[np.intp]], float], groups: tuple[npt.NDArray[np.intp], ...]) -> Estimate:
    """Return ``measure`` of all samples and its percentile interval over resamples.

    Parameters
    ----------
    measure
        From sample numbers, with repetition, to the figure.
    groups
        Sample numbers by class; each is resampled within itself, so that no resample lacks a class.
    """
    generator = np.random.default_rng(SEED)
    drawn = [
        measure(np.concatenate([generator.choice(group, len(group)) for group in groups])) for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(measure(np.concatenate(groups)), float(low), float(high))


def auc_with_interval(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> Estimate:
    """Return the area under the receiver operating characteristic of scores (n,) for labels (n,) of 0 and 1."""
    groups = tuple(np.flatnonzero(labels == k) for k in (0, 1))
    return bootstrap(lambda chosen: _auc(labels[chosen] == 1, scores[chosen]), groups)


def _auc(is_tumour: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Return the share of (tumour, normal) pairs in the right order, ties counting half (Mann and Whitney 1947)."""
    tumour = int(np.count_nonzero(is_tumour))
    # A sum of ranks, each of which counts the samples at or below it.
    above = float(rankdata(scores)[is_tumour].sum()) - tumour * (tumour + 1) / 2
    return above / (tumour * (len(scores) - tumour))
