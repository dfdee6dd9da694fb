"""How a heatmap's cells stand to the reference: what matters on slides, most of whose tissue is normal.

Cells are counted by their answer, so that a slide of a hundred million cells takes a few kilobytes and slides can be
resampled. Log-odds, not probabilities, are divided into steps: rates of one in a thousand lie at the end of the scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate

__all__ = ["BIN_LOG_ODDS", "CellCounts", "CellReport", "cell_report", "count_cells", "recalibrated"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

#: Answers beyond these log-odds, one in 160,000, are counted as if they were these.
_LIMIT = 12.0
_STEP = 0.02
_BINS = round(2 * _LIMIT / _STEP)
#: Log-odds in the middle of each bin, (bins,).
BIN_LOG_ODDS: Floats = np.linspace(-_LIMIT + _STEP / 2, _LIMIT - _STEP / 2, _BINS)
#: Of a reliability curve.
_RELIABILITY_BINS = 15
#: Shares of normal cells over the threshold, at which sensitivity is reported.
_FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True, slots=True, eq=False)
class CellCounts:
    """How many cells of a slide, or of several, got which answer.

    Attributes
    ----------
    normal, tumour
        (bins,) cells of each kind by their answer, in steps of :data:`BIN_LOG_ODDS`.
    normal_mm2
        Area of the normal cells.
    """

    normal: Counts
    tumour: Counts
    normal_mm2: float

    @classmethod
    def joined(cls, parts: Iterable[CellCounts]) -> CellCounts:
        """Return the counts of parts of a slide together; none of no part."""
        normal, tumour, areas = np.zeros(_BINS, dtype=np.int64), np.zeros(_BINS, dtype=np.int64), []
        for part in parts:
            normal += part.normal
            tumour += part.tumour
            areas.append(part.normal_mm2)
        return cls(normal, tumour, math.fsum(areas))


def count_cells(probabilities: NDArray[np.float32], on_tumour: NDArray[np.bool_], *, cell_um: float) -> CellCounts:
    """Return the counts of a heatmap, or of a part of one: it takes some ten times the memory of its answers.

    Parameters
    ----------
    probabilities
        (rows, columns), NaN where nothing was answered.
    on_tumour
        The same shape: cells whose centre lies in tumour.
    cell_um
        Side of a cell.
    """
    answered = ~np.isnan(probabilities)
    values = probabilities[answered].astype(np.float64)
    with np.errstate(divide="ignore"):
        log_odds = np.log(values) - np.log1p(-values)
    # Clipped first: certainty is infinite.
    bins = ((np.clip(log_odds, -_LIMIT, _LIMIT) + _LIMIT) / _STEP).astype(np.intp).clip(0, _BINS - 1)
    is_tumour = on_tumour[answered]
    normal, tumour = (np.bincount(bins[kind], minlength=_BINS).astype(np.int64) for kind in (~is_tumour, is_tumour))
    return CellCounts(normal, tumour, float(normal.sum()) * (cell_um / 1000) ** 2)


def recalibrated(counts: CellCounts, temperature: float, shift: float, prior: float) -> CellCounts:
    """Return the counts of cells whose log-odds z are z / temperature + shift + those of the prior."""
    moved = BIN_LOG_ODDS / temperature + shift + math.log(prior / (1 - prior))
    bins = ((np.clip(moved, -_LIMIT, _LIMIT) + _LIMIT) / _STEP).astype(np.intp).clip(0, _BINS - 1)
    normal, tumour = (np.zeros(_BINS, dtype=np.int64) for _ in range(2))
    np.add.at(normal, bins, counts.normal)
    np.add.at(tumour, bins, counts.tumour)
    return CellCounts(normal, tumour, counts.normal_mm2)


@dataclass(frozen=True, slots=True, eq=False)
class CellReport:
    """How well cells are told apart; what is not defined on the slides is NaN.

    Attributes
    ----------
    auc
        Area under the receiver operating characteristic of cells.
    sensitivity
        Share of tumour cells found where 1 %, and 0.1 %, of the normal ones are marked.
    false_positive_area
        Area marked at the threshold in every mm² of normal tissue, in mm².
    found_area
        Share of tumour cells that are marked at the threshold: recall (Khalil et al. 2022, eq. 8).
    precision
        Share of marked cells that are tumour (eq. 7).
    f1
        Of precision and recall (eq. 9).
    miou
        Intersection over union of marked cells and tumour, and of all others, on average (eq. 5 and 6).
    calibration_error
        Expected calibration error at the prior.
    reliability
        (bins, 3): mean probability, share of tumour and weight of each bin of equal width, at the prior; NaN in the
        first two of a bin without cells.
    threshold, prior
        As asked for.
    counts
        Of all slides together.
    """

    auc: Estimate
    sensitivity: tuple[Estimate, ...]
    false_positive_area: Estimate
    found_area: Estimate
    precision: Estimate
    f1: Estimate
    miou: Estimate
    calibration_error: Estimate
    reliability: Floats
    threshold: float
    prior: float
    counts: CellCounts

    def to_json(self) -> dict[str, Any]:
        """Return plain values: each figure under its name, its interval under ``<name>_ci95``; NaN is left out."""
        values: dict[str, Any] = {"cell_threshold": self.threshold, "cell_prior": self.prior}
        for rate, one in zip(_FALSE_POSITIVE_RATES, self.sensitivity, strict=True):
            values |= one.to_json(f"cell_sensitivity_at_fpr_{rate:g}")
        values |= self.auc.to_json("cell_auc")
        values |= self.false_positive_area.to_json("false_positive_mm2_per_mm2")
        values |= self.found_area.to_json("cell_sensitivity")
        values |= _named({"cell_precision": self.precision, "cell_f1": self.f1, "cell_miou": self.miou})
        values |= self.calibration_error.to_json("cell_calibration_error")
        values["reliability"] = [[None if math.isnan(v) else v for v in row] for row in self.reliability.tolist()]
        return values

    def overlap_json(self, *, alone: bool) -> dict[str, Any]:
        """Return the mean IoU of marked cells and tumour, and precision, recall and F1 unless slides have them.

        Parameters
        ----------
        alone
            Whether no slides are told apart.
        """
        figures = {"precision": self.precision, "recall": self.found_area, "f1": self.f1} if alone else {}
        return _named({**figures, "miou": self.miou})


def _named(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: value for name, one in figures.items() for key, value in one.to_json(name).items()}


def cell_report(slides: Sequence[CellCounts], *, threshold: float, prior: float, number: int, seed: int) -> CellReport:
    """Return the figures of slides, with intervals over slides.

    Parameters
    ----------
    slides
        Their counts.
    threshold
        Probability from which a cell is marked.
    prior
        Share of tumour among cells that calibration is measured at; the slides' own where it is 0. Tumour and normal
        cells are weighted to it, for slides that are measured on hold more tumour than those of a day's work.
    number, seed
        Of the resamples.
    """
    normal, tumour = (np.stack([getattr(one, kind) for one in slides]) for kind in ("normal", "tumour"))
    holds = tumour.sum(axis=1) > 0
    resamples = Resamples(holds.astype(np.int64), number=number, seed=seed)
    first = int(np.searchsorted(BIN_LOG_ODDS, math.log(threshold / (1 - threshold)))) if threshold < 1 else _BINS
    answers = 1 / (1 + np.exp(-BIN_LOG_ODDS))
    edges = np.minimum((answers * _RELIABILITY_BINS).astype(np.intp), _RELIABILITY_BINS - 1)
    place = np.eye(_RELIABILITY_BINS)[edges]

    def weights(counts: Counts) -> tuple[Floats, Floats]:
        drawn = (counts @ normal).astype(np.float64), (counts @ tumour).astype(np.float64)
        totals = [part.sum(axis=1, keepdims=True) for part in drawn]
        share = prior if prior else totals[1] / np.maximum(totals[0] + totals[1], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return drawn[0] / totals[0] * (1 - share), drawn[1] / totals[1] * share

    def measure(counts: Counts) -> Floats:
        drawn = [(counts @ kind).astype(np.float64) for kind in (normal, tumour)]
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [part / part.sum(axis=1, keepdims=True) for part in drawn]
        false, found = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in shares)
        # Half of the tumour cells in a normal cell's own bin count as answered higher.
        auc = (shares[0] * (found - shares[1] / 2)).sum(axis=1)
        at_rates = [_at_rate(false, found, rate) for rate in _FALSE_POSITIVE_RATES]
        marked = [part[:, first] if first < _BINS else np.zeros(len(part)) for part in (false, found)]
        overlap = _overlap(drawn[0], drawn[1], first)
        of_normal, of_tumour = weights(counts)
        gaps = (of_normal + of_tumour) * answers - of_tumour
        error = np.abs(gaps @ place).sum(axis=1)
        return np.column_stack((auc, *at_rates, *marked, overlap, error))

    auc, *sensitivity, false_area, found_area, precision, f1, miou, error = estimate(measure, resamples, width=_BINS)
    of_normal, of_tumour = (part[0] for part in weights(np.ones((1, len(slides)), dtype=np.int64)))
    total = (of_normal + of_tumour) @ place
    with np.errstate(invalid="ignore", divide="ignore"):
        curve = np.column_stack((((of_normal + of_tumour) * answers) @ place / total, of_tumour @ place / total, total))
    return CellReport(
        auc=auc,
        sensitivity=tuple(sensitivity),
        false_positive_area=false_area,
        found_area=found_area,
        precision=precision,
        f1=f1,
        miou=miou,
        calibration_error=error,
        reliability=curve,
        threshold=threshold,
        prior=prior,
        counts=CellCounts.joined(slides),
    )


def _overlap(normal: Floats, tumour: Floats, first: int) -> Floats:
    """Return precision, F1 and mean IoU, (k, 3), of cells by their bins, (k, bins), where those from one on are marked.

    Khalil et al. (2022), eq. 5 to 9.
    """
    hit, false = (part[:, first:].sum(axis=1) for part in (tumour, normal))
    missed, right = (part[:, :first].sum(axis=1) for part in (tumour, normal))
    with np.errstate(invalid="ignore", divide="ignore"):
        of_tumour, of_normal = hit / (hit + false + missed), right / (right + false + missed)
        return np.column_stack((hit / (hit + false), 2 * hit / (2 * hit + false + missed), (of_tumour + of_normal) / 2))


def _at_rate(false: Floats, found: Floats, rate: float) -> Floats:
    """Return the share of tumour found at the lowest threshold that marks at most ``rate`` of the normal cells."""
    # Both fall with the threshold; none is marked past the last bin.
    within = false <= rate
    first = np.where(within.any(axis=1), within.argmax(axis=1), false.shape[1])
    padded = np.concatenate([found, np.zeros((len(found), 1))], axis=1)
    answered: Floats = padded[np.arange(len(found)), first]
    return np.where(np.isnan(false[:, 0]) | np.isnan(found[:, 0]), np.nan, answered)
