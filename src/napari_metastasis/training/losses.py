"""Losses: of hard patches, of neighbours (Zheng et al. 2022, 3.3), tiles (Khalil et al. 2022, 3.2) and points.

Those of points, and of what is as rare as they are, are from Pearce 2017 (3.2 and 4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "attention_weights",
    "boosted_weights",
    "first_weights",
    "hard_weights",
    "hinge_loss",
    "known_cross_entropy",
    "point_map_cross_entropy",
    "rare_hinge_loss",
    "spatial_loss",
    "tile_cross_entropy",
]


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


def hinge_loss(log_odds: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Return the mean hinge loss max(0, s_j - s_y + Δ) of two classes, of those labels that are known.

    Parameters
    ----------
    log_odds
        N, s_1 - s_0: how much higher the score of the rare class is than that of the other.
    labels
        N: 1 the rare class, 0 the other, anything below 0 not known.
    margin
        Δ.

    Returns
    -------
    Scalar; 0 where nothing is known.
    """
    towards = 2 * labels.clamp(0, 1).to(log_odds.dtype) - 1
    return _known_mean((margin - towards * log_odds).clamp_min(0), labels)


def rare_hinge_loss(log_odds: Tensor, labels: Tensor, *, margin: float, rarity: float) -> Tensor:
    """Return the mean "binary rare hinge loss" (Pearce 2017, 4) of those labels that are known.

    The paper's three lines are L = max(0, s_j - s_y + Δ) · exp(a·y) = max(0, s_j - (1 - s_j) + Δ) · exp(a·y) =
    max(0, 2·s_j - 1 + Δ) · exp(a·y), s_j the score of the wrong class: its minus signs are set as dots, and the second
    line needs scores that add up to 1, which are probabilities. In the exponent it writes the score s_y, but says that
    a positive counts e^a times and a negative once: that is the label.

    Parameters
    ----------
    log_odds, labels, margin
        As :func:`hinge_loss` takes them; the scores are the probabilities of these log-odds.
    rarity
        a: the paper tries 2 and 4.

    Returns
    -------
    Scalar; 0 where nothing is known.
    """
    rare = labels.clamp(0, 1).to(log_odds.dtype)
    # Of the wrong class: 1 - p where the label is 1. In this form nothing is lost near 0 and 1.
    wrong = torch.sigmoid((1 - 2 * rare) * log_odds)
    weights = 1 + rare * (math.exp(rarity) - 1)
    return _known_mean((2 * wrong - 1 + margin).clamp_min(0) * weights, labels)


def _known_mean(losses: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    # Not a product: what is infinite at an ignored label would be no number.
    return torch.where(known, losses, torch.zeros_like(losses)).sum() / known.sum().clamp_min(1)


def point_map_cross_entropy(log_odds: Tensor, targets: Tensor, known: Tensor, *, foreground: float) -> Tensor:
    """Return the mean cross-entropy of maps with π, in which what is near a point counts more.

    A pixel counts 1 + (w - 1)·π. Points cover a hundredth of a map: where every pixel counts once, a map that is empty
    has almost no loss, which is where the paper's networks ended (Pearce 2017, appendix 1). Where a network is sure,
    its best answer is π whatever w is; where it doubts, a large w makes it answer more than it believes.

    Parameters
    ----------
    log_odds
        Of any shape.
    targets
        π, 0..1, of the same shape.
    known
        Boolean, of the same shape: what is not known gives no gradient.
    foreground
        w, what a pixel at a point counts, where one far away counts 1.

    Returns
    -------
    Scalar; 0 where nothing is known.
    """
    # Half precision has no digits left where a pixel is all but sure.
    losses = functional.binary_cross_entropy_with_logits(log_odds.float(), targets.float(), reduction="none")
    weights = known * (1 + (foreground - 1) * targets.float())
    return (torch.where(known, losses, torch.zeros_like(losses)) * weights).sum() / weights.sum().clamp_min(1e-6)


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


def attention_weights(tumour_share: Tensor, gamma: float) -> Tensor:
    """Return the weights that tiles begin with (Khalil et al. 2022, eq. 1): 1 from a share of tumour on, else 0.

    Parameters
    ----------
    tumour_share
        N, ϑ: how many of a tile's pixels are labelled tumour, of all that it has.
    gamma
        γ, the least share.
    """
    return (tumour_share >= gamma).to(tumour_share.dtype)


def first_weights(tumour_share: Tensor, gamma: float) -> Tensor:
    """Return what tiles weigh before anything is boosted, N.

    Equation 1 gives a tile with less tumour than γ no weight, whatever else it shows. The paper's set also has tiles of
    benign slides, of which it does not say how they come to weigh anything; here the equation is about tiles with
    tumour, and a tile without any, which is drawn as often as one with tumour, weighs 1.

    Parameters
    ----------
    tumour_share
        N, of all pixels of a tile.
    gamma
        γ.
    """
    return torch.where(tumour_share > 0, attention_weights(tumour_share, gamma), torch.ones_like(tumour_share))


def boosted_weights(weights: Tensor, error_share: Tensor, gamma: float, chi: float) -> Tensor:
    """Return the weights of tiles for the next round (Khalil et al. 2022, eq. 2): by χ more where a network errs.

    Parameters
    ----------
    weights
        N, of the round before.
    error_share
        N: how many of a tile's pixels its network answers wrongly, tumour or not, of all that the tile has.
    gamma
        γ, the least share from which a weight is raised.
    chi
        χ, by how much.
    """
    return weights + chi * (error_share >= gamma).to(weights.dtype)


def tile_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy of the known pixels of tiles, each counted by its tile's weight.

    Parameters
    ----------
    logits
        N x 2 x H x W, of normal tissue and of tumour.
    labels
        N x H x W: 1 tumour, 0 normal, anything below 0 not known: such pixels give no gradient.
    weights
        N.

    Returns
    -------
    Scalar; 0 where no tile that counts has a known pixel.
    """
    known = labels >= 0
    # Half precision has no digits left where a pixel is all but sure.
    losses = functional.cross_entropy(logits.float(), labels.clamp_min(0), reduction="none")
    counted = known * weights.view(-1, 1, 1)
    # Not a product: what is infinite at an ignored pixel would be no number.
    return (torch.where(known, losses, 0.0) * counted).sum() / counted.sum().clamp_min(1e-6)
