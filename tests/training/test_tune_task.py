"""How crops of corrected places weigh, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_metastasis.models import load_detector
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.settings import AugmentSettings, CorrectionSettings, TuneTrainSettings
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.tune import balanced, crop_losses
from napari_metastasis.training.tasks.whole import WholeTask


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


class Noise:
    """Patches of noise, of either class in turn."""

    labels = np.arange(4) % 2
    names = tuple("0123")

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_all_that_a_step_of_all_layers_needs_lies_where_it_learns() -> None:
    detector = load_detector("scannet-pcam")
    task = WholeTask(
        spec=detector.spec,
        detector=detector,
        corrections=CorrectionSettings(replay_weight=1.0),
        replay=None,
        said={},
        before=detector,
        earlier=BalancedPatches(Noise(), 96, 4, 0),
    )
    module = task.module(Fitting(TuneTrainSettings(), AugmentSettings(), 4))
    side = detector.spec.field_px + detector.spec.stride_px
    crops = torch.zeros(2, 3, side, side, dtype=torch.uint8), torch.tensor([[[1, 1], [1, 1]], [[0, 0], [0, -1]]])
    here = module.loss(crops, 0)
    assert here.device.type == "cpu"
    assert torch.isfinite(here)
    # Another device, as a graphics card is; this one keeps shapes alone.
    module.network.to("meta")
    module.mean, module.std = module.mean.to("meta"), module.std.to("meta")
    assert module.loss(tuple(one.to("meta") for one in crops), 0).device.type == "meta"
