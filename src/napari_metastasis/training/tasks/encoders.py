"""From crops of a slide to grids of encoded patches: with an encoder that stays as it is, or one that learns too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_metastasis.models import (
    Detector,
    Encoder,
    ModelSpec,
    PaddedNetwork,
    PatchNetwork,
    RefinerSpec,
    crop_patches,
    feature_layer,
    log_odds_of,
)

__all__ = ["FixedEncoder", "LearningEncoder", "grids_of"]


class FixedEncoder(nn.Module):
    """A finished model, which encodes crops as a scan does.

    Parameters
    ----------
    model
        The encoder.
    dense_coefficient
        Of the scans that are to be refined.
    """

    def __init__(self, model: Detector, dense_coefficient: int) -> None:
        super().__init__()
        layer = feature_layer(model.classifier, model.spec.tumour_class, None)
        self.encoder = Encoder(model.encoding(dense_coefficient), layer, dense_coefficient)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds, N x K x K, and features, N x K x K x C, of crops, N x 3 x H x W in 0..255."""
        encoded = self.encoder.features(self.encoder.network.encode(image)).permute(0, 2, 3, 1)
        return encoded[..., 0], encoded[..., 1:]

    def train(self, mode: bool = True) -> FixedEncoder:
        """Stay in evaluation mode."""
        del mode
        return super().train(False)


class LearningEncoder(nn.Module):
    """A patch classifier that is trained together with what reads its features.

    Parameters
    ----------
    network
        The classifier.
    spec
        Its contract.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: PatchNetwork, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds, N x K x K, and features, N x K x K x C, of crops, N x 3 x H x W in 0..255."""
        normalised = (image - self.mean) / self.std
        if isinstance(self.network, PaddedNetwork):
            patches = crop_patches(normalised, patch_px=self.spec.patch_px, stride_px=self.spec.stride_px)
            hidden = self.network.encode(patches.flatten(0, 2)).reshape(*patches.shape[:3], -1)
        else:
            hidden = self.network.encode(normalised).permute(0, 2, 3, 1)
        weight, bias = log_odds_of(self.network.classifier, self.spec.tumour_class)
        return hidden @ weight + bias, hidden


def grids_of(cells: Tensor, spec: RefinerSpec) -> Tensor:
    """Return the grids of crops, one for each phase of the lattice: N·step² x k x k x …, of N x K x K x ….

    Parameters
    ----------
    cells
        Anything that native cells have, ``K = k · step`` of them along a side.
    spec
        Says which cells are patches of one grid.
    """
    step = spec.grid_step
    split = cells.reshape(len(cells), spec.grid, step, spec.grid, step, *cells.shape[3:])
    # N, k, step, k, step, … -> N, step, step, k, k, …
    order = (0, 2, 4, 1, 3, *range(5, split.ndim))
    return split.permute(order).flatten(0, 2)
