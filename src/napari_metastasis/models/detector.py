"""Detectors: patch classifiers that a whole slide is scanned with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from napari_metastasis.errors import WeightsError
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.dense import DenseNetwork
from napari_metastasis.models.inputs import NetworkInput, said_of
from napari_metastasis.models.model import Model
from napari_metastasis.models.nets.architectures import PatchNetwork, build_network
from napari_metastasis.models.nets.resnet import CLASSES, ResNet
from napari_metastasis.models.patchwise import PatchwiseNetwork

__all__ = ["Detector"]


@dataclass(frozen=True, slots=True)
class Detector(Model):
    """A patch classifier with its contract.

    Attributes
    ----------
    spec
        Its contract.
    network
        Normalised N x 3 x H x W to logits N x classes x h x w.
    """

    spec: ModelSpec
    network: PatchNetwork

    @classmethod
    def blank(cls, values: Mapping[str, Any], path: Path) -> tuple[ModelSpec, nn.Module]:
        """Return the contract and its network; see :meth:`Model.blank`."""
        spec = ModelSpec.from_json(values)
        network = build_network(spec.architecture, NetworkInput(spec.input).channels)
        built = network.architecture
        expected = (built.patch_px, built.stride_px, built.field_px)
        named = (spec.patch_px, spec.stride_px, spec.field_px)
        # A ResNet averages over its patch, and is laid out patch by patch: any patch and stride will do.
        if not isinstance(network, ResNet) and named != expected:
            raise WeightsError(
                f"expected patch, stride and window {expected} of a {spec.architecture} network, "
                f"got {named} on the card of {path}; correct the card"
            )
        if len(spec.classes) != CLASSES:
            raise WeightsError(
                f"expected {CLASSES} classes of a {spec.architecture} network, got {len(spec.classes)} on the card of "
                f"{path}; correct the card"
            )
        return spec, network

    @property
    def reads(self) -> str:
        """Return what it reads of a slide, and of which pixels."""
        return said_of(self.spec)

    @property
    def block_cells(self) -> int:
        """Return the side, in cells of its map, of the squares that no piece of a scan splits."""
        return 1

    def columns(self) -> dict[str, str]:
        """Return its row in a list of models, by heading."""
        spec = self.spec
        return {
            "name": spec.name,
            "network": spec.architecture,
            "µm/px": f"{spec.mpp:g}",
            "patch": str(spec.patch_px),
            "stride": str(spec.stride_px),
            "weights": self.weights_sha256[:8],
        }

    def dense(self, dense_coefficient: int) -> DenseNetwork | PatchwiseNetwork:
        """Return the network that answers every ``stride / dense_coefficient`` model pixels from raw pixels.

        Raises
        ------
        ModelError
            If the native stride cannot be divided by it.
        """
        if isinstance(self.network, ResNet):
            return PatchwiseNetwork(self.network, self.spec, dense_coefficient)
        return DenseNetwork(self.network, self.spec, dense_coefficient)
