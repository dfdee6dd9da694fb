"""Calibration of a detector's answers to slides, most of whose tissue is normal.

Patches are trained in equal shares of tumour and normal tissue, so that a network's log-odds z say how much likelier a
patch is on tumour than on normal tissue, but for a scale and a shift. z / temperature + shift (Platt 1999) puts both
right, and the logarithm of the odds of tumour among the tissue of slides makes it the probability of tumour there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from napari_metastasis.models.card import ModelSpec

__all__ = ["calibrated_classifier"]


def calibrated_classifier(classifier: tuple[Tensor, Tensor], spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Return a linear layer, weight (classes x …) and bias, that gives the logits of calibrated probabilities.

    Parameters
    ----------
    classifier
        The network's own, which is not changed.
    spec
        Its contract; without a prior the layer stays as it is.
    """
    weight, bias = classifier
    if not spec.prior:
        return weight, bias
    bias = bias / spec.temperature
    bias[spec.tumour_class] += spec.shift + spec.prior_log_odds
    return weight / spec.temperature, bias
