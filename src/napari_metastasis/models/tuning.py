"""A network in two parts: lower layers that stay as they are, and upper ones that learn from what these encode.

What the lower layers make of an image is kept, so that a step of training costs a small part of a pass.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError
from napari_metastasis.models.dense import MIDDLE_GRAY, fold_normalisation, folded_layers
from napari_metastasis.models.nets.architectures import FullyConvolutionalNetwork

if TYPE_CHECKING:
    from napari_metastasis.models.detector import Detector

__all__ = ["LowerLayers", "TunedNetwork", "lower_sha256"]


def _network(detector: Detector) -> FullyConvolutionalNetwork:
    network = detector.network
    if not isinstance(network, FullyConvolutionalNetwork):
        raise ModelError(
            f"expected a fully convolutional detector to retrain, got {detector.name}, a {detector.spec.architecture}; "
            "choose another model"
        )
    if detector.spec.input != "rgb":
        raise ModelError(
            f"expected a detector that reads colours as they are to retrain, got {detector.name}, whose input is "
            f"{detector.spec.input}; choose another model, or train one anew"
        )
    return network


class LowerLayers(nn.Module):
    """The layers of a detector that tuning leaves as they are.

    Parameters
    ----------
    detector
        It is not changed.

    Raises
    ------
    ModelError
        If it is not fully convolutional.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        network = _network(detector)
        self.layers = folded_layers(network.layers[: network.tuned_from])
        fold_normalisation(self.layers, detector.spec)
        self.eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Return features, N x h x w x C, of raw images, N x 3 x H x W in 0..255."""
        features: Tensor = self.layers(image - MIDDLE_GRAY)
        return features.permute(0, 2, 3, 1)


class TunedNetwork(nn.Module):
    """A detector's network whose upper layers learn, from the features of its lower ones, or whose layers all learn.

    Batch normalisation stays as it was measured: a few corrections say nothing of its means.

    Parameters
    ----------
    detector
        To begin with; it is not changed.
    whole
        Whether all layers learn: what they are given are normalised images then.

    Raises
    ------
    ModelError
        If it is not fully convolutional.
    """

    def __init__(self, detector: Detector, *, whole: bool = False) -> None:
        super().__init__()
        original = _network(detector)
        self.network = type(original)(original.architecture)  # type: ignore[arg-type]  # its own
        self.network.load_state_dict(original.state_dict())
        self._tumour_class = detector.spec.tumour_class
        self._first = 0 if whole else original.tuned_from
        self.network.requires_grad_(requires_grad=False)
        for layer in self._learning:
            layer.requires_grad_(requires_grad=True)
        self.train(self.training)

    @property
    def _learning(self) -> tuple[nn.Module, ...]:
        return self.network.layers[self._first :]

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, N x classes x h x w, of features, N x C x H x W; or of images, where all layers learn."""
        answers = features
        for layer in self._learning:
            answers = layer(answers)
        return answers

    def log_odds(self, features: Tensor) -> Tensor:
        """Return the log-odds of tumour, N x h x w, of features, N x C x H x W."""
        logits = self(features)
        odds: Tensor = logits[:, self._tumour_class] - logits[:, 1 - self._tumour_class]
        return odds

    def train(self, mode: bool = True) -> TunedNetwork:
        """Let layers drop features while they learn; normalisation never changes."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def lower_sha256(detector: Detector) -> str:
    """Return the hash of the layers that tuning leaves as they are: models that share it encode images alike."""
    network, digest = _network(detector), hashlib.sha256()
    digest.update(f"{detector.spec.architecture} {detector.spec.mean} {detector.spec.std}".encode())
    for layer in network.layers[: network.tuned_from]:
        for name, tensor in layer.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
