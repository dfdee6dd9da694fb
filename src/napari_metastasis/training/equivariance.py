"""Train one filter for all eight orientations of tissue, and store an ordinary network.

A slide has no up: what a network learns of a cell must hold for every right-angle rotation of it and its mirror image.
Cohen & Welling (2016) build networks that know this; Veeling et al. (2018) found that they need far fewer patches for
lymph nodes. Here the eight copies of a filter are computed from one trained tensor while training runs
(:func:`tie_orientations`), and written out at its end (:func:`untie_orientations`): the stored network is an ordinary
member of the family, which scans at its usual cost, and whose answer for a patch is the same in all orientations.

Channels come in groups of eight, one for each symmetry *g* of the square. A copy of a filter that reads channels of
such groups has its pixels moved by *g* and its input channels permuted by the group's own multiplication (Cohen &
Welling, eq. 11).
"""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_metastasis.errors import ModelError
from napari_metastasis.models import ScanNet

__all__ = ["ORIENTATIONS", "orientations_are_tied", "tie_orientations", "turn_each", "turned", "untie_orientations"]

#: Symmetries of the square: four rotations by right angles, and those of the mirror image.
ORIENTATIONS = 8
_ROTATIONS = 4


def turned(image: Tensor, orientation: int) -> Tensor:
    """Return images or kernels, … x k x k, in one of the eight orientations (0 is their own)."""
    mirrored, rotations = divmod(orientation, _ROTATIONS)
    return (image.flip(-1) if mirrored else image).rot90(rotations, dims=(-2, -1))


def turn_each(images: Tensor, orientations: Tensor) -> Tensor:
    """Return images, N x … x k x k, each in its own of the eight orientations, N."""
    result = torch.empty_like(images)
    for orientation in range(ORIENTATIONS):
        chosen = (orientations == orientation).nonzero()[:, 0].to(images.device)
        result[chosen] = turned(images[chosen], orientation)
    return result


@cache
def _products() -> tuple[tuple[int, ...], ...]:
    """Return the group's table: entry [g][h] is the orientation that ``turned(turned(x, h), g)`` has."""
    probe = torch.arange(9.0).view(3, 3)
    looks = [turned(probe, g) for g in range(ORIENTATIONS)]

    def find(image: Tensor) -> int:
        return next(k for k, look in enumerate(looks) if torch.equal(look, image))

    return tuple(tuple(find(turned(looks[h], g)) for h in range(ORIENTATIONS)) for g in range(ORIENTATIONS))


def _pixels(kernel_px: int) -> Tensor:
    """Return where each pixel of a turned kernel comes from, 8 x k², as numbers in raster order."""
    probe = torch.arange(kernel_px**2).view(kernel_px, kernel_px)
    return torch.stack([turned(probe, g).reshape(-1) for g in range(ORIENTATIONS)])


class _Tied(nn.Module):
    """Weights of a convolution, computed from those of one orientation."""

    source: Tensor

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        # Not persistent: it follows from the kernel's size.
        self.register_buffer("source", source, persistent=False)


class _OfImage(_Tied):
    """F x C x k x k to 8F x C x k x k: the first layer, which sees the image itself."""

    def __init__(self, kernel_px: int) -> None:
        super().__init__(_pixels(kernel_px))

    def forward(self, base: Tensor) -> Tensor:
        filters, channels, side, _ = base.shape
        copies = base.flatten(2)[:, :, self.source]
        return copies.transpose(1, 2).reshape(filters * ORIENTATIONS, channels, side, side)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[::ORIENTATIONS].clone()


