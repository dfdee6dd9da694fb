"""U-Net and SegNet: VGG16 and its mirror image, to compare the fully convolutional networks with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.models.nets.resnet import CLASSES
from napari_metastasis.models.nets.segmentation import (
    DROPOUT,
    UNET_JOIN,
    VGG_CONVOLUTIONS,
    SegmentationArchitecture,
    SegmentationNetwork,
    convolutions,
    draw_weights,
    middle,
    place_in_blocks,
    vgg_blocks,
)

__all__ = ["SegNet", "UNet"]


class _Mirrored(SegmentationNetwork):
    """VGG16's blocks on the way down, something of the same widths on the way up, and a score of each pixel."""

    def __init__(self, architecture: SegmentationArchitecture, *, padding: int = 0) -> None:
        super().__init__(architecture)
        self.down = nn.ModuleList(nn.Sequential(*block) for block in vgg_blocks(architecture, padding=padding))
        self.up = nn.ModuleList()
        self.mirror(architecture.channels)
        self.dropout = nn.Dropout(DROPOUT)
        self.score = nn.Conv2d(architecture.channels[0], CLASSES, 1)
        draw_weights(self)

    def mirror(self, widths: tuple[int, ...]) -> None:
        """Build the way up from the channels of the blocks."""
        raise NotImplementedError

    def decoded(self, image: Tensor) -> Tensor:
        """Return what pixels are scored by: N x (channels of the first block) x h x w, around the image's middle."""
        raise NotImplementedError

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of VGG16's; see :meth:`SegmentationNetwork.place_of`."""
        return place_in_blocks(name, batch_norm=self.architecture.batch_norm)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        return self.answered(self.score(self.decoded(image)), image)


class UNet(_Mirrored):
    """U-Net without padding (Ronneberger et al. 2015); no pooling follows the fifth block."""

    def mirror(self, widths: tuple[int, ...]) -> None:
        """Build what doubles cells, and what joins them with those of the way down."""
        self.join = nn.ModuleList()
        before = widths[-1]
        for width in widths[-2::-1]:
            self.up.append(nn.ConvTranspose2d(before, width, 2, 2))
            joined = convolutions(2 * width, width, UNET_JOIN, batch_norm=self.architecture.batch_norm)
            self.join.append(nn.Sequential(*joined))
            before = width

    def decoded(self, image: Tensor) -> Tensor:
        """Return what pixels are scored by."""
        seen: list[Tensor] = []
        hidden = image
        for level, block in enumerate(self.down):
            hidden = block(functional.max_pool2d(hidden, 2) if level else hidden)
            seen.append(hidden)
        hidden = self.dropout(hidden)
        for level, (up, join) in enumerate(zip(self.up, self.join, strict=True), start=2):
            hidden = up(hidden)
            hidden = join(torch.cat([middle(seen[-level], hidden.shape[-2:]), hidden], dim=1))
        return hidden


class SegNet(_Mirrored):
    """SegNet (Badrinarayanan et al. 2017), which puts values back where the poolings took them.

    Its layers pad, so that its answers depend a little on where a tile begins: for comparison only.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__(architecture, padding=1)

    def mirror(self, widths: tuple[int, ...]) -> None:
        """Build the blocks of the way down in reverse; the last convolution of each narrows to the block below it."""
        batch_norm = self.architecture.batch_norm
        narrower = (*widths[-2::-1], widths[0])
        for width, narrow, count in zip(widths[::-1], narrower, VGG_CONVOLUTIONS[::-1], strict=True):
            wide = convolutions(width, width, count - 1, batch_norm=batch_norm, padding=1)
            self.up.append(nn.Sequential(*wide, *convolutions(width, narrow, 1, batch_norm=batch_norm, padding=1)))

    def decoded(self, image: Tensor) -> Tensor:
        """Return what pixels are scored by."""
        taken: list[tuple[Tensor, torch.Size]] = []
        hidden = image
        for block in self.down:
            hidden = block(hidden)
            pooled, places = functional.max_pool2d(hidden, 2, return_indices=True)
            taken.append((places, hidden.shape[-2:]))
            hidden = pooled
        hidden = self.dropout(hidden)
        for block in self.up:
            places, side = taken.pop()
            hidden = block(functional.max_unpool2d(hidden, places, [2, 2], output_size=side))
        return hidden
