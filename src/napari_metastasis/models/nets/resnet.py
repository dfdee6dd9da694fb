"""ResNets (He et al. 2016), ResNeXts and wide ones, under torchvision's parameter names.

ResNet-34 is the patch encoder of Zheng et al. (2022, 3.1). The layers pad, so that a patch's features depend on where
the patch ends: a ResNet answers patch by patch, never densely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from napari_metastasis.models.card import DENSE_COEFFICIENT

__all__ = ["CLASSES", "RESNETS", "PatchByPatch", "ResNet", "ResNetArchitecture"]

#: Output channels of every network: tumour, and all else.
CLASSES = 2

_STEM_CHANNELS = 64
#: Channels that come out of a bottleneck, for each of its stage's width.
_WIDENED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchByPatch:
    """How a network that pads is laid over a slide where a model's card does not say otherwise.

    Attributes
    ----------
    patch_px
        Side of a patch. Zheng et al. (2022, 4.1) take patches of 256 px every 64 px at level 0.
    stride_px
        Distance between the patches of a slide.
    """

    patch_px: int = 256
    stride_px: int = 64

    @property
    def dense_coefficient(self) -> int:
        """Return how many times closer scans lay patches by themselves."""
        return DENSE_COEFFICIENT

    @property
    def field_px(self) -> int:
        """Return the side of what one answer depends on: its patch, around which the layers pad."""
        return self.patch_px


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetArchitecture(PatchByPatch):
    """A residual network.

    Attributes
    ----------
    blocks
        Blocks in each of the four stages, whose widths are 64, 128, 256 and 512.
    bottleneck
        Whether a block has three convolutions, the middle one of which is narrow; else it has two.
    groups, group_channels
        Of the middle convolution of a bottleneck: how many groups, and the channels of each in the first stage.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = False
    groups: int = 1
    group_channels: int = _STEM_CHANNELS

    @property
    def feature_channels(self) -> int:
        """Return how many features a patch is encoded as: the width of the last stage."""
        return (_STEM_CHANNELS << (len(self.blocks) - 1)) * (_WIDENED if self.bottleneck else 1)


def _of_bottlenecks(*blocks: int, groups: int = 1, group_channels: int = _STEM_CHANNELS) -> ResNetArchitecture:
    first, second, third, fourth = blocks
    return ResNetArchitecture(
        blocks=(first, second, third, fourth), bottleneck=True, groups=groups, group_channels=group_channels
    )


#: Residual networks that a model card may name.
RESNETS: Mapping[str, ResNetArchitecture] = MappingProxyType(
    {
        "resnet18": ResNetArchitecture(blocks=(2, 2, 2, 2)),
        "resnet34": ResNetArchitecture(blocks=(3, 4, 6, 3)),
        "resnet50": _of_bottlenecks(3, 4, 6, 3),
        "resnet101": _of_bottlenecks(3, 4, 23, 3),
        "resnext50_32x4d": _of_bottlenecks(3, 4, 6, 3, groups=32, group_channels=4),
        "resnext101_32x8d": _of_bottlenecks(3, 4, 23, 3, groups=32, group_channels=8),
        "wide_resnet50_2": _of_bottlenecks(3, 4, 6, 3, group_channels=128),
        "wide_resnet101_2": _of_bottlenecks(3, 4, 23, 3, group_channels=128),
    }
)


def _shortcut(channels: int, answered: int, stride: int) -> nn.Module | None:
    """Return what makes a block's input as large as its output; ``None`` where it is."""
    if stride == 1 and channels == answered:
        return None
    return nn.Sequential(nn.Conv2d(channels, answered, 1, stride, bias=False), nn.BatchNorm2d(answered))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.relu(self.bn1(self.conv1(features)))
        answer: Tensor = self.relu(self.bn2(self.conv2(inner)) + shortcut)
        return answer


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, beside a shortcut; the 3x3 one has the stride, as torchvision's has."""

    def __init__(self, channels: int, width: int, stride: int, architecture: ResNetArchitecture) -> None:
        super().__init__()
        groups, answered = architecture.groups, _WIDENED * width
        inner = width * architecture.group_channels // _STEM_CHANNELS * groups
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, answered, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(answered)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, answered, stride)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        answer: Tensor = self.relu(self.bn3(self.conv3(inner)) + shortcut)
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
            width = _STEM_CHANNELS << stage
            blocks: list[nn.Module] = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                blocks.append(self._block(channels, width, stride))
                channels = width * (_WIDENED if architecture.bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _block(self, channels: int, width: int, stride: int) -> nn.Module:
        built = self.architecture
        return _Bottleneck(channels, width, stride, built) if built.bottleneck else _BasicBlock(channels, width, stride)

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
