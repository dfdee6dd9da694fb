"""ResNets of basic blocks (He et al. 2016) under torchvision's parameter names.

ResNet-34 is the patch encoder of Zheng et al. (2022, 3.1). The layers pad, so that a patch's features depend on where
the patch ends: a ResNet answers patch by patch, never densely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from napari_metastasis.models.card import DENSE_COEFFICIENT

__all__ = ["CLASSES", "RESNETS", "ResNet", "ResNetArchitecture"]

#: Output channels of every network: tumour, and all else.
CLASSES = 2

_STEM_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class ResNetArchitecture:
    """A residual network of basic blocks, and how training lays it over a slide; a model's card may say otherwise.

    Attributes
    ----------
    blocks
        Basic blocks in each of the four stages, whose widths are 64, 128, 256 and 512.
    patch_px
        Side of a patch.
    stride_px
        Distance between the patches of a slide.
    """

    blocks: tuple[int, int, int, int]
    patch_px: int
    stride_px: int

    @property
    def dense_coefficient(self) -> int:
        """Return how many times closer scans lay patches by themselves."""
        return DENSE_COEFFICIENT

    @property
    def field_px(self) -> int:
        """Return the side of what one answer depends on: its patch, around which the layers pad."""
        return self.patch_px

    @property
    def feature_channels(self) -> int:
        """Return how many features a patch is encoded as: the width of the last stage."""
        return _STEM_CHANNELS << (len(self.blocks) - 1)


#: Residual networks that a model card may name.
RESNETS: Mapping[str, ResNetArchitecture] = MappingProxyType(
    {
        "resnet18": ResNetArchitecture(blocks=(2, 2, 2, 2), patch_px=256, stride_px=64),
        # Zheng et al. 2022: 256 px patches every 64 px at level 0 (4.1).
        "resnet34": ResNetArchitecture(blocks=(3, 4, 6, 3), patch_px=256, stride_px=64),
    }
)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.relu(self.bn1(self.conv1(features)))
        answer: Tensor = self.relu(self.bn2(self.conv2(inner)) + shortcut)
        return answer


class ResNet(nn.Module):
    """A residual patch classifier.

    Parameters
    ----------
    architecture
        What to build.
    """

    def __init__(self, architecture: ResNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.conv1 = nn.Conv2d(3, _STEM_CHANNELS, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = _STEM_CHANNELS
        for stage, count in enumerate(architecture.blocks):
            width, stride = _STEM_CHANNELS << stage, 1 if stage == 0 else 2
            blocks = [_BasicBlock(channels, width, stride), *(_BasicBlock(width, width, 1) for _ in range(count - 1))]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            channels = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return the linear layer from features to logits: weight, classes x features, and bias."""
        return self.fc.weight, self.fc.bias

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x 1 x 1, of normalised patches, N x 3 x H x W: what average pooling leaves."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        for stage in range(len(self.architecture.blocks)):
            features = self.get_submodule(f"layer{stage + 1}")(features)
        pooled: Tensor = self.avgpool(features)
        return pooled

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, N x classes x 1 x 1, of normalised patches, N x 3 x H x W."""
        logits: Tensor = self.fc(self.encode(image).flatten(1))
        return logits[:, :, None, None]
