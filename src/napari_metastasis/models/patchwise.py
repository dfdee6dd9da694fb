"""Networks that answer patch by patch: every patch is cropped and encoded once, by itself.

A padded network's answer depends on where its patch ends, so that no dense pass gives it. A refiner's grids still share
their encoded patches. Another program's network goes over whole images where it was seen to answer as for patches.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_metastasis.models.calibration import calibrated_classifier
from napari_metastasis.models.nets.architectures import PaddedNetwork
from napari_metastasis.models.programs import ProgramSpec

if TYPE_CHECKING:
    from napari_metastasis.models.card import ModelSpec

__all__ = ["PatchwiseNetwork", "ProgramNetwork", "crop_patches", "patches_together", "probability_of"]

#: Pixels of patches that are encoded together: few, to bound memory, and enough to keep a processor busy.
_PX_TOGETHER = 8 * 256 * 256


def crop_patches(image: Tensor, *, patch_px: int, stride_px: int) -> Tensor:
    """Return the patches of images, N x h x w x 3 x patch x patch, a view of N x 3 x H x W."""
    return image.unfold(2, patch_px, stride_px).unfold(3, patch_px, stride_px).permute(0, 2, 3, 1, 4, 5)


def patches_together(patch_px: int) -> int:
    """Return how many patches of a side are encoded together."""
    return max(1, _PX_TOGETHER // patch_px**2)


def _of_every_patch(image: Tensor, spec: ModelSpec, stride_px: int, answer: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what is made of every patch of normalised images, N x … x h x w."""
    patches = crop_patches(image, patch_px=spec.patch_px, stride_px=stride_px)
    count, rows, columns = patches.shape[:3]
    # Indexed before they are copied: patches overlap, and copies of all at once would not fit into memory.
    locations = torch.cartesian_prod(torch.arange(count), torch.arange(rows), torch.arange(columns))
    answers = [
        answer(_pixelwise(patches[part[:, 0], part[:, 1], part[:, 2]])).flatten(1)
        for part in torch.split(locations, patches_together(spec.patch_px))
    ]
    return torch.cat(answers).view(count, rows, columns, -1).permute(0, 3, 1, 2)


class _OfPatches(nn.Module):
    """What networks of patches share: their contract, as numbers."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, dense_coefficient: int) -> None:
        super().__init__()
        self.spec = spec
        self.patch_px = spec.patch_px
        self.stride_px = spec.dense_stride_px(dense_coefficient)
        self.tumour_class = spec.tumour_class
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)


class PatchwiseNetwork(_OfPatches):
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

    weight: Tensor
    bias: Tensor

    def __init__(self, network: PaddedNetwork, spec: ModelSpec, dense_coefficient: int) -> None:
        super().__init__(spec, dense_coefficient)
        # Processors convolve faster with channels last.
        self.network = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weight, bias = calibrated_classifier(network.classifier, spec, spec.tumour_class)
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", bias.detach(), persistent=False)
        self.eval().requires_grad_(requires_grad=False)

    def encode(self, image: Tensor) -> Tensor:
        """Return the features, N x C x h x w, of raw images, N x 3 x H x W in 0..255."""
        return _of_every_patch((image - self.mean) / self.std, self.spec, self.stride_px, self.network.encode)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of features, N x C x h x w."""
        return nn.functional.conv2d(features, self.weight[:, :, None, None], self.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the tumour probability, N x h x w float32, of raw images, N x 3 x H x W in 0..255."""
        return self.classify(self.encode(image)).float().softmax(dim=1)[:, self.tumour_class]


class ProgramNetwork(_OfPatches):
    """Takes raw pixels, and gives the tumour probability that another program's network answers.

    Parameters
    ----------
    network
        From normalised patches, N x 3 x P x P, to answers, N x classes; from images, where the contract says so, to
        N x classes x h x w.
    spec
        Its contract.
    dense_coefficient
        How much denser than its own stride the answers lie.
    """

    spec: ProgramSpec

    def __init__(self, network: nn.Module, spec: ProgramSpec, dense_coefficient: int) -> None:
        super().__init__(spec, dense_coefficient)
        self.network = network
        self.dense_coefficient = dense_coefficient
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return the tumour probability, N x h x w float32, of raw images, N x 3 x H x W in 0..255."""
        normalised = (image - self.mean) / self.std
        if self.spec.fully_convolutional:
            return self._of_images(normalised)
        answers = _of_every_patch(normalised, self.spec, self.stride_px, self.network)
        return probability_of(answers.float(), self.spec)

    def _of_images(self, image: Tensor) -> Tensor:
        """Return the probability of images: as many passes over each, shifted, as there are cells in a native one."""
        rows, columns = (self.cells_of(side) for side in image.shape[2:])
        found = torch.empty((len(image), rows, columns), device=image.device)
        for read, cells in self.shifts(rows, columns):
            answers = self.network(_pixelwise(image[:, :, *read]))
            found[:, *cells] = probability_of(answers.float(), self.spec)
        return found

    def cells_of(self, side_px: int) -> int:
        """Return how many cells a side of an image has answers for."""
        return (side_px - self.patch_px) // self.stride_px + 1

    def shifts(self, rows: int, columns: int) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
        """Return which parts of an image a fully convolutional network passes over, and which cells it answers there.

        Parameters
        ----------
        rows, columns
            Cells of the image.

        Returns
        -------
        One pair for every cell of a native one: slices of the image, and of the cells.
        """
        alpha, native_px = self.dense_coefficient, self.spec.stride_px
        found = []
        for first in itertools.product(range(min(alpha, rows)), range(min(alpha, columns))):
            starts = [each * self.stride_px for each in first]
            counts = [-(-(count - each) // alpha) for count, each in zip((rows, columns), first, strict=True)]
            sides = [self.patch_px + (count - 1) * native_px for count in counts]
            top, left = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
            down, right = (slice(each, None, alpha) for each in first)
            found.append(((top, left), (down, right)))
        return found


def probability_of(answers: Tensor, spec: ProgramSpec) -> Tensor:
    """Return the calibrated probability of tumour, N x h x w, of a network's answers, N x classes x h x w."""
    tumour = spec.tumour_class
    if spec.activation == "softmax":
        if not spec.prior:
            return answers.softmax(dim=1)[:, tumour]
        # Only models of two classes are calibrated.
        odds = answers[:, tumour] - answers[:, 1 - tumour]
    else:
        of_tumour = answers[:, 0 if answers.shape[1] == 1 else tumour]
        if spec.activation == "none" and not spec.prior:
            return of_tumour
        odds = of_tumour if spec.activation == "sigmoid" else of_tumour.logit()
    if spec.prior:
        odds = odds / spec.temperature + spec.shift + spec.prior_log_odds
    return odds.sigmoid()


def _pixelwise(patches: Tensor) -> Tensor:
    return patches.contiguous(memory_format=torch.channels_last)
