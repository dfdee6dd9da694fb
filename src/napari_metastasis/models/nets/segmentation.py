"""Segmentation networks: what all of them share, and the blocks of VGG16 that most of them stand on.

No layer pads, but for SegNet's: a tile of a slide is read with as much around it as its answers depend on, so that
tiles have no seams. ``n`` blocks of answers take ``field + n · block`` pixels, and lie in their middle. The paper
(Khalil et al. 2022, 3.4) pads each tile of 512 px by 100 px on every side instead, and sees nothing around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.models.nets.efficientnet_lite import EFFICIENTNETS

__all__ = [
    "DECODERS",
    "DROPOUT",
    "ENCODERS",
    "LITE",
    "LITE_UNET",
    "LITE_UNET_FIELD_PX",
    "UNET_JOIN",
    "VGG_CONVOLUTIONS",
    "SegmentationArchitecture",
    "SegmentationNetwork",
    "convolutions",
    "draw_weights",
    "middle",
    "place_in_blocks",
    "place_in_row",
    "vgg_blocks",
]

#: VGG16 (Simonyan and Zisserman 2014): channels and 3x3 convolutions of each block, which a 2x2 max pooling ends.
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
#: Convolutions of its blocks, from the image upwards, and of what joins two levels of U-Net (Ronneberger et al. 2015).
VGG_CONVOLUTIONS, UNET_JOIN = tuple(count for _, count in _BLOCKS), 2
#: Names of its tensors: layers in a row, as torchvision has them, or each block's for itself.
_IN_A_ROW = re.compile(r"features\.([0-9]{1,3})\.(\w+)")
_IN_BLOCKS = re.compile(r"down\.([0-4])\.([0-9]{1,2})\.(\w+)")
LITE = "efficientnet-lite0-enlarged"
#: Its kin that enlarges nothing, cut at stride 16, with a way up to pixels.
LITE_UNET = "efficientnet-lite0"
DROPOUT = 0.5
#: What SegNet reads around a tile: its layers pad, and what they see of the padding fades within that.
_SEGNET_MARGIN_PX = 64

#: What an image is encoded by. The first is the paper's; the others are a detector's trunk, which may begin with what
#: that has learnt from patches: of cells of 12 px, or of what is as small as a nucleus.
ENCODERS = ("vgg16", LITE, LITE_UNET)
#: How much wider an image is than its answers where that trunk has a way up; `nets/lite_unet.py` counts it.
LITE_UNET_FIELD_PX = 180
#: How answers of pixels are made of it: by one step of 32 px (the paper's), by two or three with what lower blocks see
#: (Shelhamer et al. 2017), or by a mirrored encoder.
DECODERS = ("fcn-32s", "fcn-16s", "fcn-8s", "u-net", "segnet")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationArchitecture:
    """A segmentation network.

    Attributes
    ----------
    encoder
        One of :data:`ENCODERS`.
    decoder
        One of :data:`DECODERS`.
    width
        Share of the encoder's channels that are kept: VGG16's alone.
    batch_norm
        Whether a batch normalisation follows each convolution of the VGG blocks: for networks that begin at random.
    input_channels
        Of the images that it reads.
    """

    encoder: str = "vgg16"
    decoder: str = "fcn-32s"
    width: float = 1.0
    batch_norm: bool = False
    input_channels: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises
        ------
        ModelError
            Naming what is wrong.
        """
        for name, known in (("encoder", ENCODERS), ("decoder", DECODERS)):
            value = getattr(self, name)
            if value not in known:
                raise ModelError(f"expected a segmentation {name} among {', '.join(known)}, got {brief(value)}")
        if not 1 / 64 <= self.width <= 1:
            raise ModelError(f"expected a width of 1/64 to 1, got {self.width:g}; choose one of these")
        only = {LITE: "fcn-32s", LITE_UNET: "u-net"}.get(self.encoder)
        if only is not None and (self.decoder != only or self.width != 1 or self.batch_norm):
            raise ModelError(
                f"expected {self.encoder} with decoder {only}, width 1 and its own normalisation, got decoder "
                f"{self.decoder} and width {self.width:g}; choose encoder vgg16 for others"
            )

    @property
    def name(self) -> str:
        """Return its name for a person."""
        wide = "" if self.width == 1 else f", width {self.width:g}"
        return f"{self.decoder} on {self.encoder}{wide}"

    @property
    def block_px(self) -> int:
        """Return the side of the squares of pixels that are answered together."""
        if self.encoder == LITE:
            return EFFICIENTNETS[LITE].stride_px
        # Of both U-Nets: four of their levels halve the image.
        return 16 if self.decoder == "u-net" else 32

    @property
    def field_px(self) -> int:
        """Return how much wider an image is than its answers, in pixels; half of it lies on either side."""
        if self.encoder == LITE:
            built = EFFICIENTNETS[LITE]
            return built.field_px - (built.pooled_cells - 1) * built.stride_px
        if self.encoder == LITE_UNET:
            return LITE_UNET_FIELD_PX
        if self.decoder == "u-net":
            return _unet_field()
        if self.decoder == "segnet":
            return 2 * _SEGNET_MARGIN_PX
        # Each step but the last takes a cell's neighbours, too.
        return _vgg_field() + (0 if self.decoder == "fcn-32s" else self.block_px)

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of the VGG blocks."""
        return tuple(max(8, round(self.width * channels)) for channels, _ in _BLOCKS)


def _vgg_field() -> int:
    """Return the side of the window that a cell depends on after all VGG blocks."""
    side = 1
    for count in reversed(VGG_CONVOLUTIONS):
        side = 2 * side + 2 * count
    return side


def _unet_field() -> int:
    """Return how much wider an image is than its answers, of a U-Net whose poolings leave no pixel out."""
    *upper, lowest = (2 * count << level for level, count in enumerate(VGG_CONVOLUTIONS))
    block = 1 << len(upper)
    lost = sum(upper) + lowest + sum(2 * UNET_JOIN << level for level in range(len(upper)))
    # What the convolutions above the lowest level take leaves that a whole number of cells only of such widths.
    return lost + (sum(upper) - lost) % block


class SegmentationNetwork(nn.Module):
    """A network that answers for every pixel in the middle of an image.

    Attributes
    ----------
    architecture
        What was built.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__()
        self.architecture = architecture

    @property
    def layers(self) -> tuple[nn.Module, ...] | None:
        """Return all layers, from the image upwards; ``None`` where they do not simply follow each other."""
        return None

    def place_of(self, name: str) -> str | None:
        """Return the name that a tensor of a pretrained encoder has here, a pretrained network's or the encoder's own.

        Parameters
        ----------
        name
            In a detector, in ImageNet's VGG16 as torchvision calls it, or in this network.

        Returns
        -------
        ``None`` for what belongs to no encoder.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, N x classes x b·n x b·n, of normalised images, N x 3 x (field + b·n) squared."""
        if self.layers is None:
            raise NotImplementedError
        for layer in self.layers:
            image = layer(image)
        return image

    def answered(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return the logits of the pixels that an image is answered for: those in its middle."""
        return middle(logits, tuple(size - self.architecture.field_px for size in image.shape[-2:]))


def middle(image: Tensor, side: tuple[int, ...]) -> Tensor:
    """Return the middle of images, as high and as wide as ``side``."""
    top, left = ((size - wanted) // 2 for size, wanted in zip(image.shape[-2:], side, strict=True))
    return image[..., top : top + side[0], left : left + side[1]]


def convolutions(before: int, width: int, count: int, *, batch_norm: bool, padding: int = 0) -> list[nn.Module]:
    """Return so many 3x3 convolutions with rectifiers, the first of which reads ``before`` channels."""
    layers: list[nn.Module] = []
    for channels in (before, *[width] * count)[:count]:
        layers.append(nn.Conv2d(channels, width, 3, padding=padding, bias=not batch_norm))
        layers += [*([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU(inplace=True)]
    return layers


def vgg_blocks(architecture: SegmentationArchitecture, *, padding: int = 0) -> Iterator[list[nn.Module]]:
    """Yield the layers of VGG16's blocks, from the image upwards, without their poolings."""
    before = architecture.input_channels
    for width, count in zip(architecture.channels, VGG_CONVOLUTIONS, strict=True):
        yield convolutions(before, width, count, batch_norm=architecture.batch_norm, padding=padding)
        before = width


def draw_weights(network: nn.Module) -> None:
    """Draw the weights of all convolutions (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _block_starts(*, batch_norm: bool) -> list[int]:
    """Return at which layer each of VGG16's blocks begins, as torchvision counts them, and behind the last one."""
    # A pooling follows each block.
    layers = [count * (3 if batch_norm else 2) + 1 for count in VGG_CONVOLUTIONS]
    return [sum(layers[:block]) for block in range(len(layers) + 1)]


def place_in_row(name: str, *, batch_norm: bool) -> str | None:
    """Return where a tensor of VGG16's lies in a network that keeps its layers in a row, ``features.<layer>``."""
    if found := _IN_BLOCKS.fullmatch(name):
        block, layer, kind = int(found[1]), int(found[2]), found[3]
        return f"features.{_block_starts(batch_norm=batch_norm)[block] + layer}.{kind}"
    return name if name.startswith("features.") else None


def place_in_blocks(name: str, *, batch_norm: bool) -> str | None:
    """Return where a tensor of VGG16's lies in a network that keeps its blocks apart, ``down.<block>.<layer>``."""
    if found := _IN_A_ROW.fullmatch(name):
        layer, kind, starts = int(found[1]), found[2], _block_starts(batch_norm=batch_norm)
        block = next((k for k, end in enumerate(starts[1:]) if layer < end), None)
        return None if block is None else f"down.{block}.{layer - starts[block]}.{kind}"
    return name if name.startswith("down.") else None
