"""Padded networks on a slide: every patch is cropped and encoded once, by itself.

A padded network's answer depends on where its patch ends, so that no dense pass gives it. A refiner's grids still share
their encoded patches.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_metastasis.models.calibration import calibrated_classifier
from napari_metastasis.models.nets.resnet import ResNet

if TYPE_CHECKING:
    from napari_metastasis.models.card import ModelSpec

__all__ = ["PatchwiseNetwork", "crop_patches"]

#: Patches that are encoded together: few, to bound memory, and enough to keep a processor busy.
_TOGETHER = 8


def crop_patches(image: Tensor, *, patch_px: int, stride_px: int) -> Tensor:
    """Return the patches of images, N x h x w x 3 x patch x patch, a view of N x 3 x H x W."""
    return image.unfold(2, patch_px, stride_px).unfold(3, patch_px, stride_px).permute(0, 2, 3, 1, 4, 5)


class PatchwiseNetwork(nn.Module):
    """Takes raw pixels, encodes every patch by itself, and gives the tumour probability of each.

    Parameters
    ----------
    network
        The patch classifier, in evaluation mode. It is not changed.
    spec
        Its contract.
    dense_coefficient
        How much denser than its own stride the patches lie.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, network: ResNet, spec: ModelSpec, dense_coefficient: int) -> None:
        super().__init__()
        # Processors convolve faster with channels last.
        self.network = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.patch_px = spec.patch_px
        self.stride_px = spec.dense_stride_px(dense_coefficient)
        self.tumour_class = spec.tumour_class
        weight, bias = calibrated_classifier(network.classifier, spec, spec.tumour_class)
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", bias.detach(), persistent=False)
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)
        self.eval().requires_grad_(requires_grad=False)

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x h x w, of raw images, N x 3 x H x W in 0..255."""
        patches = crop_patches((image - self.mean) / self.std, patch_px=self.patch_px, stride_px=self.stride_px)
        count, rows, columns = patches.shape[:3]
        # Indexed before they are copied: patches overlap, and copies of all at once would not fit into memory.
        locations = torch.cartesian_prod(torch.arange(count), torch.arange(rows), torch.arange(columns))
        encoded = [
            self.network.encode(_pixelwise(patches[part[:, 0], part[:, 1], part[:, 2]])).flatten(1)
            for part in torch.split(locations, _TOGETHER)
        ]
        return torch.cat(encoded).view(count, rows, columns, -1).permute(0, 3, 1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of features, N x C x h x w."""
        return nn.functional.conv2d(features, self.weight[:, :, None, None], self.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the tumour probability, N x h x w float32, of raw images, N x 3 x H x W in 0..255."""
        return self.classify(self.encode(image)).float().softmax(dim=1)[:, self.tumour_class]


def _pixelwise(patches: Tensor) -> Tensor:
    return patches.contiguous(memory_format=torch.channels_last)
