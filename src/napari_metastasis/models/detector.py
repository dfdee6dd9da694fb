"""Detectors: patch classifiers that a whole slide is scanned with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models.card import ModelSpec, read_contract
from napari_metastasis.models.dense import DenseNetwork
from napari_metastasis.models.inputs import NetworkInput, said_of
from napari_metastasis.models.model import Model
from napari_metastasis.models.nets.architectures import PaddedNetwork, PatchNetwork, build_network
from napari_metastasis.models.nets.resnet import CLASSES
from napari_metastasis.models.patchwise import PatchwiseNetwork, ProgramNetwork
from napari_metastasis.models.programs import FORMS, ONNX, Program, ProgramSpec

__all__ = ["Detector"]


@dataclass(frozen=True, slots=True)
class Detector(Model):
    """A patch classifier with its contract.

    Attributes
    ----------
    spec
        Its contract.
    network
        Normalised N x 3 x H x W to logits N x classes x h x w; or the file of another program's network.
    """

    spec: ModelSpec
    network: PatchNetwork | Program

    @classmethod
    def blank(cls, values: Mapping[str, Any], path: Path) -> tuple[ModelSpec, nn.Module]:
        """Return the contract and its network; see :meth:`Model.blank`."""
        if values.get("architecture") in FORMS:
            program = read_contract(ProgramSpec, values, "detector")
            return program, Program(program.architecture, program.program_bytes)
        spec = ModelSpec.from_json(values)
        network = build_network(spec.architecture, NetworkInput(spec.input).channels)
        built = network.architecture
        expected = (built.patch_px, built.stride_px, built.field_px)
        named = (spec.patch_px, spec.stride_px, spec.field_px)
        # A padded network averages over its patch, and is laid out patch by patch: any patch and stride will do.
        if not isinstance(network, PaddedNetwork) and named != expected:
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

    @property
    def engines(self) -> tuple[str, ...]:
        """Return what can run its network: names of engines."""
        if not isinstance(self.network, Program):
            return ("openvino", "torch")
        return ("openvino", "onnxruntime") if self.network.form == ONNX else ("torch",)

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """Return the linear layer from the network's features to logits: weight, classes x features, and bias.

        Raises
        ------
        ModelError
            If its layers are not known.
        """
        return self._layered().classifier

    def _layered(self) -> PatchNetwork:
        if isinstance(self.network, Program):
            raise ModelError(
                f"expected a detector whose layers are known, for a model that reads its features, got {self.name}, "
                f"{self.spec.architecture}; choose another model"
            )
        return self.network

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

    def encoding(self, dense_coefficient: int) -> DenseNetwork | PatchwiseNetwork:
        """Return the network of :meth:`dense` where it gives features too.

        Raises
        ------
        ModelError
            If it gives none, or the native stride cannot be divided by the coefficient.
        """
        network = self._layered()
        if isinstance(network, PaddedNetwork):
            return PatchwiseNetwork(network, self.spec, dense_coefficient)
        return DenseNetwork(network, self.spec, dense_coefficient)

    def dense(self, dense_coefficient: int) -> DenseNetwork | PatchwiseNetwork | ProgramNetwork:
        """Return the network that answers every ``stride / dense_coefficient`` model pixels from raw pixels.

        Raises
        ------
        ModelError
            If the native stride cannot be divided by it, or the network is code that was not trusted here.
        """
        if isinstance(self.network, Program):
            assert isinstance(self.spec, ProgramSpec)
            return ProgramNetwork(self.network.opened(self.name), self.spec, dense_coefficient)
        return self.encoding(dense_coefficient)
