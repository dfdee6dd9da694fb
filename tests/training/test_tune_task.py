"""How crops of corrected places weigh, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_metastasis.training.tasks.tune import balanced, crop_losses


def test_each_crop_weighs_the_same_however_much_of_it_is_known() -> None:
    log_odds = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[9.0, 9.0], [9.0, 9.0]]])
    labels = torch.tensor([[[1, -1], [-1, -1]], [[0, 1], [0, 1]], [[-1, -1], [-2, -1]]])
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert crop_losses(log_odds, labels, 0.0).item() == pytest.approx(expected)


def test_hard_crops_weigh_more_by_their_share() -> None:
    log_odds = torch.tensor([[[0.0]], [[-2.0]]], requires_grad=True)
    labels = torch.ones(2, 1, 1, dtype=torch.int64)
    easy, hard = math.log(2), math.log(1 + math.exp(2))
    weights = [0.5 + 0.5 * each / ((easy + hard) / 2) for each in (easy, hard)]
    loss = crop_losses(log_odds, labels, 0.5)
    assert loss.item() == pytest.approx((weights[0] * easy + weights[1] * hard) / sum(weights), rel=1e-5)
    loss.backward()
    # Weights are no part of what is learnt.
    slope = -weights[1] / sum(weights) / (1 + math.exp(-2))
    assert log_odds.grad[1].item() == pytest.approx(slope, rel=1e-5)


def test_unknown_cells_give_no_gradient_and_nothing_known_no_loss() -> None:
    log_odds = torch.zeros(1, 2, 2, requires_grad=True)
    loss = crop_losses(log_odds, torch.tensor([[[-1, -2], [-1, 1]]]), 0.3)
    loss.backward()
    assert (log_odds.grad != 0).tolist() == [[[False, False], [False, True]]]
    assert crop_losses(log_odds, torch.full((1, 2, 2), -1), 0.3).item() == 0.0


def test_earlier_patches_are_drawn_of_each_class_alike() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    rows = balanced(labels, 40, np.random.default_rng(0))
    assert labels[rows].sum() == 20
    assert len(rows) == 40
    assert (labels[balanced(np.zeros(5, np.int64), 4, np.random.default_rng(0))] == 0).all()
