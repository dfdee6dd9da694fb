"""Fully convolutional networks: the paper's FCN-32s on VGG16 with its finer kin, and the same on a detector's trunk."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from napari_metastasis.models.nets.efficientnet_lite import EFFICIENTNETS, EfficientNetLite
from napari_metastasis.models.nets.resnet import CLASSES
from napari_metastasis.models.nets.segmentation import (
    DROPOUT,
    LITE,
    SegmentationArchitecture,
    SegmentationNetwork,
    draw_weights,
    middle,
    place_in_row,
    vgg_blocks,
)

__all__ = ["DetectorFcn", "Fcn", "Upsampling"]


class Upsampling(nn.ConvTranspose2d):
    """A learnt upsampling of class scores, each by itself, which begins as bilinear interpolation.

    Its kernel is two strides wide: every pixel is made of the two cells on either side of it, and those at the edges
    that lie between no two are left out.

    Parameters
    ----------
    factor
        Pixels along a cell.
    """

    def __init__(self, factor: int) -> None:
        super().__init__(CLASSES, CLASSES, 2 * factor, factor, padding=factor, groups=CLASSES, bias=False)
        self.factor = factor
        places = (torch.arange(2 * factor) + 0.5) / factor
        taps = 1 - (places - 1).abs()
        with torch.no_grad():
            self.weight.copy_((taps[:, None] * taps).expand_as(self.weight))


class Fcn(SegmentationNetwork):
    """VGG16 without padding; its cells are scored, and scores brought back to pixels (Khalil et al. 2022, Figure 2e).

    Parameters carry torchvision's names, ``features.0.weight`` …, so that VGG16's weights load as they are.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__(architecture)
        layers: list[nn.Module] = []
        self._poolings = []
        for block in vgg_blocks(architecture):
            layers += [*block, nn.MaxPool2d(2)]
            self._poolings.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.ModuleList([nn.Dropout(DROPOUT), nn.Dropout(DROPOUT)])
        self.skips = {"fcn-32s": 0, "fcn-16s": 1, "fcn-8s": 2}[architecture.decoder]
        widths = architecture.channels[::-1][: self.skips + 1]
        scores = [nn.Conv2d(width, CLASSES, 1) for width in widths]
        self.scores = nn.ModuleList(scores)
        factors = [2] * self.skips + [32 >> self.skips]
        self.upsampling = nn.ModuleList([Upsampling(factor) for factor in factors])
        draw_weights(self)
        for score in scores:
            nn.init.normal_(score.weight, std=0.01)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of VGG16's; see :meth:`SegmentationNetwork.place_of`."""
        return place_in_row(name, batch_norm=self.architecture.batch_norm)

    @property
    def _blocks(self) -> list[nn.Module]:
        return [self.features[first:last] for first, last in pairwise([0, *self._poolings])]

    @property
    def layers(self) -> tuple[nn.Module, ...] | None:
        """Return all layers of a network without skips."""
        if self.skips:
            return None
        # The two dropouts of the paper lie behind the last two blocks.
        *lower, fourth, fifth = self._blocks
        return (*lower, fourth, self.dropout[0], fifth, self.dropout[1], self.scores[0], self.upsampling[0])

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        if not self.skips:
            return super().forward(image)
        seen, hidden = [], image
        for block in self._blocks:
            hidden = block(hidden)
            seen.append(hidden)
        seen[-2], seen[-1] = self.dropout[0](seen[-2]), self.dropout[1](seen[-1])
        scores: Tensor = self.scores[0](seen[-1])
        for skip in range(self.skips):
            scores = self.upsampling[skip](scores)
            scores = scores + middle(self.scores[skip + 1](seen[-2 - skip]), scores.shape[-2:])
        return self.answered(self.upsampling[-1](scores), image)


class DetectorFcn(SegmentationNetwork):
    """A detector's trunk, whose cells are scored one by one, and scores brought back to pixels.

    Trunk and cells carry the names that they have in the detector, so that what that has learnt from patches loads as
    it is; what gathers the cells of a patch is left out.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__(architecture)
        built = replace(EFFICIENTNETS[LITE], input_channels=architecture.input_channels)
        detector = EfficientNetLite(built)
        self.enlarge, self.trunk, self.cells = detector.enlarge, detector.trunk, detector.cells
        self.dropout = nn.Dropout(built.dropout)
        self.score = nn.Conv2d(built.feature_channels, CLASSES, 1)
        self.upsampling = Upsampling(built.stride_px)
        nn.init.normal_(self.score.weight, std=0.01)
        assert self.score.bias is not None
        nn.init.zeros_(self.score.bias)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of trunk or cells; see :meth:`SegmentationNetwork.place_of`."""
        part, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        # The trunk of ImageNet's goes on behind the layer that this one is cut at.
        inside = part == "trunk" and number.isdecimal() and int(number) < len(self.trunk)
        return name if inside or part == "cells" else None

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """Return all layers."""
        assert self.enlarge is not None
        return (self.enlarge, *self.trunk, *self.cells, self.dropout, self.score, self.upsampling)
