"""Losses of rare things and of maps of points: values and gradients worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from napari_metastasis.training.losses import hinge_loss, point_map_cross_entropy, rare_hinge_loss

#: p of 3/4, 1/4 and 1/2 and 3/4 again.
LOG_ODDS = [math.log(3), -math.log(3), 0.0, math.log(3)]
LABELS = [1, 1, 0, -1]


def test_the_hinge_and_its_gradient_by_hand() -> None:
    log_odds = torch.tensor([2.0, 0.5, 0.25, -1.5, 9.0], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 1, 0, 0, -1])
    loss = hinge_loss(log_odds, labels, margin=1.0)
    # Right by more than 1: nothing. Then 1 - 0.5 and 1 + 0.25; right again; not known. Four are known.
    assert loss.item() == pytest.approx((0.5 + 1.25) / 4)
    loss.backward()
    assert log_odds.grad.tolist() == [0, -0.25, 0.25, 0, 0]


@pytest.mark.parametrize("rarity", [0.0, 2.0, 4.0])
def test_the_papers_rare_hinge_and_its_gradient_by_hand(rarity: float) -> None:
    log_odds = torch.tensor(LOG_ODDS, dtype=torch.float64, requires_grad=True)
    loss = rare_hinge_loss(log_odds, torch.tensor(LABELS), margin=0.25, rarity=rarity)
    # The wrong class has 1/4, 3/4 and 1/2: 2/4 - 1 + 1/4 is below 0, 6/4 - 1 + 1/4 = 3/4 of a positive, and 1/4.
    more = math.exp(rarity)
    assert loss.item() == pytest.approx((0.75 * more + 0.25) / 3)
    loss.backward()
    # d(2 s)/dz = 2 p (1 - p), downwards for a positive: 6/16 and 2/4.
    assert log_odds.grad.tolist() == pytest.approx([0, -0.375 * more / 3, 0.5 / 3, 0])


def test_a_map_of_points_is_learnt_by_weight_and_what_is_not_known_is_not() -> None:
    log_odds = torch.tensor([LOG_ODDS], dtype=torch.float64, requires_grad=True)
    pi = torch.tensor([[1.0, 0.5, 0.0, 1.0]], dtype=torch.float64)
    known = torch.tensor([[True, True, True, False]])
    loss = point_map_cross_entropy(log_odds, pi, known, foreground=9.0)
    # They count 9, 5 and 1. -ln 3/4; half of -ln 1/4 and half of -ln 3/4; ln 2.
    of_pixel = [math.log(4 / 3), (math.log(4) + math.log(4 / 3)) / 2, math.log(2)]
    assert loss.item() == pytest.approx((9 * of_pixel[0] + 5 * of_pixel[1] + of_pixel[2]) / 15, rel=1e-6)
    loss.backward()
    # Each p - π.
    assert log_odds.grad[0].tolist() == pytest.approx([-0.25 * 9 / 15, -0.25 * 5 / 15, 0.5 / 15, 0], rel=1e-6)
    # What is infinite where nothing is known does no harm, and nothing known at all is no loss.
    far = torch.tensor([[1.0, float("inf")]])
    assert point_map_cross_entropy(far, torch.zeros(1, 2), torch.tensor([[True, False]]), foreground=9.0).isfinite()
    assert point_map_cross_entropy(far, torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), foreground=9.0) == 0
    for loss_of in (hinge_loss, rare_hinge_loss):
        options = {"margin": 1.0} | ({"rarity": 2.0} if loss_of is rare_hinge_loss else {})
        assert loss_of(far[0], torch.tensor([-1, -1]), **options) == 0
