"""Patches side by side in one image, so that a network learns from all of them at once.

A network whose answers depend on far more than a patch would have to read twenty times the patch's pixels for it. In a
mosaic every pixel is read once, and what lies around a patch is gray and other patches, so that it says nothing.
Margins that mirror a patch put something alike around it, as it is on a slide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_metastasis.models import EfficientNetLite, Residual
from napari_metastasis.models.nets.enlarge import enlarged_cover

__all__ = [
    "Surroundings",
    "cells_of_patches",
    "dense_mosaic",
    "in_gray",
    "mirrored",
    "mosaic_logits",
    "pad_layers",
    "skip_layers",
    "with_gap",
]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What patches are trained in, for networks that see further than a patch.

    Attributes
    ----------
    margin_share
        In which share of steps they lie in margins: of what lies around them on their slide, or mirrored. Else they lie
        beside each other.
    margin_cells
        How wide these margins are, in native cells. Patches that are measured lie in as much gray.
    gap_cells
        Gray between patches that lie beside each other, in native cells.
    """

    margin_share: float = 0.0
    margin_cells: int = 0
    gap_cells: int = 0


def pad_layers(network: EfficientNetLite) -> None:
    """Let a network's cells cover their image, in place: every layer but the last pads with zeros."""
    for module in network.trunk.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (module.kernel_size[0] // 2,) * 2
        elif isinstance(module, Residual):
            module.crop_px = 0


def skip_layers(network: EfficientNetLite, share: float) -> None:
    """Let training leave residual blocks out, in place: the last in this share of steps, the first never.

    Stochastic depth (Huang et al. 2016, linear decay). A step leaves a block out of all its patches: they are one
    image.
    """
    blocks = [module for module in network.trunk if isinstance(module, Residual)]
    for number, block in enumerate(blocks):
        block.skipped_share = share * number / max(1, len(blocks) - 1)


def mirrored(patches: Tensor, margin_px: int) -> Tensor:
    """Return patches, N x C x H x W, in margins that mirror them at their edges."""
    return nn.functional.pad(patches, (margin_px,) * 4, mode="reflect")


def in_gray(patches: Tensor, margin_px: int) -> Tensor:
    """Return normalised patches, N x C x H x W, in margins of the colour that is 0."""
    return nn.functional.pad(patches, (margin_px,) * 4)


def with_gap(patches: Tensor, cells: int, stride_px: int) -> Tensor:
    """Return normalised patches with so many cells of gray on two sides together, around them as evenly as cells go."""
    before, after = cells // 2 * stride_px, (cells - cells // 2) * stride_px
    return nn.functional.pad(patches, (before, after, before, after))


def dense_mosaic(patches: Tensor, *, field_px: int, stride_px: int) -> tuple[Tensor, int]:
    """Return patches as one image for a network that pads nothing, and every how many of its answers is a patch's.

    Every patch is read once, however far the network sees; what lies around it are others, and gray.

    Parameters
    ----------
    patches
        Normalised, N x C x P x P.
    field_px, stride_px
        Side of the window that one answer depends on, and distance of answers.

    Returns
    -------
    Tensor
        1 x C x H x W: of the answers, 1 x h x w, every n-th along both sides is that of a patch, row by row.
    int
        n.
    """
    count, side = len(patches), patches.shape[-1]
    # As square as the count allows: the fewer patches lie at the edge, the less of the image is gray.
    rows = max(each for each in range(1, math.isqrt(count) + 1) if count % each == 0)
    columns = count // rows
    apart = -(-side // stride_px)
    more = apart * stride_px - side
    channels = patches.shape[1]
    tiles = nn.functional.pad(patches, (0, more, 0, more)).reshape(rows, columns, channels, side + more, side + more)
    mosaic = tiles.permute(2, 0, 3, 1, 4).reshape(1, channels, rows * (side + more), columns * (side + more))
    before = (field_px - side) // 2
    after = field_px - side - before - more
    return nn.functional.pad(mosaic, (before, after, before, after)), apart


def cells_of_patches(network: EfficientNetLite, tiles: Tensor) -> Tensor:
    """Return the features of the cells that the answer for the middle of each tile gathers, N x F x k x k.

    Parameters
    ----------
    network
        That pads; see :func:`pad_layers`.
    tiles
        Normalised patches, N x C x T x T, perhaps in margins; T is a whole number of native cells.
    """
    built = network.architecture
    if built.enlarges:
        # Each by itself, so that no pixel of a mosaic lies between two of them.
        tiles = enlarged_cover(tiles)
    stride, count, side = built.trunk_stride_px, len(tiles), tiles.shape[-1]
    # As square as the count allows: the fewer tiles lie at the mosaic's edge, the better.
    rows = max(each for each in range(1, math.isqrt(count) + 1) if count % each == 0)
    columns = count // rows
    channels = tiles.shape[1]
    mosaic = tiles.reshape(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    mosaic = mosaic.reshape(1, channels, rows * side, columns * side)
    # A padded cell lies around the first pixel of its stride: half a stride away from the middle of its place. Of
    # enlarged pixels only each fourth may be that of a scan.
    away = stride // 2 - (1 if built.enlarges else 0)
    mosaic = mosaic.roll((-away, -away), (2, 3))
    cells = network.cells(network.trunk(mosaic.contiguous(memory_format=torch.channels_last)))[0]
    across = side // stride
    of_tile = cells.reshape(-1, rows, across, columns, across).permute(1, 3, 0, 2, 4).flatten(0, 1)
    first = (across - built.pooled_cells) // 2
    inner = slice(first, first + built.pooled_cells)
    return of_tile[:, :, inner, inner]


def mosaic_logits(network: EfficientNetLite, tiles: Tensor) -> Tensor:
    """Return the logits, N x classes, for the middle of each tile; see :func:`cells_of_patches`."""
    cells = cells_of_patches(network, tiles)
    features = torch.einsum("ncyx,cyx->nc", cells, network.gather.weight[:, 0].to(cells.dtype))
    logits: Tensor = network.classify(network.dropout(features)[:, :, None, None])
    return logits.flatten(1)
