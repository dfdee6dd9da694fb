"""EfficientNet-lite (Tan & Le 2019) without padding, cut where its features are still dense, for scanning.

The lite networks have no squeeze-and-excitation and no swish: only convolutions and clamps, so that every answer
depends on a window of fixed size. Cut after its fifth or seventh stage, and with nothing padded, such a network applied
to a large image answers exactly what it answers for each window alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from napari_metastasis.models.card import DENSE_COEFFICIENT
from napari_metastasis.models.nets.depthwise import DepthwiseConv2d
from napari_metastasis.models.nets.enlarge import FROM_PX, TO_PX, Enlarge
from napari_metastasis.models.nets.resnet import CLASSES

__all__ = ["EFFICIENTNETS", "EfficientNetLite", "EfficientNetLiteArchitecture", "Residual"]

_STEM_CHANNELS, _STEM_PX = 32, 3
#: TensorFlow's, which the published weights were trained with.
_EPSILON, _MOMENTUM = 1e-3, 0.01


@dataclass(frozen=True, slots=True)
class _Stage:
    """Inverted bottlenecks of equal width; the first of them takes the stride."""

    expansion: int
    kernel_px: int
    stride: int
    channels: int
    blocks: int


#: EfficientNet-lite0's stages. Lite1 and lite2 repeat the middle ones more often.
_STAGES = (
    _Stage(1, 3, 1, 16, 1),
    _Stage(6, 3, 2, 24, 2),
    _Stage(6, 5, 2, 40, 2),
    _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3),
    _Stage(6, 5, 2, 192, 4),
    _Stage(6, 3, 1, 320, 1),
)


@dataclass(frozen=True, slots=True)
class EfficientNetLiteArchitecture:
    """One member of the family.

    Attributes
    ----------
    blocks
        Inverted bottlenecks of each stage that is kept, from the image upwards.
    patch_px
        Side of a training patch, in model pixels: of a patch of PatchCamelyon.
    pooled_cells
        Native cells along a side of the square that an answer gathers its features from.
    feature_channels
        Features of a cell, and of an answer.
    dropout
        Share of features dropped in training.
    enlarges
        Whether images are enlarged by four thirds first: ImageNet's filters know larger nuclei.
    input_channels
        Of the images that it reads.
    """

    blocks: tuple[int, ...]
    patch_px: int
    pooled_cells: int
    feature_channels: int
    dropout: float
    enlarges: bool = False
    input_channels: int = 3

    @property
    def _kernels(self) -> tuple[tuple[int, int], ...]:
        """Return side and stride of every kernel wider than a pixel, from the image upwards."""
        kernels = [(_STEM_PX, 2)]
        for stage, count in zip(_STAGES, self.blocks, strict=False):
            kernels += [(stage.kernel_px, stage.stride), *[(stage.kernel_px, 1)] * (count - 1)]
        return (*kernels, (self.pooled_cells, 1))

    @property
    def stride_px(self) -> int:
        """Return the distance between the network's own answers, in model pixels."""
        return self.trunk_stride_px * FROM_PX // TO_PX if self.enlarges else self.trunk_stride_px

    @property
    def dense_coefficient(self) -> int:
        """Return how many times closer answers of scans lie by themselves: those of enlarged images do already."""
        return 1 if self.enlarges else DENSE_COEFFICIENT

    @property
    def trunk_stride_px(self) -> int:
        """Return this distance in the pixels that the trunk reads: enlarged ones, where images are enlarged."""
        return math.prod(step for _, step in self._kernels)

    @property
    def field_px(self) -> int:
        """Return the side of the window that one answer depends on, in model pixels."""
        side, step = 1, 1
        for kernel, stride in self._kernels:
            side += (kernel - 1) * step
            step *= stride
        # Without the pixel that is left out at either side.
        return math.ceil((side + 2) * FROM_PX / TO_PX) if self.enlarges else side


class Residual(nn.Module):
    """Layers beside a shortcut, which is cropped to what layers without padding leave.

    Parameters
    ----------
    layers
        That change neither the number of channels nor the distance of pixels.
    crop_px
        Pixels that they take from every side.

    Attributes
    ----------
    skipped_share
        In which share of training steps the shortcut stands alone.
    """

    def __init__(self, layers: nn.Sequential, crop_px: int) -> None:
        super().__init__()
        self.layers = layers
        self.crop_px = crop_px
        self.skipped_share = 0.0

    def forward(self, image: Tensor) -> Tensor:
        """Return the sum, N x C x (H - 2 crop) x (W - 2 crop), of N x C x H x W."""
        crop = self.crop_px
        shortcut = image[..., crop:-crop, crop:-crop] if crop else image
        answers: Tensor = self.layers(image)
        if self.training and self.skipped_share:
            # Multiplied, not left out: all devices wait for every gradient.
            answers = answers * ((torch.rand(()) >= self.skipped_share) / (1 - self.skipped_share)).to(answers)
        return answers + shortcut


