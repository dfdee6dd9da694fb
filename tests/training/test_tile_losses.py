"""Attention weights of tiles against an example worked by hand, and a loss that ignores what is not known."""

from __future__ import annotations

import pytest
import torch

from napari_metastasis.training.losses import attention_weights, boosted_weights, first_weights, tile_cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equations_1_and_2_worked_by_hand(dtype):
    """Four tiles of 10 x 10 pixels; γ 0.05 is 5 of them, χ 0.5."""
    tumour = torch.tensor([0, 4, 5, 60], dtype=dtype) / 100
    first = attention_weights(tumour, 0.05)
    assert first.tolist() == [0, 0, 1, 1]
    wrong = torch.tensor([5, 4, 30, 0], dtype=dtype) / 100
    second = boosted_weights(first, wrong, 0.05, 0.5)
    assert second.tolist() == [0.5, 0, 1.5, 1]
    wrong = torch.tensor([0, 10, 5, 4], dtype=dtype) / 100
    assert boosted_weights(second, wrong, 0.05, 0.5).tolist() == [0.5, 0.5, 2, 1]


def test_a_tile_without_tumour_counts_as_those_full_of_it():
    shares = torch.tensor([0.0, 0.01, 0.05, 1.0])
    assert first_weights(shares, 0.05).tolist() == [1, 0, 1, 1]
    # Without a least share the smallest focus counts.
    assert first_weights(shares, 0.0).tolist() == [1, 1, 1, 1]


def test_the_loss_is_the_mean_over_known_pixels_each_by_its_tile_s_weight():
    logits = torch.zeros(2, 2, 1, 2)
    logits[0, 1] = 2.0
    labels = torch.tensor([[[1, 0]], [[1, -1]]])
    # Of the first tile ln(1 + e^-2) and ln(1 + e^2), of the second ln 2 at the only known pixel, which counts thrice.
    low, high = 0.12692801, 2.12692801
    expected = (low + high + 3 * 0.69314718) / 5
    assert tile_cross_entropy(logits, labels, torch.tensor([1.0, 3.0])).item() == pytest.approx(expected, rel=1e-6)


def test_ignored_pixels_and_tiles_without_weight_give_a_gradient_of_exactly_zero():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, 5, generator=generator, requires_grad=True)
    labels = torch.randint(-2, 2, (3, 5, 5), generator=generator)
    tile_cross_entropy(logits, labels, torch.tensor([1.0, 0.0, 2.0])).backward()
    gradient = logits.grad.abs().sum(dim=1)
    counts = (labels >= 0) & torch.tensor([True, False, True])[:, None, None]
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] > 0).all()


@pytest.mark.parametrize(("labels", "weight"), [(-1, 1.0), (0, 0.0)])
def test_nothing_known_is_a_loss_of_nothing(labels, weight):
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = tile_cross_entropy(logits, torch.full((1, 4, 4), labels), torch.tensor([weight]))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
