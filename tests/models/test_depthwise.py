"""Fast gradients of depthwise convolutions against torch's own."""

from __future__ import annotations

import pytest
import torch

from napari_metastasis.models.nets.depthwise import DepthwiseConv2d


def gradients(layer, image, answers):
    """Return what a layer answers, and the gradients of a random sum of its answers."""
    image = image.clone().requires_grad_()
    answered = answers(layer, image)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(answered.shape, generator=generator).to(answered.dtype)
    return answered, *torch.autograd.grad((answered * weights).sum(), (image, layer.weight))


def plainly(layer, image):
    return torch.nn.functional.conv2d(
        image, layer.weight, stride=layer.stride, padding=layer.padding, groups=layer.groups
    )


@pytest.mark.parametrize("size", [(16, 20), (17, 15)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_px", [1, 3, 5, 7])
def test_gradients_are_those_of_torch(kernel_px, stride, padded, size):
    torch.manual_seed(0)
    layer = DepthwiseConv2d(6, kernel_px, stride).double()
    layer.padding = (kernel_px // 2,) * 2 if padded else (0, 0)
    image = torch.randn(2, 6, *size, dtype=torch.float64)
    for fast, slow in zip(
        gradients(layer, image, lambda own, pixels: own(pixels)), gradients(layer, image, plainly), strict=True
    ):
        assert fast.shape == slow.shape
        assert (fast - slow).abs().max() < 1e-10


def test_reduced_precision_stays_near_float32():
    torch.manual_seed(0)
    layer, image = DepthwiseConv2d(8, 5, 2), torch.randn(1, 8, 31, 31)
    exact = gradients(layer, image, plainly)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = gradients(layer, image, lambda own, pixels: own(pixels))
    assert reduced[0].dtype == torch.bfloat16
    for fast, slow in zip(reduced, exact, strict=True):
        assert (fast - slow).abs().max() < 0.03 * slow.abs().max()
