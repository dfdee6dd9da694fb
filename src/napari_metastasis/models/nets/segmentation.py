"""Segmentation networks: the fully convolutional network of Khalil et al. (2022, 3.4), and what it is compared with.

No layer pads, but for SegNet's: a tile of a slide is read with as much around it as its answers depend on, so that
tiles have no seams. ``n`` blocks of answers take ``field + n · block`` pixels, and lie in their middle.

The paper pads each tile of 512 px by 100 px on every side, so that it sees nothing of the tissue around it; for that
see :func:`padded_tile`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.errors import ModelError, brief
from napari_metastasis.models.nets.efficientnet_lite import EFFICIENTNETS, EfficientNetLite
from napari_metastasis.models.nets.resnet import CLASSES

__all__ = [
    "DECODERS",
    "ENCODERS",
    "PADDED_TILE_PX",
    "TILE_PX",
    "SegmentationArchitecture",
    "SegmentationNetwork",
    "Upsampling",
    "build_segmentation",
    "padded_tile",
]

#: Side of the paper's tiles, and of what its first layer pads them to.
TILE_PX, PADDED_TILE_PX = 512, 712

#: VGG16 (Simonyan and Zisserman 2014): channels and 3x3 convolutions of each block, which a 2x2 max pooling ends.
_VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
#: Names of their tensors: layers in a row, as torchvision has them, or each block's for itself.
_IN_A_ROW = re.compile(r"features\.([0-9]{1,3})\.(\w+)")
_IN_BLOCKS = re.compile(r"down\.([0-4])\.([0-9]{1,2})\.(\w+)")
#: U-Net (Ronneberger et al. 2015) and SegNet stand on the same blocks; U-Net's fifth has no pooling.
_UNET_JOIN = 2
_LITE = "efficientnet-lite0-enlarged"
_DROPOUT = 0.5
#: What SegNet reads around a tile: its layers pad, and what they see of the padding fades within that.
_SEGNET_MARGIN_PX = 64

#: What an image is encoded by. The first is the paper's; the other is a detector's trunk, which may begin with what
#: that has learnt from patches.
ENCODERS = ("vgg16", _LITE)
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
    """

    encoder: str = "vgg16"
    decoder: str = "fcn-32s"
    width: float = 1.0
    batch_norm: bool = False

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
        if self.encoder == _LITE and (self.decoder != "fcn-32s" or self.width != 1 or self.batch_norm):
            raise ModelError(
                f"expected {_LITE} with decoder fcn-32s, width 1 and its own normalisation, got decoder "
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
        if self.encoder == _LITE:
            return EFFICIENTNETS[_LITE].stride_px
        return 16 if self.decoder == "u-net" else 32

    @property
    def field_px(self) -> int:
        """Return how much wider an image is than its answers, in pixels; half of it lies on either side."""
        if self.encoder == _LITE:
            built = EFFICIENTNETS[_LITE]
            return built.field_px - (built.pooled_cells - 1) * built.stride_px
        if self.decoder == "u-net":
            return _unet_field(len(_VGG_BLOCKS))
        if self.decoder == "segnet":
            return 2 * _SEGNET_MARGIN_PX
        # Each step but the last takes a cell's neighbours, too.
        return _vgg_field(len(_VGG_BLOCKS)) + (0 if self.decoder == "fcn-32s" else self.block_px)

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of the VGG blocks."""
        return tuple(max(8, round(self.width * channels)) for channels, _ in _VGG_BLOCKS)


def _vgg_field(blocks: int) -> int:
    """Return the side of the window that a cell depends on after so many VGG blocks."""
    side = 1
    for _, convolutions in reversed(_VGG_BLOCKS[:blocks]):
        side = 2 * side + 2 * convolutions
    return side


def _unet_field(levels: int) -> int:
    """Return how much wider an image is than its answers, of a U-Net whose poolings leave no pixel out."""
    above = sum(2 * _VGG_BLOCKS[level][1] * 2**level for level in range(levels - 1))
    block = 2 ** (levels - 1)
    lost = (
        above + 2 * _VGG_BLOCKS[levels - 1][1] * block + sum(2 * _UNET_JOIN * 2**level for level in range(levels - 1))
    )
    # What the convolutions above the lowest level take leaves that a whole number of cells only of such widths.
    return lost + (above - lost) % block


class SegmentationNetwork(nn.Module):
    """A network that answers for every pixel in the middle of an image.

    Attributes
    ----------
    architecture
        What was built.
    """

    architecture: SegmentationArchitecture

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
        raise NotImplementedError


def build_segmentation(architecture: SegmentationArchitecture) -> SegmentationNetwork:
    """Return a freshly initialised network."""
    if architecture.encoder == _LITE:
        network: SegmentationNetwork = _OnDetector(architecture)
    elif architecture.decoder == "u-net":
        network = _UNet(architecture)
    elif architecture.decoder == "segnet":
        network = _SegNet(architecture)
    else:
        network = _Fcn(architecture)
    return network


def padded_tile(network: SegmentationNetwork, tile: Tensor) -> Tensor:
    """Return logits, N x classes x side x side, of tiles that nothing is known around: their edges are mirrored.

    Parameters
    ----------
    network
        Any of these.
    tile
        Normalised, N x 3 x side x side. The paper's network pads its 512 px to 712, which makes 16 x 16 cells; past the
        outermost of these, their scores count. Others pad by as much as their answers depend on.
    """
    built, side = network.architecture, tile.shape[-1]
    if isinstance(network, _Fcn) and not network.skips:
        before = (PADDED_TILE_PX - TILE_PX) // 2
        scores = network.cell_scores(_mirrored(tile, before, before))
        answers: Tensor = network.upsampling[0](functional.pad(scores, (1, 1, 1, 1), mode="replicate"))
        # The first pixel lies in the middle of the cell before the first.
        first = before + built.block_px - built.field_px // 2
    else:
        whole = -(-side // built.block_px) * built.block_px + built.field_px
        before = (whole - side) // 2
        answers = network(_mirrored(tile, before, whole - side - before))
        first = before - built.field_px // 2
    return answers[..., first : first + side, first : first + side]


def _mirrored(tile: Tensor, before: int, after: int) -> Tensor:
    """Mirror images past their edges, as often as it takes."""
    rows = _reflected(tile.shape[-2], before, after).to(tile.device)
    columns = _reflected(tile.shape[-1], before, after).to(tile.device)
    return tile[..., rows, :][..., columns]


def _reflected(side: int, before: int, after: int) -> Tensor:
    period = torch.cat([torch.arange(side), torch.arange(side - 2, 0, -1)]) if side > 1 else torch.zeros(1).long()
    return period[torch.arange(-before, side + after) % len(period)]


def _convolution(channels: int, width: int, *, batch_norm: bool, padding: int = 0) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=padding, bias=not batch_norm)]
    return [*layers, *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU(inplace=True)]


def _initialise(network: nn.Module) -> None:
    """Draw the weights of convolutions (He et al. 2015); upsampling begins as interpolation."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Upsampling):
            module.interpolate()


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

    @torch.no_grad()
    def interpolate(self) -> None:
        """Set the weights to those of bilinear interpolation."""
        places = (torch.arange(2 * self.factor) + 0.5) / self.factor
        taps = 1 - (places - 1).abs()
        self.weight.copy_((taps[:, None] * taps).expand_as(self.weight))


def _block_starts(*, batch_norm: bool) -> list[int]:
    """Return at which layer each of VGG16's blocks begins, as torchvision counts them, and behind the last one."""
    # A pooling follows each block.
    layers = [convolutions * (3 if batch_norm else 2) + 1 for _, convolutions in _VGG_BLOCKS]
    return [sum(layers[:block]) for block in range(len(layers) + 1)]


def _place_in_row(name: str, *, batch_norm: bool) -> str | None:
    """Return where a tensor of VGG16's lies in a network that keeps its layers in a row, ``features.<layer>``."""
    if found := _IN_BLOCKS.fullmatch(name):
        block, layer, kind = int(found[1]), int(found[2]), found[3]
        return f"features.{_block_starts(batch_norm=batch_norm)[block] + layer}.{kind}"
    return name if name.startswith("features.") else None


def _place_in_blocks(name: str, *, batch_norm: bool) -> str | None:
    """Return where a tensor of VGG16's lies in a network that keeps its blocks apart, ``down.<block>.<layer>``."""
    if found := _IN_A_ROW.fullmatch(name):
        layer, kind, starts = int(found[1]), found[2], _block_starts(batch_norm=batch_norm)
        block = next((k for k, end in enumerate(starts[1:]) if layer < end), None)
        return None if block is None else f"down.{block}.{layer - starts[block]}.{kind}"
    return name if name.startswith("down.") else None


class _Fcn(SegmentationNetwork):
    """VGG16 without padding; its cells are scored, and scores brought back to pixels (Khalil et al. 2022, Figure 2e).

    Parameters carry torchvision's names, ``features.0.weight`` …, so that VGG16's weights load as they are.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = []
        before, self._poolings = 3, []
        for width, (_, convolutions) in zip(architecture.channels, _VGG_BLOCKS, strict=True):
            for _ in range(convolutions):
                layers += _convolution(before, width, batch_norm=architecture.batch_norm)
                before = width
            layers.append(nn.MaxPool2d(2))
            self._poolings.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.ModuleList([nn.Dropout(_DROPOUT), nn.Dropout(_DROPOUT)])
        self.skips = {"fcn-32s": 0, "fcn-16s": 1, "fcn-8s": 2}[architecture.decoder]
        widths = architecture.channels[::-1][: self.skips + 1]
        scores = [nn.Conv2d(width, CLASSES, 1) for width in widths]
        self.scores = nn.ModuleList(scores)
        factors = [2] * self.skips + [32 >> self.skips]
        self.upsampling = nn.ModuleList([Upsampling(factor) for factor in factors])
        _initialise(self)
        for score in scores:
            nn.init.normal_(score.weight, std=0.01)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of VGG16's; see :meth:`SegmentationNetwork.place_of`."""
        return _place_in_row(name, batch_norm=self.architecture.batch_norm)

    def cell_scores(self, image: Tensor) -> Tensor:
        """Return what is brought back to pixels, N x classes x h x w cells, of a network without skips."""
        assert self.layers is not None
        for layer in self.layers[:-1]:
            image = layer(image)
        return image

    @property
    def layers(self) -> tuple[nn.Module, ...] | None:
        """Return all layers of a network without skips."""
        if self.skips:
            return None
        blocks, first = [], 0
        for last in self._poolings:
            blocks.append(self.features[first:last])
            first = last
        # The two dropouts of the paper lie behind the last two blocks.
        *lower, fourth, fifth = blocks
        return (*lower, fourth, self.dropout[0], fifth, self.dropout[1], self.scores[0], self.upsampling[0])

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        if (layers := self.layers) is not None:
            for layer in layers:
                image = layer(image)
            return image
        seen, hidden, first = [], image, 0
        for last in self._poolings:
            hidden = self.features[first:last](hidden)
            seen.append(hidden)
            first = last
        seen[-2], seen[-1] = self.dropout[0](seen[-2]), self.dropout[1](seen[-1])
        scores: Tensor = self.scores[0](seen[-1])
        for skip in range(self.skips):
            scores = self.upsampling[skip](scores)
            scores = scores + _middle(self.scores[skip + 1](seen[-2 - skip]), scores.shape[-2:])
        logits: Tensor = self.upsampling[-1](scores)
        side = tuple(size - self.architecture.field_px for size in image.shape[-2:])
        return _middle(logits, side)


def _middle(image: Tensor, side: tuple[int, ...]) -> Tensor:
    """Return the middle of images."""
    top, left = ((size - wanted) // 2 for size, wanted in zip(image.shape[-2:], side, strict=True))
    return image[..., top : top + side[0], left : left + side[1]]


class _OnDetector(SegmentationNetwork):
    """A detector's trunk, whose cells are scored one by one, and scores brought back to pixels.

    Trunk and cells carry the names that they have in the detector, so that what that has learnt from patches loads as
    it is; what gathers the cells of a patch is left out.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        built = EFFICIENTNETS[_LITE]
        detector = EfficientNetLite(built)
        self.enlarge, self.trunk, self.cells = detector.enlarge, detector.trunk, detector.cells
        self.dropout = nn.Dropout(built.dropout)
        self.score = nn.Conv2d(built.feature_channels, CLASSES, 1)
        self.upsampling = Upsampling(built.stride_px)
        nn.init.normal_(self.score.weight, std=0.01)
        assert self.score.bias is not None
        nn.init.zeros_(self.score.bias)
        self.upsampling.interpolate()

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

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        for layer in self.layers:
            image = layer(image)
        return image


class _UNet(SegmentationNetwork):
    """U-Net without padding (Ronneberger et al. 2015) on VGG16's blocks."""

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.channels
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = 3
        for width, (_, convolutions) in zip(widths, _VGG_BLOCKS, strict=True):
            self.down.append(_block(before, width, convolutions, batch_norm=architecture.batch_norm))
            before = width
        for width in widths[-2::-1]:
            self.up.append(nn.ConvTranspose2d(before, width, 2, 2))
            self.join.append(_block(2 * width, width, _UNET_JOIN, batch_norm=architecture.batch_norm))
            before = width
        self.dropout = nn.Dropout(_DROPOUT)
        self.score = nn.Conv2d(before, CLASSES, 1)
        _initialise(self)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of VGG16's; see :meth:`SegmentationNetwork.place_of`."""
        return _place_in_blocks(name, batch_norm=self.architecture.batch_norm)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        seen: list[Tensor] = []
        hidden = image
        for level, block in enumerate(self.down):
            hidden = block(functional.max_pool2d(hidden, 2) if level else hidden)
            seen.append(hidden)
        hidden = self.dropout(hidden)
        for level, (up, join) in enumerate(zip(self.up, self.join, strict=True), start=2):
            hidden = up(hidden)
            hidden = join(torch.cat([_middle(seen[-level], hidden.shape[-2:]), hidden], dim=1))
        side = tuple(size - self.architecture.field_px for size in image.shape[-2:])
        return _middle(self.score(hidden), side)


def _block(before: int, width: int, convolutions: int, *, batch_norm: bool, padding: int = 0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += _convolution(before, width, batch_norm=batch_norm, padding=padding)
        before = width
    return nn.Sequential(*layers)


class _SegNet(SegmentationNetwork):
    """SegNet (Badrinarayanan et al. 2017): a mirrored VGG16 that puts values back where the pooling took them.

    Its layers pad, so that its answers depend a little on where a tile begins: for comparison only.
    """

    def __init__(self, architecture: SegmentationArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths, before = architecture.channels, 3
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width, (_, convolutions) in zip(widths, _VGG_BLOCKS, strict=True):
            self.down.append(_block(before, width, convolutions, batch_norm=architecture.batch_norm, padding=1))
            before = width
        for level in range(len(widths) - 1, -1, -1):
            width = widths[max(level - 1, 0)]
            convolutions = _VGG_BLOCKS[level][1]
            wide = _block(before, before, convolutions - 1, batch_norm=architecture.batch_norm, padding=1)
            narrow = _convolution(before, width, batch_norm=architecture.batch_norm, padding=1)
            self.up.append(nn.Sequential(*wide, *narrow))
            before = width
        self.dropout = nn.Dropout(_DROPOUT)
        self.score = nn.Conv2d(before, CLASSES, 1)
        _initialise(self)

    def place_of(self, name: str) -> str | None:
        """Return the name of a tensor of VGG16's; see :meth:`SegmentationNetwork.place_of`."""
        return _place_in_blocks(name, batch_norm=self.architecture.batch_norm)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; see :meth:`SegmentationNetwork.forward`."""
        taken: list[tuple[Tensor, Any]] = []
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
        wanted = tuple(size - self.architecture.field_px for size in image.shape[-2:])
        return _middle(self.score(hidden), wanted)
