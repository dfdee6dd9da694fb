"""Points that were found against those that a person set: hits, misses and false positives at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations.point_matching import PointOutcome, match_points
from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.settings import PointScoringSettings

__all__ = ["PointFigures", "PointOutcome", "match_points", "point_figures"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PointFigures:
    """What a threshold yields over all slides.

    Attributes
    ----------
    threshold
        Probability from which points count as found.
    hits, false_positives, misses
        Over all slides.
    precision, recall, f1
        With 95 % intervals over slides; NaN where there is nothing to divide by.
    """

    threshold: float
    hits: int
    false_positives: int
    misses: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


def point_figures(
    outcomes: Sequence[PointOutcome], thresholds: Sequence[float], settings: PointScoringSettings
) -> tuple[PointFigures, ...]:
    """Return precision, recall and F1 at each threshold, of all slides' points together, with intervals over slides.

    Raises
    ------
    EvaluationError
        If there is no slide.
    """
    if not outcomes:
        raise EvaluationError("expected points of at least one slide, got none; name some")
    counts = np.array([[outcome.counts_at(threshold) for threshold in thresholds] for outcome in outcomes])
    counts = counts.reshape(len(outcomes), len(thresholds), 3)

    def measure(drawn: NDArray[np.int64]) -> Floats:
        hits, false_positives, misses = np.moveaxis(np.tensordot(drawn, counts, axes=1), 2, 0).astype(np.float64)
        with np.errstate(invalid="ignore"):
            figures = (
                hits / (hits + false_positives),
                hits / (hits + misses),
                2 * hits / (2 * hits + false_positives + misses),
            )
        return np.concatenate(figures, axis=1)

    resamples = Resamples(np.zeros(len(outcomes), np.int64), settings.resamples, settings.seed)
    estimates = np.array(estimate(measure, resamples, width=3 * len(thresholds)), dtype=object)
    by_threshold = zip(thresholds, counts.sum(axis=0).tolist(), *np.split(estimates, 3), strict=True)
    return tuple(
        PointFigures(threshold, hits, false_positives, misses, precision=precision, recall=recall, f1=f1)
        for threshold, (hits, false_positives, misses), precision, recall, f1 in by_threshold
    )
