"""A network with tied orientations answers alike in all eight, and stays itself once written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from napari_metastasis.errors import ModelError
from napari_metastasis.models import build_network
from napari_metastasis.models.nets.scannet import Block, ScanNet, ScanNetArchitecture
from napari_metastasis.training.equivariance import ORIENTATIONS, tie_orientations, turned, untie_orientations
from napari_metastasis.training.tasks.base import _ema


@pytest.fixture
def tied():
    torch.manual_seed(0)
    network = build_network("scannet-small")
    tie_orientations(network)
    return network.eval()


@pytest.fixture
def image():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def test_the_answer_is_the_same_in_all_eight_orientations(tied, image):
    with torch.no_grad():
        answer = tied(image)
        assert answer.std() > 0
        for orientation in range(ORIENTATIONS):
            torch.testing.assert_close(tied(turned(image, orientation)), answer, rtol=1e-4, atol=1e-4)


def test_an_ordinary_network_is_not_so(image):
    torch.manual_seed(0)
    network = build_network("scannet-small").eval()
    with torch.no_grad():
        assert not torch.allclose(network(turned(image, 1)), network(image), atol=1e-2)


def test_features_turn_with_the_image(image):
    """Oracle by hand: after the first layer, turning the image turns the maps and permutes each group's channels."""
    torch.manual_seed(0)
    network = build_network("scannet-small")
    tie_orientations(network)
    first = network.features[0]
    with torch.no_grad():
        for g in range(ORIENTATIONS):
            # The copy g of a filter is the base filter turned by g, so it answers a turned image as the base the image.
            of_base = first(image)[:, ::ORIENTATIONS]
            of_copy = first(turned(image, g))[:, g::ORIENTATIONS]
            torch.testing.assert_close(of_copy, turned(of_base, g), rtol=1e-4, atol=1e-4)


def test_written_out_it_is_an_ordinary_network_with_the_same_answers(tied, image):
    with torch.no_grad():
        expected = tied(image)
        ordinary = untie_orientations(tied)
        torch.testing.assert_close(ordinary(image), expected)
        torch.testing.assert_close(tied(image), expected)
    fresh = build_network("scannet-small")
    assert list(ordinary.state_dict()) == list(fresh.state_dict())


def test_written_out_statistics_are_those_of_the_group(tied, image):
    tied.train()
    tied(image)
    norms = [module for module in untie_orientations(tied).modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        of_group = norm.running_mean.view(-1, ORIENTATIONS)
        assert torch.equal(of_group, of_group[:, :1].expand_as(of_group))


def test_an_eighth_of_the_weights_is_trained_and_each_gets_a_gradient(tied, image):
    ordinary = sum(parameter.numel() for parameter in build_network("scannet-small").parameters())
    trained = sum(parameter.numel() for parameter in tied.parameters())
    assert trained < ordinary / 7
    tied.train()(image).square().sum().backward()
    assert all(parameter.grad is not None for parameter in tied.parameters())


def test_tying_what_was_written_out_changes_nothing(tied, image):
    with torch.no_grad():
        expected = tied(image)
        again = untie_orientations(tied)
        tie_orientations(again)
        torch.testing.assert_close(again(image), expected)


def test_channels_that_eight_does_not_divide_are_refused():
    architecture = ScanNetArchitecture(
        blocks=(Block(12, 1),), head_kernel_px=2, head_channels=(8,), batch_norm=True, dropout=0.0
    )
    with pytest.raises(ModelError, match="divided by 8, got 12"):
        tie_orientations(ScanNet(architecture))


def test_an_average_of_an_unchanging_network_is_that_network(tied, image):
    """Not only of its weights: the places that the copies are gathered from are numbers too, and have no mean."""
    average = AveragedModel(tied, multi_avg_fn=_ema(0.998), use_buffers=True)
    for _ in range(60):
        average.update_parameters(tied)
    for (name, expected), (_, found) in zip(tied.named_buffers(), average.module.named_buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(average(image), tied(image), rtol=1e-4, atol=1e-4)