def _normalised(convolution: nn.Conv2d, *, clamped: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(convolution.out_channels, eps=_EPSILON, momentum=_MOMENTUM)]
    return [*layers, nn.ReLU6(inplace=True)] if clamped else layers


def _bottleneck(channels: int, stage: _Stage, stride: int) -> nn.Module:
    """Return an inverted bottleneck (Sandler et al. 2018): widen, filter each channel by itself, narrow."""
    width = channels * stage.expansion
    layers = _normalised(nn.Conv2d(channels, width, 1, bias=False)) if stage.expansion > 1 else []
    layers += _normalised(DepthwiseConv2d(width, stage.kernel_px, stride))
    layers += _normalised(nn.Conv2d(width, stage.channels, 1, bias=False), clamped=False)
    block = nn.Sequential(*layers)
    return Residual(block, stage.kernel_px // 2) if stride == 1 and channels == stage.channels else block


def _trunk(architecture: EfficientNetLiteArchitecture) -> nn.Sequential:
    layers = _normalised(nn.Conv2d(architecture.input_channels, _STEM_CHANNELS, _STEM_PX, 2, bias=False))
    channels = _STEM_CHANNELS
    for stage, count in zip(_STAGES, architecture.blocks, strict=False):
        for block in range(count):
            layers.append(_bottleneck(channels, stage, 1 if block else stage.stride))
            channels = stage.channels
    return nn.Sequential(*layers)


class EfficientNetLite(nn.Module):
    """A fully convolutional patch classifier.

    Each cell has features of its own; an answer gathers those of a square of cells, every feature by weights of its
    own, and classifies what it gathered.

    Parameters
    ----------
    architecture
        The member of the family to build.
    """

    def __init__(self, architecture: EfficientNetLiteArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.enlarge = Enlarge(architecture.input_channels) if architecture.enlarges else None
        self.trunk = _trunk(architecture)
        channels, width = _STAGES[len(architecture.blocks) - 1].channels, architecture.feature_channels
        self.cells = nn.Sequential(*_normalised(nn.Conv2d(channels, width, 1, bias=False)))
        self.gather = DepthwiseConv2d(width, architecture.pooled_cells)
        self.dropout = nn.Dropout(architecture.dropout)
        self.classify = nn.Conv2d(width, CLASSES, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.constant_(self.gather.weight, 1 / architecture.pooled_cells**2)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """Return all layers, from the image upwards."""
        first = () if self.enlarge is None else (self.enlarge,)
        return (*first, *self.trunk, *self.cells, self.gather, self.dropout, self.classify)

    @property
    def tuned_from(self) -> int:
        """Return the index in :attr:`layers` of the first that tuning changes: the last block of the trunk."""
        return self.layers.index(self.trunk[-1])

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return the linear layer from features to logits: weight, classes x features, and bias."""
        assert self.classify.bias is not None
        return self.classify.weight.flatten(1), self.classify.bias

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x h x w, that the classifier reads, of normalised images."""
        if self.enlarge is not None:
            image = self.enlarge(image)
        features: Tensor = self.gather(self.cells(self.trunk(image)))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of normalised images, N x 3 x H x W.

        ``h`` answers take ``field + (h - 1) · stride`` rows (Lin et al. 2019, eq. 1).
        """
        logits: Tensor = self.classify(self.dropout(self.encode(image)))
        return logits


#: Members of the family that a model card may name.
EFFICIENTNETS: Mapping[str, EfficientNetLiteArchitecture] = MappingProxyType(
    {
        "efficientnet-lite0": EfficientNetLiteArchitecture(
            blocks=(1, 2, 2, 3, 3), patch_px=96, pooled_cells=6, feature_channels=256, dropout=0.3
        ),
        "efficientnet-lite0-enlarged": EfficientNetLiteArchitecture(
            blocks=(1, 2, 2, 3, 3), patch_px=96, pooled_cells=8, feature_channels=256, dropout=0.3, enlarges=True
        ),
        "efficientnet-lite0-enlarged-4x4": EfficientNetLiteArchitecture(
            blocks=(1, 2, 2, 3, 3), patch_px=96, pooled_cells=4, feature_channels=256, dropout=0.3, enlarges=True
        ),
    }
)
