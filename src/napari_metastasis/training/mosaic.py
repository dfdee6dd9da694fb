"""Patches side by side in one image, so that a network learns from all of them at once.

A network whose answers depend on far more than a patch would have to read twenty times the patch's pixels for it. In a
mosaic every pixel is read once, and what lies around a patch is other patches, so that it says nothing. Margins that
mirror a patch put something alike around it, as it is on a slide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from napari_metastasis.models import EfficientNetLite, Residual

__all__ = ["cells_of_patches", "in_neutral_gray", "mirrored", "mosaic_logits", "pad_layers"]


def pad_layers(network: EfficientNetLite) -> None:
    """Let a network's cells cover their image, in place: every layer but the last pads with zeros."""
    for module in network.trunk.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (module.kernel_size[0] // 2,) * 2
        elif isinstance(module, Residual):
            module.crop_px = 0


def mirrored(patches: Tensor, margin_px: int) -> Tensor:
    """Return patches, N x C x H x W, in margins that mirror them at their edges."""
    return nn.functional.pad(patches, (margin_px,) * 4, mode="reflect")


def in_neutral_gray(patches: Tensor, margin_px: int) -> Tensor:
    """Return normalised patches, N x C x H x W, in margins of the colour that is 0."""
    return nn.functional.pad(patches, (margin_px,) * 4)


def cells_of_patches(network: EfficientNetLite, tiles: Tensor) -> Tensor:
    """Return the features of the cells that the answer for the middle of each tile gathers, N x F x k x k.

    Parameters
    ----------
    network
        That pads; see :func:`pad_layers`.
    tiles
        Normalised patches, N x 3 x T x T, perhaps in margins; T is a whole number of native cells.
    """
    built = network.architecture
    stride, count, side = built.stride_px, len(tiles), tiles.shape[-1]
    # As square as the count allows: the fewer tiles lie at the mosaic's edge, the better.
    rows = max(each for each in range(1, math.isqrt(count) + 1) if count % each == 0)
    columns = count // rows
    mosaic = tiles.reshape(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4)
    mosaic = mosaic.reshape(1, 3, rows * side, columns * side)
    # A padded cell lies around the first pixel of its stride: half a stride away from the middle of its place.
    mosaic = mosaic.roll((-(stride // 2), -(stride // 2)), (2, 3))
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
