"""The free-response curve: lesions found against false positives per slide, and the challenge's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.matching import SlideOutcome
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate

__all__ = ["FrocCurve", "FrocFigures", "Reading", "froc_curve", "froc_figures"]

Floats = NDArray[np.float64]

#: Between two operating points the curve is read as the line that joins them, or as the lower of both.
Reading = Literal["linear", "step"]


@dataclass(frozen=True, slots=True, eq=False)
class FrocCurve:
    """Operating points, from none kept to all kept.

    Attributes
    ----------
    thresholds
        (n,) float64, falling: infinity, at which nothing is kept, then every probability that changes a count. At a
        threshold everything of at least that probability is kept, so that ties enter together.
    false_positives_per_slide, sensitivity
        (n,) float64, not falling. False positives are averaged over all slides, with and without tumour.
    """

    thresholds: Floats
    false_positives_per_slide: Floats
    sensitivity: Floats

    def sensitivity_at(self, rates: Sequence[float], reading: Reading) -> Floats:
        """Return the sensitivity at each number of false positives per slide.

        Past its last point the curve stays level. Where several points have one rate, the highest counts.
        """
        return _read(self.false_positives_per_slide[None], self.sensitivity[None], rates, reading)[0]

    def score(self, rates: Sequence[float], reading: Reading) -> float:
        """Return the mean sensitivity over ``rates`` (Lin et al. 2019, III-C)."""
        return float(self.sensitivity_at(rates, reading).mean())


@dataclass(frozen=True, slots=True)
class FrocFigures:
    """The curve's figures in one reading.

    Attributes
    ----------
    score
        Mean sensitivity over the rates.
    sensitivity
        At each rate.
    """

    score: Estimate
    sensitivity: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """Everything that changes a count, strongest first.

    ``slide`` says whose it is, ``is_hit`` whether it finds a target or is a false positive, and ``last`` which events
    are the last of their probability: (points,) indices. ``targets`` is (slides,).
    """

    probability: Floats
    slide: NDArray[np.intp]
    is_hit: NDArray[np.bool_]
    last: NDArray[np.intp]
    targets: NDArray[np.int64]


def froc_curve(outcomes: Sequence[SlideOutcome]) -> FrocCurve:
    """Return the curve of a cohort.

    Raises
    ------
    EvaluationError
        If no slide has a lesion to find.
    """
    events = _events(outcomes)
    false_positives, sensitivity = _points(events, np.ones((1, len(outcomes)), dtype=np.int64))
    return FrocCurve(
        thresholds=np.concatenate(([np.inf], events.probability[events.last])),
        false_positives_per_slide=false_positives[0],
        sensitivity=sensitivity[0],
    )


def froc_figures(
    outcomes: Sequence[SlideOutcome], rates: Sequence[float], reading: Reading, resamples: Resamples
) -> FrocFigures:
    """Return score and sensitivities with their intervals over slides.

    Resamples without a lesion to find have no sensitivity and are left out.

    Raises
    ------
    EvaluationError
        If no slide has a lesion to find.
    """
    events = _events(outcomes)
    # Of many detections few lie left of the last rate: as many as this cohort needs, and half as many more, to begin.
    false_positives = np.cumsum(~events.is_hit)[events.last]
    enough = int(1.5 * np.searchsorted(false_positives, max(rates) * len(outcomes), "right")) + 1

    def measure(counts: NDArray[np.int64]) -> Floats:
        points = enough
        while True:
            curves = _points(_strongest(events, points), counts)
            if points >= len(events.last) or (curves[0][:, -1] > max(rates)).all():
                break
            points *= 2
        at = _read(*curves, rates, reading)
        return np.column_stack((at.mean(axis=1), at))

    score, *sensitivity = estimate(measure, resamples, width=min(enough, len(events.last)) + 1)
    return FrocFigures(score=score, sensitivity=tuple(sensitivity))


def _events(outcomes: Sequence[SlideOutcome]) -> _Events:
    targets = np.array([outcome.targets for outcome in outcomes], dtype=np.int64)
    if not targets.sum():
        raise EvaluationError(
            f"expected a lesion to find, got none on {len(outcomes)} slides; "
            "add slides with tumour beyond isolated cells"
        )
    hits = [np.array(outcome.hits, dtype=np.float64) for outcome in outcomes]
    misfires = [outcome.false_positives for outcome in outcomes]
    probability = np.concatenate(hits + misfires)
    slides = np.arange(len(outcomes))
    slide = np.concatenate([np.repeat(slides, [len(part) for part in parts]) for parts in (hits, misfires)])
    is_hit = np.arange(len(probability)) < sum(map(len, hits))
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.diff(probability[order]) != 0, True)[: len(order)]
    return _Events(probability[order], slide[order], is_hit[order], np.flatnonzero(ends), targets)


def _strongest(events: _Events, points: int) -> _Events:
    """Return the events of the first so many operating points."""
    last = events.last[:points]
    end = int(last[-1]) + 1 if len(last) else 0
    return _Events(events.probability[:end], events.slide[:end], events.is_hit[:end], last, events.targets)


def _points(events: _Events, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return false positives per slide and sensitivity, each (cohorts, points), of cohorts drawn from the slides.

    Parameters
    ----------
    events
        Of every slide, once.
    counts
        (cohorts, slides): how often each slide is in each cohort.
    """
    weights = counts[:, events.slide]
    kept = [np.cumsum(np.where(which, weights, 0), axis=1)[:, events.last] for which in (~events.is_hit, events.is_hit)]
    false_positives, found = (np.pad(part, ((0, 0), (1, 0))) for part in kept)
    targets = (counts @ events.targets)[:, None]
    slides = counts.sum(axis=1, keepdims=True)
    sensitivity = np.divide(found, targets, out=np.full(found.shape, np.nan), where=targets > 0)
    return false_positives / slides, sensitivity


def _read(false_positives: Floats, sensitivity: Floats, rates: Sequence[float], reading: Reading) -> Floats:
    """Return the sensitivity (cohorts, rates) of curves (cohorts, points)."""
    curve = np.arange(len(false_positives))
    points = false_positives.shape[1]
    columns = []
    for rate in rates:
        # The last point that is not past the rate: of those with one rate, the most sensitive.
        before = (false_positives <= rate).sum(axis=1) - 1
        low = sensitivity[curve, before]
        if reading == "linear":
            after = np.minimum(before + 1, points - 1)
            x0, x1 = false_positives[curve, before], false_positives[curve, after]
            share = np.divide(rate - x0, x1 - x0, out=np.zeros(len(curve)), where=x1 > x0)
            low = low + share * (sensitivity[curve, after] - low)
        columns.append(low)
    return np.stack(columns, axis=1)
