"""A detector's trunk with a way up to pixels, for what is as small as a nucleus: maps of points (Pearce 2017).

The map network of that paper's appendix, two convolutions and their mirror image with random weights, "simply failed to
train". This one begins with what a detector knows of tissue, and sees single pixels through the trunk's lower stages.

Nothing is padded. A layer with a kernel of k px and a stride of 2 leaves cells (k - 1) / 2 px further in, twice as far
apart, so that a cell lies at a pixel and not between two. Halving is undone by interpolation between these places:
n cells become 2 n - 1, the first and the last of which stay where they were. Counted from the first pixel, and with
their distance:

    stage 4   73, 16                                        = the trunk
    up        73, 8     beside stage 3 (33, 8) from its sixth cell on,       joined by a 3x3 filter:  81, 8
    up        81, 4     beside stage 2 (9, 4) from its nineteenth cell on,   joined:                  85, 4
    up        85, 2     beside stage 1 (3, 2) from its forty-second cell on, joined:                  87, 2
    up        87, 1

``n`` cells of stage 4 take 131 + 16 n pixels and make 16 n - 43. Answers for blocks of 16 px therefore begin at pixel
90, of which three are left out, and take 180 px more than they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLite, EfficientNetLiteArchitecture
from napari_metastasis.models.nets.resnet import CLASSES
from napari_metastasis.models.nets.segmentation import (
    LITE_UNET_FIELD_PX,
    SegmentationArchitecture,
    SegmentationNetwork,
    convolutions,
    draw_weights,
)

__all__ = ["LiteUNet"]

#: Cut at stride 16, before its second stage there: what lies further than 22 µm away, at 0.25 µm/px, says little of a
#: cell. Only the trunk is built of it.
_TRUNK = EfficientNetLiteArchitecture(blocks=(1, 2, 2, 3), patch_px=96, pooled_cells=1, feature_channels=8, dropout=0.2)
#: Layers of the trunk after which a stage ends, and the channels that it ends with.
_ENDS, _CHANNELS = (4, 6, 8, 11), (16, 24, 40, 80)
#: Channels of the way up, from the coarsest.
_UP = (48, 40, 32, 16)
#: Pixels before the first answer that the layers leave.
_FIRST_PX = 87
#: Cells of the trunk's lower stages, from the coarsest, before the one beside the first on the way up.
_SKIPPED = (5, 18, 41)


class LiteUNet(SegmentationNetwork):
    """EfficientNet-lite0 up to stride 16, and a way up that joins it with its lower stages.

    The trunk's layers carry the names that they have in a detector.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__(architecture)
        # Drawn before the trunk, which draws its own.
        self.narrow = nn.Sequential(nn.Conv2d(_CHANNELS[-1], _UP[0], 1, bias=False), nn.BatchNorm2d(_UP[0]), nn.ReLU())
        skips = _CHANNELS[-2::-1]
        self.join = nn.ModuleList(
            nn.Sequential(*convolutions(before + skip, width, 1, batch_norm=True))
            for before, skip, width in zip(_UP[:-1], skips, _UP[1:], strict=True)
        )
        draw_weights(self)
        self.trunk = EfficientNetLite(replace(_TRUNK, input_channels=architecture.input_channels)).trunk
        self.dropout = nn.Dropout(_TRUNK.dropout)
        self.score = nn.Conv2d(_UP[-1], CLASSES, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        assert self.score.bias is not None
        nn.init.zeros_(self.score.bias)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of the trunk; see :meth:`SegmentationNetwork.place_of`."""
        part, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        # A detector's goes on behind the layer that this one is cut at.
        return name if part == "trunk" and number.isdecimal() and int(number) < len(self.trunk) else None

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        sides = [size - LITE_UNET_FIELD_PX for size in image.shape[-2:]]
        seen: list[Tensor] = []
        hidden = image
        for first, last in zip((0, *_ENDS[:-1]), _ENDS, strict=True):
            hidden = self.trunk[first:last](hidden)
            seen.append(hidden)
        hidden = self.dropout(self.narrow(hidden))
        for join, skip, skipped in zip(self.join, seen[-2::-1], _SKIPPED, strict=True):
            hidden = _between(hidden)
            rows, columns = (slice(skipped, skipped + size) for size in hidden.shape[-2:])
            hidden = join(torch.cat([hidden, skip[..., rows, columns]], dim=1))
        logits = _between(self.score(hidden))
        first = LITE_UNET_FIELD_PX // 2 - _FIRST_PX
        return logits[..., first : first + sides[0], first : first + sides[1]]


def _between(cells: Tensor) -> Tensor:
    """Return cells with one more between each two, N x C x (2 h - 1) x (2 w - 1)."""
    sides = [2 * size - 1 for size in cells.shape[-2:]]
    return functional.interpolate(cells, size=sides, mode="bilinear", align_corners=True)
