"""Patch classifiers on disk: their weights, their contract with slides, and what their card tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import WeightsError
from napari_metastasis.models.dense import DenseScanNet
from napari_metastasis.models.nets.resnet import ResNet
from napari_metastasis.models.nets.scannet import ScanNet, build_network
from napari_metastasis.models.patchwise import PatchwiseNetwork
from napari_metastasis.models.spec import ModelSpec
from napari_metastasis.models.weights_io import read_weights, write_weights

__all__ = ["Model", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its contract.

    Attributes
    ----------
    spec
        What the model expects and what its answers mean.
    network
        The patch classifier, float32 in evaluation mode; normalised N x 3 x H x W to logits N x classes x h x w.
    weights_sha256
        Hash of the stored weights, which names them in results.
    card
        What the model was trained on, its measured accuracy and intended use.
    """

    spec: ModelSpec
    network: ScanNet | ResNet
    weights_sha256: str
    card: Mapping[str, Any]

    def dense(self, dense_coefficient: int) -> DenseScanNet | PatchwiseNetwork:
        """Return the network that answers every ``stride / dense_coefficient`` model pixels from raw pixels.

        Raises
        ------
        ModelError
            If the native stride cannot be divided by it.
        """
        if isinstance(self.network, ResNet):
            return PatchwiseNetwork(self.network, self.spec, dense_coefficient)
        return DenseScanNet(self.network, self.spec, dense_coefficient)


def save_checkpoint(path: Path, network: ScanNet | ResNet, spec: ModelSpec, card: Mapping[str, Any]) -> str:
    """Write ``path`` (safetensors) and its card beside it (the same name with ``.json``).

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    StorageError
        If a file cannot be written; nothing half-written is left.
    """
    return write_weights(path, network.state_dict(), spec.to_json(), card)


def load_checkpoint(path: Path) -> Model:
    """Return the model whose weights are stored at ``path``, with its card beside it.

    Raises
    ------
    WeightsError
        If a file is missing, damaged, or belongs to another architecture.
    """
    stored = read_weights(path)
    spec = ModelSpec.from_json(stored.spec)
    network = build_network(spec.architecture)
    stored.fill(network, spec.architecture)
    expected = (network.architecture.patch_px, network.architecture.stride_px)
    if (spec.patch_px, spec.stride_px) != expected:
        raise WeightsError(
            f"expected patch and stride {expected} of a {spec.architecture} network, "
            f"got {(spec.patch_px, spec.stride_px)} on the card of {path}; correct the card"
        )
    return Model(spec=spec, network=network, weights_sha256=stored.sha256, card=stored.card)
