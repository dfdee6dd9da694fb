"""Figures of a yes-or-no classifier with intervals: areas and rates, and how honest its probabilities are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate

__all__ = [
    "BinaryReport",
    "Confusion",
    "binary_report",
    "calibration_error",
    "precision_recall_points",
    "roc_points",
    "sensitivity_at",
]

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

#: Bins of the expected calibration error: the number that Guo et al. 2017 and most after them use.
_BINS = 15


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many of each class were called what."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True, slots=True)
class BinaryReport:
    """How well scores tell two classes apart; what is not defined on the samples is NaN.

    Attributes
    ----------
    auc
        Area under the receiver operating characteristic.
    precision, recall, f1, balanced_accuracy
        Where a score of at least ``threshold`` is called positive.
    confusion
        The counts behind them.
    threshold
        As asked for.
    """

    auc: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    balanced_accuracy: Estimate
    confusion: Confusion
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values: each figure under its name, its interval under ``<name>_ci95``; NaN is left out."""
        values: dict[str, Any] = {}
        for item in fields(self):
            figure = getattr(self, item.name)
            if isinstance(figure, Estimate):
                values |= figure.to_json(item.name)
        counts = {item.name: getattr(self.confusion, item.name) for item in fields(self.confusion)}
        return values | {"confusion": counts, "threshold": self.threshold}


def binary_report(labels: Labels, scores: Floats, *, threshold: float, resamples: Resamples) -> BinaryReport:
    """Return all figures of scores (n,) for labels (n,), True for the class that is looked for."""
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    called = scores >= threshold
    kinds = np.column_stack((labels & called, ~labels & called, labels & ~called, ~labels & ~called))
    order = np.argsort(scores, kind="stable")
    in_order = labels[order]
    first, end = _ties(scores[order])

    def measure(counts: NDArray[np.int64]) -> Floats:
        hit, false, missed, right = (counts @ kinds).T.astype(np.float64)
        recall, specificity = _share(hit, hit + missed), _share(right, right + false)
        weights = counts[:, order]
        return np.column_stack(
            (
                _auc(np.where(in_order, weights, 0), np.where(in_order, 0, weights), first, end),
                _share(hit, hit + false),
                recall,
                _share(2 * hit, 2 * hit + false + missed),
                (recall + specificity) / 2,
            )
        )

    auc, precision, recall, f1, balanced = estimate(measure, resamples, width=len(labels))
    return BinaryReport(
        auc=auc,
        precision=precision,
        recall=recall,
        f1=f1,
        balanced_accuracy=balanced,
        confusion=Confusion(*map(int, kinds.sum(axis=0))),
        threshold=threshold,
    )


def calibration_error(labels: Labels, probabilities: Floats, *, resamples: Resamples) -> Estimate:
    """Return the expected calibration error of the probability of tumour, over 15 bins of equal width from 0 to 1.

    It is the sum over bins of the bin's share of the samples times the gap between their mean probability and the share
    of them that is positive: Guo et al. 2017, "On calibration of modern neural networks", eq. 3, with the probability
    of the positive class (Naeini, Cooper and Hauskrecht 2015) in the place of that of the likelier one. The latter
    puts p and 1 - p into one bin, where a model that calls both too high seems honest.

    Parameters
    ----------
    labels
        (n,) bool, True for tumour.
    probabilities
        (n,) of 0 to 1; 1 belongs to the last bin.
    resamples
        How the interval is drawn.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    bins = np.minimum((probabilities * _BINS).astype(np.intp), _BINS - 1)
    # The weight of a bin times its gap is the sum of its samples' own gaps, over all samples.
    gaps = np.zeros((len(bins), _BINS))
    gaps[np.arange(len(bins)), bins] = probabilities - labels

    def measure(counts: NDArray[np.int64]) -> Floats:
        errors: Floats = (np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1))[:, None]
        return errors

    return estimate(measure, resamples, width=len(bins))[0]


def roc_points(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return the false and true positive rates, from nothing called positive to everything."""
    false, hit = _kept(labels, scores)
    return _share(false, false[-1:]), _share(hit, hit[-1:])


def precision_recall_points(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return recall and precision, from the highest score on, beginning at recall 0 with the first precision."""
    false, hit = (counts[1:] for counts in _kept(labels, scores))
    recall, precision = _share(hit, hit[-1:]), _share(hit, hit + false)
    return np.concatenate(([0.0], recall)), np.concatenate((precision[:1], precision))


def _kept(labels: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """Return how many of either class score at least as much, at falling thresholds; ties enter together."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    in_order = np.asarray(labels, dtype=bool)[order]
    last = np.flatnonzero(np.append(np.diff(np.asarray(scores)[order]) != 0, True)[: len(order)])
    return tuple(  # type: ignore[return-value]
        np.concatenate(([0.0], np.cumsum(which)[last].astype(np.float64))) for which in (~in_order, in_order)
    )


def _ties(ascending: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return, for each score in order, where those equal to it begin and end."""
    return np.searchsorted(ascending, ascending, "left"), np.searchsorted(ascending, ascending, "right")


def _auc(positive: NDArray[np.int64], negative: NDArray[np.int64], first: Any, end: Any) -> Floats:
    """Return the share of pairs in the right order, ties counting half (Mann and Whitney 1947).

    Parameters
    ----------
    positive, negative
        (cohorts, n): how often each sample of a class is in each cohort, 0 for the other class; by rising score.
    first, end
        (n,): the samples with the same score.
    """
    below = np.pad(np.cumsum(negative, axis=1), ((0, 0), (1, 0)))
    ordered = (positive * (below[:, first] + below[:, end])).sum(axis=1) / 2
    return _share(ordered, (positive.sum(axis=1) * negative.sum(axis=1)).astype(np.float64))


def _share(part: Floats, whole: Floats) -> Floats:
    """Return ``part / whole``, NaN where there is no whole."""
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def sensitivity_at(
    labels: Labels, scores: Floats, rates: tuple[float, ...], resamples: Resamples
) -> tuple[Estimate, ...]:
    """Return the share of positives over the lowest threshold that at most a share of the negatives is over.

    Parameters
    ----------
    labels, scores
        (n,) whether a sample is positive, and its score.
    rates
        Shares of negatives.
    resamples
        Of these samples.

    Returns
    -------
    One figure for each rate; NaN where a class is missing.
    """
    order = np.argsort(-scores, kind="stable")
    positive, ranked = labels[order], scores[order]
    # A threshold lies between two different scores: samples that tie are over it together.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def measure(counts: NDArray[np.int64]) -> Floats:
        drawn = counts[:, order]
        of_kind = [np.cumsum(drawn * kind, axis=1) for kind in (~positive, positive)]
        with np.errstate(invalid="ignore", divide="ignore"):
            false, found = (part[:, last] / part[:, -1:] for part in of_kind)
        figures = np.empty((len(counts), len(rates)))
        for column, rate in enumerate(rates):
            within = (false <= rate).sum(axis=1)
            reached = found[np.arange(len(found)), np.maximum(within - 1, 0)]
            figures[:, column] = np.where(within == 0, 0.0, reached)
        missing = np.isnan(false[:, 0]) | np.isnan(found[:, 0])
        return np.where(missing[:, None], np.nan, figures)

    return tuple(estimate(measure, resamples, width=len(scores)))