class _OfGroups(_Tied):
    """F x 8C x k x k to 8F x 8C x k x k: a layer between groups of oriented channels."""

    def __init__(self, kernel_px: int) -> None:
        table = _products()
        undo = [row.index(0) for row in table]
        # Copy g reads input orientation h with what the base filter holds for g⁻¹h, its pixels moved by g.
        of_group = torch.tensor([[table[undo[g]][h] for h in range(ORIENTATIONS)] for g in range(ORIENTATIONS)])
        super().__init__((of_group[:, :, None] * kernel_px**2 + _pixels(kernel_px)[:, None, :]).flatten())

    def forward(self, base: Tensor) -> Tensor:
        filters, channels, side, _ = base.shape
        groups = channels // ORIENTATIONS
        copies = base.reshape(filters, groups, -1)[:, :, self.source]
        copies = copies.view(filters, groups, ORIENTATIONS, ORIENTATIONS, side * side).transpose(1, 2)
        return copies.reshape(filters * ORIENTATIONS, channels, side, side)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[::ORIENTATIONS].clone()


class _ToAnswer(_Tied):
    """K x G x k x k to K x 8G x k x k: the last layer, whose answer has no orientation."""

    def __init__(self, kernel_px: int) -> None:
        super().__init__(_pixels(kernel_px))

    def forward(self, base: Tensor) -> Tensor:
        classes, groups, side, _ = base.shape
        return base.flatten(2)[:, :, self.source].reshape(classes, groups * ORIENTATIONS, side, side)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[:, ::ORIENTATIONS].clone()


class _Alike(nn.Module):
    """One number for the eight channels of a group: biases, and a normalisation's scale and shift."""

    def forward(self, base: Tensor) -> Tensor:
        return base.repeat_interleave(ORIENTATIONS)

    def right_inverse(self, values: Tensor) -> Tensor:
        return values[::ORIENTATIONS].clone()


def _tie(module: nn.Module, name: str, by: nn.Module) -> None:
    # Unsafe means only that the shape of the trained tensor differs from the layer's: that is the point.
    parametrize.register_parametrization(module, name, by, unsafe=True)


def tie_orientations(network: ScanNet) -> None:
    """Let one trained tensor stand for the eight orientations of every filter, in place.

    The weights found in the first orientation are kept, those of the other seven are replaced.

    Raises
    ------
    ModelError
        If a layer's channels cannot be divided by eight.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer in convolutions[:-1]:
        if layer.out_channels % ORIENTATIONS:
            raise ModelError(
                f"expected layers whose channels can be divided by {ORIENTATIONS}, got {layer.out_channels}; "
                "choose another architecture or train without tied orientations"
            )
    for layer in convolutions:
        side = int(layer.kernel_size[0])
        first, last = layer is convolutions[0], layer is convolutions[-1]
        _tie(layer, "weight", _OfImage(side) if first else _ToAnswer(side) if last else _OfGroups(side))
        if layer.bias is not None and not last:
            _tie(layer, "bias", _Alike())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            _tie(module, "weight", _Alike())
            _tie(module, "bias", _Alike())


@torch.no_grad()
def untie_orientations(network: ScanNet) -> ScanNet:
    """Return an ordinary network with the copies of every filter written out, and the same answers.

    The running statistics of a group's channels, which differ by chance alone, become their mean.
    """
    # Another network, not a copy with the ties removed: torch's ties belong to a class that copies share.
    ordinary = ScanNet(network.architecture).train(network.training)
    for name, module in ordinary.named_modules():
        tied = network.get_submodule(name)
        for own, values in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            values.copy_(getattr(tied, own))
        if isinstance(module, nn.BatchNorm2d) and parametrize.is_parametrized(tied):
            for statistics in (module.running_mean, module.running_var):
                assert statistics is not None
                # In double precision the mean of eight equal numbers is that number, to the last bit.
                of_group = statistics.view(-1, ORIENTATIONS).double().mean(dim=1)
                statistics.copy_(of_group.repeat_interleave(ORIENTATIONS))
    return ordinary


@torch.no_grad()
def orientations_are_tied(network: ScanNet) -> bool:
    """Return whether tying would leave every weight as it is: whether an ordinary network was trained tied."""
    tied = copy.deepcopy(network)
    tie_orientations(tied)
    free = network.state_dict()
    return all(torch.equal(values, free[name]) for name, values in untie_orientations(tied).state_dict().items())
