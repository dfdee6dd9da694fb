"""Losses of patches: hard ones, cross-entropy side by side, and the spatial constraint (Zheng et al. 2022, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["hard_weights", "known_cross_entropy", "spatial_loss"]


def hard_weights(losses: Tensor, normal: Tensor, share: float) -> Tensor:
    """Return the weights, N, by which the losses of a batch are multiplied so that hard normal patches count more.

    A normal patch weighs ``1 - share`` and ``share`` times its loss over the mean loss of the batch's normal patches,
    which therefore weigh 1 on average; all others weigh 1.

    Parameters
    ----------
    losses
        N, of no gradient.
    normal
        N boolean.
    share
        0 to 1.
    """
    of_normal = losses[normal]
    weights = torch.ones_like(losses)
    if len(of_normal):
        weights[normal] = 1 - share + share * of_normal / of_normal.mean().clamp_min(1e-6)
    return weights


def known_cross_entropy(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of log-odds with labels, of those that are known: 0 and above."""
    known = labels >= 0
    losses = functional.binary_cross_entropy_with_logits(
        log_odds, labels.clamp_min(0).to(log_odds.dtype), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp_min(1)


def spatial_loss(probability: Tensor, label: Tensor) -> Tensor:
    """Return the mean of eq. 5 over the patches of grids, each with its up to eight neighbours.

    Neighbours of one label are to be answered alike (eq. 3), those of different labels as differently as can be
    (eq. 4).

    Parameters
    ----------
    probability
        N x k x k, φ of each patch.
    label
        N x k x k: 1 tumour, 0 normal, anything below 0 not known. A patch that is not known counts as no neighbour.

    Returns
    -------
    Scalar; 0 where no known patch has a known neighbour.
    """
    known = label >= 0
    tumour = label.clamp_min(0).to(probability.dtype)
    total, neighbours = torch.zeros_like(probability), torch.zeros_like(probability)
    rows, columns = probability.shape[-2:]
    padded = [functional.pad(each, (1, 1, 1, 1)) for each in (probability, tumour, known.to(probability.dtype))]
    for dy in range(3):
        for dx in range(3):
            if dy == dx == 1:
                continue
            beside, beside_tumour, beside_known = (each[..., dy : dy + rows, dx : dx + columns] for each in padded)
            alike = (probability - beside) ** 2
            apart = (1 - beside) * (1 - probability) + beside * probability
            differ = (tumour - beside_tumour).abs()
            total = total + beside_known * ((1 - differ) * alike + differ * apart)
            neighbours = neighbours + beside_known
    counted = known & (neighbours > 0)
    of_patch = total / neighbours.clamp_min(1)
    return (of_patch * counted).sum() / counted.sum().clamp_min(1)
