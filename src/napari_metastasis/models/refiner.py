"""Refiners: spatial networks that read the features of one detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from napari_metastasis.errors import ModelError
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.encoder import feature_layer
from napari_metastasis.models.model import Model
from napari_metastasis.models.nets.spatial_lstm import RefinerSpec, SpatialNetwork

__all__ = ["Refiner"]


@dataclass(frozen=True, slots=True)
class Refiner(Model):
    """A spatial network with its contract.

    Attributes
    ----------
    spec
        Its contract.
    network
        From grids of encoded patches to log-odds.
    """

    spec: RefinerSpec
    network: SpatialNetwork

    @classmethod
    def blank(cls, values: Mapping[str, Any], path: Path) -> tuple[RefinerSpec, nn.Module]:
        """Return the contract and its network; see :meth:`Model.blank`."""
        try:
            spec = RefinerSpec.from_json(values)
        except ModelError as error:
            raise ModelError(f"{error} ({path})") from error
        return spec, SpatialNetwork(spec)

    @property
    def reads(self) -> str:
        """Return whose features it reads."""
        return f"features of {self.spec.encoder}"

    @property
    def encoder_sha256(self) -> str:
        """Return the hash of the detector whose features it reads."""
        return self.spec.encoder_sha256

    def columns(self) -> dict[str, str]:
        """Return its row in a list of models, by heading."""
        spec = self.spec
        return {
            "name": spec.name,
            "of": spec.encoder,
            "order": spec.order,
            "grid": f"{spec.grid} x {spec.grid}",
            "step": str(spec.grid_step),
            "weights": self.weights_sha256[:8],
        }

    def check(self, detector: Model) -> None:
        """Refuse any detector but the one whose features it was trained on.

        Raises
        ------
        ModelError
            If it is another one.
        """
        if detector.weights_sha256 != self.spec.encoder_sha256:
            raise ModelError(
                f"expected model {self.spec.encoder} ({self.spec.encoder_sha256[:12]}…) for refiner {self.spec.name}, "
                f"got {detector.name} ({detector.weights_sha256[:12]}…); choose that model, or train a refiner for this"
            )

    def feature_layer(self, detector: Model) -> nn.Conv2d:
        """Return the 1x1 convolution from the detector's features to what the refiner reads.

        Raises
        ------
        ModelError
            If the refiner was trained on the features of another detector.
        """
        self.check(detector)
        assert isinstance(detector, Detector)
        return feature_layer(detector.classifier, detector.spec.tumour_class, self.network.projection)
