"""The spatial constraint against a case worked by hand, a loop over patches, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_metastasis.training.losses import hard_weights, spatial_loss


def loop_oracle(probability: np.ndarray, label: np.ndarray) -> float:
    """Return equations 3 to 5 as they are written, patch by patch and neighbour by neighbour."""
    losses = []
    for grid, truth in zip(probability, label, strict=True):
        rows, columns = grid.shape
        for row in range(rows):
            for column in range(columns):
                if truth[row, column] < 0:
                    continue
                terms = []
                for y in range(max(0, row - 1), min(rows, row + 2)):
                    for x in range(max(0, column - 1), min(columns, column + 2)):
                        if (y, x) == (row, column) or truth[y, x] < 0:
                            continue
                        here, there = grid[row, column], grid[y, x]
                        differ = abs(truth[row, column] - truth[y, x])
                        same = (here - there) ** 2
                        apart = (1 - there) * (1 - here) + there * here
                        terms.append((1 - differ) * same + differ * apart)
                if terms:
                    losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else 0.0


def test_three_by_three_worked_by_hand():
    # One tumour patch, answered 0.8, in the middle of normal ones answered 0.1.
    probability = torch.full((1, 3, 3), 0.1)
    probability[0, 1, 1] = 0.8
    label = torch.zeros((1, 3, 3), dtype=torch.int64)
    label[0, 1, 1] = 1
    # Between tumour and normal, eq. 4: 0.9 · 0.2 + 0.1 · 0.8 = 0.26. Between normal and normal, eq. 3: 0.
    # The middle has eight such neighbours: 0.26. A corner has one of three, an edge one of five.
    expected = (0.26 + 4 * 0.26 / 3 + 4 * 0.26 / 5) / 9
    assert float(spatial_loss(probability, label)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("unknown", [0.0, 0.4, 1.0])
def test_a_loop_over_patches_gives_the_same(side, unknown):
    generator = np.random.default_rng([side, int(10 * unknown)])
    probability = generator.random((4, side, side))
    label = generator.integers(0, 2, (4, side, side))
    label[generator.random(label.shape) < unknown] = -1
    found = spatial_loss(torch.from_numpy(probability), torch.from_numpy(label))
    assert float(found) == pytest.approx(loop_oracle(probability, label), abs=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    generator = np.random.default_rng(3)
    probability = torch.from_numpy(generator.random((2, 4, 4))).requires_grad_()
    label = torch.from_numpy(generator.integers(-1, 2, (2, 4, 4)))
    assert torch.autograd.gradcheck(lambda values: spatial_loss(values, label), (probability,), eps=1e-6, atol=1e-7)


def test_right_answers_cost_nothing():
    label = torch.tensor([[[0, 0, 1], [0, 1, 1], [0, 0, 1]]])
    assert float(spatial_loss(label.double(), label)) == 0
    assert float(spatial_loss(1 - label.double(), label)) == 0, "a classifier turned upside down is as consistent"


def test_hard_normals_weigh_by_their_loss_and_one_on_average():
    losses, normal = torch.tensor([0.1, 0.3, 0.8, 2.0]), torch.tensor([True, True, True, False])
    torch.testing.assert_close(hard_weights(losses, normal, 1.0), torch.tensor([0.25, 0.75, 2.0, 1.0]))
    torch.testing.assert_close(hard_weights(losses, normal, 0.5), torch.tensor([0.625, 0.875, 1.5, 1.0]))
    torch.testing.assert_close(hard_weights(losses, normal, 0.0), torch.ones(4))
    assert hard_weights(losses, normal, 0.7)[normal].mean().item() == pytest.approx(1)


def test_batches_without_normals_or_without_loss_weigh_alike():
    for losses, normal in (([0.2, 0.4], [False, False]), ([0.0, 0.0], [True, False])):
        weights = hard_weights(torch.tensor(losses), torch.tensor(normal), 1.0)
        assert torch.isfinite(weights).all()
        assert weights[~torch.tensor(normal)].eq(1).all()
