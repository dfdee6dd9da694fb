"""DenseNets (Huang et al. 2017) under torchvision's parameter names: padded, so that they answer patch by patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from napari_metastasis.models.nets.resnet import CLASSES, PatchByPatch

__all__ = ["DENSENETS", "TIATOOLBOX", "DenseNet", "DenseNetArchitecture"]

#: End of the names of those whose features are not rectified.
TIATOOLBOX = "-tiatoolbox"
#: Channels of a layer's first convolution, for each that the layer adds.
_WIDENED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseNetArchitecture(PatchByPatch):
    """A densely connected network.

    Attributes
    ----------
    layers
        In each of the four blocks.
    growth
        Channels that a layer adds.
    stem_channels
        Of the first convolution.
    rectified
        Whether what the last block answers is rectified before it is averaged: so does torchvision. TIAToolbox takes
        torchvision's layers without it, since it is no layer there.
    """

    layers: tuple[int, int, int, int]
    growth: int = 32
    stem_channels: int = 64
    rectified: bool = True

    @property
    def feature_channels(self) -> int:
        """Return how many features a patch is encoded as."""
        channels = self.stem_channels
        for number, count in enumerate(self.layers):
            channels = (channels if number == 0 else channels // 2) + count * self.growth
        return channels


_PLAIN = {
    "densenet121": DenseNetArchitecture(layers=(6, 12, 24, 16)),
    "densenet161": DenseNetArchitecture(layers=(6, 12, 36, 24), growth=48, stem_channels=96),
    "densenet169": DenseNetArchitecture(layers=(6, 12, 32, 32)),
    "densenet201": DenseNetArchitecture(layers=(6, 12, 48, 32)),
}
#: Densely connected networks that a model card may name.
DENSENETS: Mapping[str, DenseNetArchitecture] = MappingProxyType(
    {**_PLAIN, **{f"{name}{TIATOOLBOX}": replace(built, rectified=False) for name, built in _PLAIN.items()}}
)


class _DenseLayer(nn.Module):
    """Adds a few channels, made of all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, _WIDENED * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_WIDENED * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(_WIDENED * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.conv1(self.relu1(self.norm1(features)))
        return torch.cat([features, self.conv2(self.relu2(self.norm2(inner)))], dim=1)


class DenseNet(nn.Module):
    """A densely connected patch classifier.

    Parameters
    ----------
    architecture
        What to build.
    """

    def __init__(self, architecture: DenseNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        channels = architecture.stem_channels
        features = nn.Sequential()
        features.add_module("conv0", nn.Conv2d(3, channels, 7, 2, padding=3, bias=False))
        features.add_module("norm0", nn.BatchNorm2d(channels))
        features.add_module("relu0", nn.ReLU(inplace=True))
        features.add_module("pool0", nn.MaxPool2d(3, 2, padding=1))
        for number, count in enumerate(architecture.layers, start=1):
            if number > 1:
                features.add_module(f"transition{number - 1}", _transition(channels))
                channels //= 2
            block = nn.Sequential()
            for layer in range(1, count + 1):
                block.add_module(f"denselayer{layer}", _DenseLayer(channels, architecture.growth))
                channels += architecture.growth
            features.add_module(f"denseblock{number}", block)
        features.add_module("norm5", nn.BatchNorm2d(channels))
        self.features = features
        self.last = nn.Linear(channels, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return the linear layer from features to logits: weight, classes x features, and bias."""
        return self.last.weight, self.last.bias

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x 1 x 1, of normalised patches, N x 3 x H x W: what average pooling leaves."""
        features = self.features(image)
        if self.architecture.rectified:
            features = features.relu()
        return features.mean(dim=(2, 3), keepdim=True)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, N x classes x 1 x 1, of normalised patches, N x 3 x H x W."""
        logits: Tensor = self.last(self.encode(image).flatten(1))
        return logits[:, :, None, None]


def _transition(channels: int) -> nn.Sequential:
    """Return what halves channels and image between two blocks."""
    layers = nn.Sequential()
    layers.add_module("norm", nn.BatchNorm2d(channels))
    layers.add_module("relu", nn.ReLU(inplace=True))
    layers.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
    layers.add_module("pool", nn.AvgPool2d(2, 2))
    return layers
