"""Patches in mosaics against the network that scans, which pads nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLite, EfficientNetLiteArchitecture
from napari_metastasis.training.mosaic import (
    dense_mosaic,
    in_gray,
    mirrored,
    mosaic_logits,
    pad_layers,
    skip_layers,
    with_gap,
)

SMALL = EfficientNetLiteArchitecture(blocks=(1, 2, 1), patch_px=32, pooled_cells=4, feature_channels=16, dropout=0.5)
ENLARGING = EfficientNetLiteArchitecture(
    blocks=(1, 2, 1), patch_px=24, pooled_cells=4, feature_channels=16, dropout=0.5, enlarges=True
)


@pytest.fixture(scope="module", params=[SMALL, ENLARGING], ids=["as it is", "enlarging"])
def network(request):
    torch.manual_seed(3)
    made = EfficientNetLite(request.param)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    torch.nn.init.normal_(made.gather.weight)
    torch.nn.init.normal_(made.classify.weight)
    return made.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def padded(network):
    made = copy.deepcopy(network)
    pad_layers(made)
    return made


@pytest.fixture
def patches(network):
    side = network.architecture.patch_px
    return torch.randn(6, 3, side, side, generator=torch.Generator().manual_seed(4))


def scanned(network, patches):
    """Answer for each patch in the middle of the window that its answer depends on."""
    built = network.architecture
    left = (built.field_px - built.patch_px) // 2
    right = built.field_px - built.patch_px - left
    return network(torch.nn.functional.pad(patches, (left, right, left, right))).flatten(1)


def test_a_patch_in_a_wide_margin_is_answered_as_in_a_scan(network, padded, patches):
    """So wide that neither its neighbours nor the padding reach it."""
    answered = mosaic_logits(padded, in_gray(patches, 48))
    expected = scanned(network, patches)
    assert expected.std(dim=0).min() > 0.1
    assert (answered - expected).abs().max() < 1e-4


def test_each_patch_is_answered_in_its_own_place(padded, patches):
    tiles = in_gray(patches, 48)
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    assert torch.allclose(mosaic_logits(padded, tiles)[order], mosaic_logits(padded, tiles[order]), atol=1e-4)


def test_without_margins_the_neighbours_are_seen(padded, patches):
    """Or the test above would prove nothing."""
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    apart = (mosaic_logits(padded, patches)[order] - mosaic_logits(padded, patches[order])).abs().max()
    assert apart > 0.01


def test_padding_leaves_the_weights_as_they_are(network, padded):
    before, after = network.state_dict(), padded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_margins_mirror_the_patch():
    patch = torch.arange(16.0).view(1, 1, 4, 4)
    assert mirrored(patch, 1)[0, 0, 0].tolist() == [5, 4, 5, 6, 7, 6]


@pytest.mark.parametrize("cells", [0, 1, 2, 3])
def test_gray_between_patches_leaves_each_in_its_place(padded, patches, cells):
    """Far more gray on the outer sides: then nothing but the patch is seen, wherever it lies."""
    built = padded.architecture
    tiles = with_gap(patches, cells, built.stride_px)
    assert tiles.shape[-1] == built.patch_px + cells * built.stride_px
    wide = in_gray(patches, 12 * built.stride_px)
    answered, expected = (mosaic_logits(padded, each) for each in (tiles, wide))
    # What the neighbours change is less than what lies between patches.
    assert torch.corrcoef(torch.stack([answered[:, 1], expected[:, 1]]))[0, 1] > (0.5 if cells < 2 else 0.9)


def test_blocks_are_left_out_in_training_only_and_the_mean_stays():
    torch.manual_seed(5)
    made = EfficientNetLite(EfficientNetLiteArchitecture((1, 2, 2), 32, 4, 16, 0.0)).requires_grad_(requires_grad=False)
    skip_layers(made, 0.5)
    blocks = [module for module in made.trunk if hasattr(module, "skipped_share")]
    assert [block.skipped_share for block in blocks] == [0.0, 0.5]
    image = torch.randn(1, 40, 9, 9)
    last = blocks[-1].eval()
    assert torch.equal(last(image), last(image))
    branch = last(image) - image[..., 2:-2, 2:-2]
    last.training = True
    drawn = torch.stack([last(image) for _ in range(200)]) - image[..., 2:-2, 2:-2]
    assert {round(float(each.abs().max() / branch.abs().max()), 3) for each in drawn} == {0.0, 2.0}
    assert (drawn.mean(0) - branch).abs().max() < 0.3 * branch.abs().max()


@pytest.mark.parametrize("side_px", [None, 30])
def test_a_mosaic_that_nothing_pads_is_answered_as_windows_of_it_are(network, patches, side_px):
    # Patches that are no whole number of strides wide, too, as the paper's 244 px with 32.
    built, some = network.architecture, patches if side_px is None else patches[..., :side_px, :side_px]
    mosaic, apart = dense_mosaic(some, field_px=built.field_px, stride_px=built.stride_px)
    answers = network(mosaic)[0, :, ::apart, ::apart]
    assert answers.shape == (2, 2, 3)
    left = (built.field_px - some.shape[-1]) // 2
    for number, patch in enumerate(some):
        row, column = divmod(number, 3)
        y, x = row * apart * built.stride_px, column * apart * built.stride_px
        window = mosaic[:, :, y : y + built.field_px, x : x + built.field_px]
        inner = slice(left, left + some.shape[-1])
        assert torch.equal(window[0, :, inner, inner], patch)
        assert torch.allclose(network(window).flatten(), answers[:, row, column], atol=1e-4)
