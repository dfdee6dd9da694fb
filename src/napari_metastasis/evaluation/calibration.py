"""How a detector's answers become probabilities of tumour on slides: fitted on the cells of slides it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.cells import BIN_LOG_ODDS, CellCounts

__all__ = ["Calibration", "fit_calibration"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How log-odds z of a network are put right; see :class:`~napari_metastasis.models.ModelSpec`.

    Attributes
    ----------
    temperature, shift
        z / temperature + shift is the logarithm of how much likelier a cell is on tumour than on normal tissue.
    prior
        Share of tumour in the tissue of slides.
    threshold
        Probability, at this prior, from which a cell counts as tumour.
    false_area
        Share of normal tissue that the threshold may mark.
    found_area
        Share of the tumour cells that it marks.
    """

    temperature: float
    shift: float
    prior: float
    threshold: float
    false_area: float
    found_area: float


def fit_calibration(slides: Sequence[CellCounts], *, prior: float, false_area: float) -> Calibration:
    """Return temperature and shift of the greatest likelihood, and the threshold that marks as little as allowed.

    Tumour and normal cells weigh alike in the likelihood, so that the share of tumour on these slides says nothing of
    slides (Platt 1999).

    Parameters
    ----------
    slides
        Cells of slides that the network has not seen, by its own log-odds.
    prior
        Share of tumour in the tissue of slides.
    false_area
        Largest share of their normal tissue that may be marked.

    Raises
    ------
    EvaluationError
        If the slides hold cells of one kind only, or tumour is answered lower than normal tissue.
    """
    from sklearn.linear_model import LogisticRegression

    normal, tumour = (sum(getattr(one, kind) for one in slides) for kind in ("normal", "tumour"))
    if not (np.any(normal) and np.any(tumour)):
        raise EvaluationError(
            "expected slides with tumour and normal tissue to calibrate on, got one of them only; add slides"
        )
    shares = np.concatenate([normal / normal.sum(), tumour / tumour.sum()])
    is_tumour = np.repeat([0, 1], len(BIN_LOG_ODDS))
    # Without a penalty, in effect: what is fitted are two numbers.
    fitted = LogisticRegression(C=1e9).fit(
        np.tile(BIN_LOG_ODDS, 2)[:, None], is_tumour, sample_weight=shares * len(shares)
    )
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if not slope > 0:
        raise EvaluationError(
            "expected tumour to be answered higher than normal tissue, got the contrary; check annotations and model"
        )
    # From each bin upwards.
    marked = np.cumsum(normal[::-1])[::-1] / normal.sum()
    found = np.cumsum(tumour[::-1])[::-1] / tumour.sum()
    within = marked <= false_area
    first = int(within.argmax()) if within.any() else len(BIN_LOG_ODDS)
    step = BIN_LOG_ODDS[1] - BIN_LOG_ODDS[0]
    lower_edge = BIN_LOG_ODDS[0] - step / 2 + first * step
    odds = slope * lower_edge + shift + math.log(prior / (1 - prior))
    return Calibration(
        temperature=1 / slope,
        shift=shift,
        prior=prior,
        threshold=1 / (1 + math.exp(-odds)),
        false_area=false_area,
        found_area=float(found[first]) if first < len(found) else 0.0,
    )
