"""Augmentation varies what it should, keeps what it must, and repeats itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_metastasis.settings import AugmentSettings
from napari_metastasis.training.augment import Augmenter, jitter_stains

STILL = AugmentSettings(
    affine_share=0.0,
    stain=0.0,
    hue=0.0,
    background=0.0,
    exposure=0.0,
    gray_share=0.0,
    blur_share=0.0,
    noise_share=0.0,
)


@pytest.fixture
def batch():
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 0.9 + 0.05


def test_same_seed_and_step_give_the_same_batch(batch):
    augment = Augmenter(AugmentSettings(), seed=1)
    first = augment(batch, step=3)
    assert torch.equal(first, augment(batch, step=3))
    assert not torch.equal(first, augment(batch, step=4))
    assert not torch.equal(first, Augmenter(AugmentSettings(), seed=2)(batch, step=3))


def test_the_global_generator_is_left_alone(batch):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Augmenter(AugmentSettings(), seed=1)(batch, step=0)
    assert torch.equal(torch.rand(3), expected)


def test_without_jitter_only_the_symmetries_of_the_square_remain(batch):
    varied = Augmenter(STILL, seed=1)(batch, step=0)
    for before, after in zip(batch, varied, strict=True):
        symmetries = [before.rot90(k, dims=(1, 2)) for k in range(4)]
        symmetries += [view.flip(2) for view in symmetries]
        assert min((after - view).abs().max() for view in symmetries) < 1e-5


def test_all_eight_symmetries_occur():
    corner = torch.zeros(64, 3, 8, 8)
    corner[:, :, 0, 1] = 1.0
    turned = Augmenter(STILL, seed=1)._turn(corner)
    assert len({tuple(image[0].nonzero()[0].tolist()) for image in turned}) == 8


def test_identity_mixing_keeps_the_image(batch):
    same = jitter_stains(batch, mixing=torch.eye(3).expand(8, 3, 3), background=torch.zeros(8, 3))
    assert torch.allclose(same, batch, atol=1e-6)


def test_mixing_follows_beer_lambert_pixel_by_pixel(batch):
    generator = torch.Generator().manual_seed(2)
    mixing = torch.eye(3) + 0.1 * torch.rand(8, 3, 3, generator=generator)
    background = 0.05 * torch.rand(8, 3, generator=generator)
    fast = jitter_stains(batch, mixing=mixing, background=background)
    for n, y, x in [(0, 0, 0), (3, 10, 20), (7, 31, 31)]:
        density = -torch.log(batch[n, :, y, x].clamp_min(1 / 255))
        expected = torch.exp(-(mixing[n] @ density + background[n])).clamp_max(1)
        assert torch.allclose(fast[n, :, y, x], expected, atol=1e-5)


def test_exposure_makes_all_colours_brighter_or_darker_alike(batch):
    dim = batch * 0.5
    varied = Augmenter(replace(STILL, exposure=0.3), seed=1, turn=False)(dim, step=0)
    factor = varied / dim
    of_patch = factor.flatten(1).mean(dim=1)
    assert torch.allclose(factor, of_patch[:, None, None, None].expand_as(factor), atol=1e-4)
    assert float(of_patch.log().abs().max()) <= 0.3
    assert float(of_patch.min()) < 0.95
    assert float(of_patch.max()) > 1.05


def test_results_stay_in_range(batch):
    varied = Augmenter(AugmentSettings(), seed=1)(batch, step=9)
    assert varied.shape == batch.shape
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 1
