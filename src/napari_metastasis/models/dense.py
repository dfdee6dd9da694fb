"""From a patch classifier to a network that scans densely: the anchor-layer conversion.

Lin et al. (2019, II-B) replace the layers past the first odd-sized union feature by anchor layers, which jump from
group to group so that neighbouring answers share their work. An à-trous conversion gives the same numbers in raster
order with ordinary layers: the last log2(α) layers with a stride, poolings or convolutions, take stride 1, and every
kernel behind each of them is dilated by 2, 4, … Nothing is computed twice and nothing has to be stitched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_metastasis.errors import ModelError
from napari_metastasis.models.calibration import calibrated_classifier
from napari_metastasis.models.nets.architectures import FullyConvolutionalNetwork
from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLiteArchitecture, Residual

if TYPE_CHECKING:
    from napari_metastasis.models.card import ModelSpec

__all__ = ["MIDDLE_GRAY", "DenseNetwork", "dense_layers", "fold_normalisation", "folded_layers"]

#: Subtracted from every pixel before the first convolution, exactly in every number format. It keeps that layer's sums
#: small: in bfloat16, the rounding of a large sum and of the large bias that cancels it would move answers three times
#: as much as all other layers together.
MIDDLE_GRAY = 128

#: Stride of every layer that has one.
_HALVES = 2
#: More than all strides of a network together.
_EVERY_STRIDE = 1 << 30


class _Normalised(Protocol):
    """A contract that says how images are normalised."""

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...


def dense_layers(network: FullyConvolutionalNetwork, dense_coefficient: int) -> nn.Sequential:
    """Return the layers of ``network`` that answer every ``stride / dense_coefficient`` pixels.

    Parameters
    ----------
    network
        Without padding, in evaluation mode. It is not changed.
    dense_coefficient
        α of the paper: a power of two up to the network's own stride.

    Returns
    -------
    Sequential
        From normalised images, N x 3 x H x W, to logits, N x classes x h x w, where ``h`` answers take
        ``field + (h - 1) · stride / α`` rows. Batch normalisation is folded into the convolutions.

    Raises
    ------
    ModelError
        If α is not a power of two that divides the stride.
    """
    stride = network.architecture.stride_px
    if dense_coefficient < 1 or dense_coefficient & (dense_coefficient - 1) or stride % dense_coefficient:
        raise ModelError(
            f"expected a power of two that divides the native stride of {stride} px as dense coefficient, "
            f"got {dense_coefficient}; choose one of these"
        )
    # Every layer with a stride halves its image.
    return _Conversion(_trunk_stride(network) // dense_coefficient).convert(network.layers)


def folded_layers(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Return copies of layers with their own strides, batch normalisation folded into the convolutions before it."""
    return _Conversion(_EVERY_STRIDE).convert(layers)


def _trunk_stride(network: FullyConvolutionalNetwork) -> int:
    """Return the native stride in pixels of the first layer with a stride."""
    built = network.architecture
    return built.trunk_stride_px if isinstance(built, EfficientNetLiteArchitecture) else built.stride_px


class _Conversion:
    """Goes through a network's layers from the image upwards and makes them dense.

    Parameters
    ----------
    stride_px
        Of the answers that are wanted.
    """

    def __init__(self, stride_px: int) -> None:
        self.left = stride_px
        self.dilation = 1

    def convert(self, layers: Iterable[nn.Module]) -> nn.Sequential:
        converted: list[nn.Module] = []
        for layer in layers:
            if isinstance(layer, nn.Dropout):
                continue
            if isinstance(layer, nn.BatchNorm2d):
                convolution = converted.pop()
                assert isinstance(convolution, nn.Conv2d)
                converted.append(fuse_conv_bn_eval(convolution, layer))
            elif isinstance(layer, nn.Sequential):
                converted.extend(self.convert(layer))
            elif isinstance(layer, Residual):
                # Its layers have no strides: the dilation is the same in front of it and behind it.
                converted.append(Residual(self.convert(layer.layers), layer.crop_px * self.dilation))
            else:
                converted.append(self._alone(layer))
        return nn.Sequential(*converted)

    def _alone(self, layer: nn.Module) -> nn.Module:
        converted = copy.deepcopy(layer)
        if isinstance(converted, nn.Conv2d):
            converted.dilation = (self.dilation, self.dilation)
            if converted.stride != (1, 1) and not self._keeps_stride():
                converted.stride = (1, 1)
        elif isinstance(converted, nn.MaxPool2d):
            converted.dilation = self.dilation
            if not self._keeps_stride():
                converted.stride = 1
        return converted

    def _keeps_stride(self) -> bool:
        """Return whether the next layer with a stride keeps it; where it does not, all behind it are dilated."""
        if self.left > 1:
            self.left //= _HALVES
            return True
        self.dilation *= _HALVES
        return False


@torch.no_grad()
def fold_normalisation(layers: nn.Sequential, spec: _Normalised) -> None:
    """Let layers that take normalised images take raw ones, 0..255 less :data:`MIDDLE_GRAY`; exact without padding."""
    # Enlarging, which may come before it, leaves every colour as it is.
    first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    # w · (x / 255 - mean) / std + b  =  (w / (255 std)) · (x - 128) + (b - Σ w (mean - 128 / 255) / std),
    # summed in float64.
    weight = first.weight.double()
    mean = torch.tensor(spec.mean, dtype=torch.float64).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, dtype=torch.float64).view(1, -1, 1, 1)
    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if first.bias is None else first.bias.double()
    bias = bias - (weight * (mean - MIDDLE_GRAY / 255) / std).sum(dim=(1, 2, 3))
    first.weight = nn.Parameter((weight / (255 * std)).float())
    first.bias = nn.Parameter(bias.float())


class DenseNetwork(nn.Module):
    """A dense network that takes raw pixels and gives the tumour probability.

    Parameters
    ----------
    network
        The patch classifier, in evaluation mode.
    spec
        Its contract. Normalisation is folded into the first convolution, exactly, because nothing is padded.
    dense_coefficient
        α of the paper.
    """

    def __init__(self, network: FullyConvolutionalNetwork, spec: ModelSpec, dense_coefficient: int) -> None:
        super().__init__()
        self.layers = dense_layers(network, dense_coefficient)
        self.tumour_class = spec.tumour_class
        fold_normalisation(self.layers, spec)
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        weight, bias = calibrated_classifier((last.weight.detach(), last.bias.detach()), spec, spec.tumour_class)
        last.weight, last.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.eval().requires_grad_(requires_grad=False)

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x h x w, that the last layer reads, of raw images, N x 3 x H x W in 0..255."""
        features: Tensor = self.layers[:-1](image - MIDDLE_GRAY)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of features, N x C x h x w."""
        logits: Tensor = self.layers[-1](features)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Return the tumour probability, N x h x w float32, of raw images, N x 3 x H x W in 0..255."""
        # float32, because a half-precision softmax has no digits left near 1.
        return self.classify(self.encode(image)).float().softmax(dim=1)[:, self.tumour_class]
