"""Losses: of hard patches, of patches side by side (Zheng et al. 2022, 3.3), and of tiles (Khalil et al. 2022, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "attention_weights",
    "boosted_weights",
    "first_weights",
    "hard_weights",
    "known_cross_entropy",
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
