"""Calibration of a model's answers to slides, most of whose tissue is normal.

Patches are trained in equal shares of tumour and normal tissue, so that a network's log-odds z say how much likelier a
patch is on tumour than on normal tissue, but for a scale and a shift. z / temperature + shift (Platt 1999) puts both
right, and the logarithm of the odds of tumour among the tissue of slides makes it the probability of tumour there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_metastasis.errors import ModelError
from napari_metastasis.settings import THRESHOLD

__all__ = ["Calibrated", "calibrated_classifier"]

#: What no fit gives: past these, the logarithms of odds run out of numbers.
_MOST_TEMPERATURE, _MOST_SHIFT, _LEAST_PRIOR, _LEAST_THRESHOLD = 1e6, 1e6, 1e-12, 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The part of a contract that says how the network's log-odds become probabilities on slides.

    Attributes
    ----------
    temperature, shift
        From the network's log-odds z to the logarithm of how much likelier a cell is on tumour than on normal tissue,
        z / temperature + shift (Platt 1999).
    prior
        Share of tumour among the tissue of a slide, which answers are probabilities for; 0 where the model was not
        calibrated, so that the network's own probabilities stand.
    threshold
        Probability, at this prior, from which a cell counts as tumour.
    """

    name: str
    temperature: float = 1.0
    shift: float = 0.0
    prior: float = 0.0
    threshold: float = THRESHOLD

    def check_calibration(self) -> None:
        """Refuse values that no answer can have.

        Raises
        ------
        ModelError
            If there are any.
        """
        if not (1 / _MOST_TEMPERATURE <= self.temperature <= _MOST_TEMPERATURE and abs(self.shift) <= _MOST_SHIFT):
            raise ModelError(
                f"expected a positive temperature and a finite shift, got {self.temperature} and {self.shift}; "
                "correct its card"
            )
        if not ((self.prior == 0 or _LEAST_PRIOR <= self.prior < 1) and _LEAST_THRESHOLD <= self.threshold <= 1):
            raise ModelError(
                f"expected a prior from 0 to 1 and a threshold over 0, got {self.prior} and {self.threshold}; "
                "correct its card"
            )

    @property
    def prior_log_odds(self) -> float:
        """Return what the prior adds to the log-odds of tumour; 0 without one."""
        return math.log(self.prior / (1 - self.prior)) if self.prior else 0.0

    @property
    def calibration(self) -> list[float] | None:
        """Return what decides answers beside the weights; ``None`` where the model was not calibrated."""
        return [self.temperature, self.shift, self.prior] if self.prior else None

    def with_prior(self, prior: float) -> Self:
        """Return the contract for slides with another share of tumour, whose threshold marks the same cells.

        Raises
        ------
        ModelError
            If the model was not calibrated.
        """
        if not self.prior:
            raise ModelError(
                f"expected a calibrated model for a prior of {prior:g}, got {self.name}, whose card has none; leave "
                "--prior out, or calibrate it"
            )
        other = replace(self, prior=prior)
        # A threshold of 1 marks nothing at any prior.
        if self.threshold == 1:
            return other
        odds = math.log(self.threshold / (1 - self.threshold)) - self.prior_log_odds + other.prior_log_odds
        return replace(other, threshold=1 / (1 + math.exp(-odds)))

    def uncalibrated(self) -> Self:
        """Return the contract of the network's own answers."""
        return replace(self, temperature=1.0, shift=0.0, prior=0.0, threshold=THRESHOLD)

    def probabilities(self, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return calibrated probabilities of the network's own; NaN stays."""
        if not self.prior:
            return own
        with np.errstate(divide="ignore", over="ignore"):
            log_odds = np.log(own.astype(np.float64)) - np.log1p(-own.astype(np.float64))
            moved = log_odds / self.temperature + self.shift + self.prior_log_odds
            return np.asarray(1 / (1 + np.exp(-moved)), np.float32)

    def without_idle_calibration(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a contract's values for its card: as earlier versions wrote them where there is no calibration."""
        idle = {"temperature": 1.0, "shift": 0.0, "prior": 0.0, "threshold": THRESHOLD}
        return {name: value for name, value in values.items() if self.prior or idle.get(name) != value}


def calibrated_classifier(
    classifier: tuple[Tensor, Tensor], spec: Calibrated, tumour_class: int
) -> tuple[Tensor, Tensor]:
    """Return a linear layer, weight (classes x …) and bias, that gives the logits of calibrated probabilities.

    Parameters
    ----------
    classifier
        The network's own, which is not changed.
    spec
        Its contract; without a prior the layer stays as it is.
    tumour_class
        The logit of tumour.
    """
    weight, bias = classifier
    if not spec.prior:
        return weight, bias
    bias = bias / spec.temperature
    bias[tumour_class] += spec.shift + spec.prior_log_odds
    return weight / spec.temperature, bias
