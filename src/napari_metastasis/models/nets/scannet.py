"""The unpadded VGG family that Fast ScanNet belongs to (Lin et al. 2019, Table I).

The covnets of Pearce (2017, 4 and 5.2) for tiles with mitoses are built alike: two blocks, and a head as wide as what
is left of the tile.

No layer pads, so that a network applied to a large image answers exactly what it answers for each patch alone.
Parameters carry torchvision's VGG names (``features.0.weight`` …), so that its weights load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from napari_metastasis.models.card import DENSE_COEFFICIENT
from napari_metastasis.models.nets.resnet import CLASSES

__all__ = ["SCANNETS", "Block", "ScanNet", "ScanNetArchitecture"]

_KERNEL_PX = 3
_POOL_PX = 2


@dataclass(frozen=True, slots=True)
class Block:
    """Some 3x3 convolutions of equal width, and the 2x2 max pooling that ends them."""

    channels: int
    convolutions: int


@dataclass(frozen=True, slots=True)
class ScanNetArchitecture:
    """One member of the family.

    Attributes
    ----------
    blocks
        From the image upwards.
    head_kernel_px
        Side of the first head convolution, in features of the last pooling.
    head_channels
        Widths of the head's hidden layers; the first spans ``head_kernel_px``, the others are 1x1.
    batch_norm
        Whether a batch normalisation follows each convolution of the blocks.
    dropout
        Share of head features dropped in training.
    input_channels
        Of the images that it reads.
    """

    blocks: tuple[Block, ...]
    head_kernel_px: int
    head_channels: tuple[int, ...]
    batch_norm: bool
    dropout: float
    input_channels: int = 3

    @property
    def feature_channels(self) -> int:
        """Return how many features a patch is encoded as."""
        return self.head_channels[-1]

    @property
    def stride_px(self) -> int:
        """Return the distance between the network's own answers, in input pixels."""
        return int(_POOL_PX ** len(self.blocks))

    @property
    def dense_coefficient(self) -> int:
        """Return how many times closer answers of scans lie by themselves."""
        return DENSE_COEFFICIENT

    @property
    def patch_px(self) -> int:
        """Return the side of a training patch, all of which one answer depends on."""
        return self.field_px

    @property
    def field_px(self) -> int:
        """Return the side of the smallest input, which gives one answer."""
        side = self.head_kernel_px
        for block in reversed(self.blocks):
            side = side * _POOL_PX + block.convolutions * (_KERNEL_PX - 1)
        return side


def _features(architecture: ScanNetArchitecture) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = architecture.input_channels
    for block in architecture.blocks:
        for _ in range(block.convolutions):
            # A bias before batch normalisation would be subtracted again at once.
            layers.append(nn.Conv2d(channels, block.channels, _KERNEL_PX, bias=not architecture.batch_norm))
            if architecture.batch_norm:
                layers.append(nn.BatchNorm2d(block.channels))
            layers.append(nn.ReLU(inplace=True))
            channels = block.channels
        layers.append(nn.MaxPool2d(_POOL_PX))
    return nn.Sequential(*layers)


def _head(architecture: ScanNetArchitecture) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = architecture.blocks[-1].channels
    kernel = architecture.head_kernel_px
    for width in architecture.head_channels:
        layers += [nn.Conv2d(channels, width, kernel), nn.ReLU(inplace=True), nn.Dropout(architecture.dropout)]
        channels, kernel = width, 1
    layers.append(nn.Conv2d(channels, CLASSES, kernel))
    return nn.Sequential(*layers)


class ScanNet(nn.Module):
    """A fully convolutional patch classifier.

    Parameters
    ----------
    architecture
        The member of the family to build.
    """

    def __init__(self, architecture: ScanNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.features = _features(architecture)
        self.head = _head(architecture)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """Return all layers, from the image upwards."""
        return (*self.features, *self.head)

    @property
    def tuned_from(self) -> int:
        """Return the index in :attr:`layers` of the first that tuning changes: that after the last pooling but one."""
        return [number for number, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)][-2] + 1

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return the linear layer from features to logits: weight, classes x features, and bias."""
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        return last.weight.flatten(1), last.bias

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x h x w, that the last layer of the head reads, of normalised images."""
        features: Tensor = self.head[:-1](self.features(image))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of normalised images, N x 3 x H x W.

        ``h`` answers take ``patch + (h - 1) · stride`` rows (Lin et al. 2019, eq. 1).
        """
        logits: Tensor = self.head(self.features(image))
        return logits


#: Members of the family that a model card may name.
SCANNETS: Mapping[str, ScanNetArchitecture] = MappingProxyType(
    {
        # Lin et al. 2019, Table I: VGG16 without padding, its dense layers as 1024-1024-2 convolutions.
        "scannet-vgg16": ScanNetArchitecture(
            blocks=(Block(64, 2), Block(128, 2), Block(256, 3), Block(512, 3), Block(512, 3)),
            head_kernel_px=2,
            head_channels=(1024, 1024),
            batch_norm=False,
            dropout=0.5,
        ),
        # For 0.972 µm/px: PatchCamelyon's 96 px, stride 16. Thin where the image is large and wide where it is
        # small, so that a slide takes two processor cores minutes and not an hour.
        "scannet-small": ScanNetArchitecture(
            blocks=(Block(16, 2), Block(32, 3), Block(96, 2), Block(192, 2)),
            head_kernel_px=2,
            head_channels=(192,),
            batch_norm=True,
            dropout=0.2,
        ),
        # The same patch and stride at a sixth more arithmetic. Tied orientations divide the filters by eight, so that
        # the lowest layers need more of them, and the highest, where a feature costs least, can have many.
        "scannet-compact": ScanNetArchitecture(
            blocks=(Block(16, 2), Block(40, 3), Block(80, 2), Block(256, 2)),
            head_kernel_px=2,
            head_channels=(256,),
            batch_norm=True,
            dropout=0.2,
        ),
        # Pearce 2017, 5.2, the first two rows of its table: two blocks of two 3x3 filters, 128 and 64 of them, then an
        # affine layer of 512 over all that is left of a tile, here a convolution of 61 and of 13 px. Of 122 and of 5.5
        # million weights; how many are dropped is not said.
        "covnet-256": ScanNetArchitecture(
            blocks=(Block(128, 2), Block(64, 2)), head_kernel_px=61, head_channels=(512,), batch_norm=True, dropout=0.5
        ),
        "covnet-64": ScanNetArchitecture(
            blocks=(Block(128, 2), Block(64, 2)), head_kernel_px=13, head_channels=(512,), batch_norm=True, dropout=0.5
        ),
    }
)
