"""Train a refiner: windows of slides in, a refiner out, and its encoder too where that was trained along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_metastasis.models import (
    Detector,
    InitialWeights,
    ModelSpec,
    RefinerSpec,
    begin_with,
    build_network,
    find_architecture,
    save_model,
)
from napari_metastasis.sampling.crops import GridCrop
from napari_metastasis.settings import AugmentSettings, GridSettings, SpatialTrainSettings
from napari_metastasis.training.tasks.detect import PatchTraining
from napari_metastasis.training.tasks.encoders import FixedEncoder, LearningEncoder
from napari_metastasis.training.tasks.refine import SpatialTraining

__all__ = ["EncoderJob", "RefinerJob", "encoder_name"]


def encoder_name(name: str) -> str:
    """Return the name of the encoder that is trained along with a refiner."""
    return f"{name}-encoder"


@dataclass(frozen=True)
class RefinerJob:
    """Train a refiner behind a finished model.

    Attributes
    ----------
    name
        Of the refiner.
    model
        The encoder.
    grid
        What the refiner reads.
    dense_coefficient
        Of the scans that are to be refined.
    """

    name: str
    model: Detector
    grid: GridSettings
    dense_coefficient: int

    @property
    def cut(self) -> GridCrop:
        """Return the windows that it is trained on."""
        return GridCrop(self.model.spec, self.grid.grid * self.grid.grid_step, self.dense_coefficient)

    @property
    def spec(self) -> RefinerSpec:
        """Return the refiner's contract."""
        model = self.model
        return _spec(self.name, model.spec, model.weights_sha256, self.grid, self.dense_coefficient)

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights besides settings and data."""
        return {"spec": self.spec.to_json()}

    def module(self, settings: SpatialTrainSettings, augment: AugmentSettings, total_steps: int) -> SpatialTraining:
        """Return what Lightning trains."""
        fixed = FixedEncoder(self.model, self.dense_coefficient)
        return SpatialTraining(self.spec, settings, augment, total_steps=total_steps, fixed=fixed)

    def store(self, module: PatchTraining, weights: Path, card: dict[str, Any]) -> None:
        """Store the refiner."""
        assert isinstance(module, SpatialTraining)
        save_model(weights, module.finished.spatial, module.finished.spatial.spec, card)


@dataclass(frozen=True)
class EncoderJob:
    """Train an encoder and its refiner end to end (Zheng et al. 2022).

    Attributes
    ----------
    name
        Of the refiner; the encoder is called after it.
    encoder
        Contract of the encoder.
    grid
        What the refiner reads.
    initial
        Weights of the encoder to begin with.
    """

    name: str
    encoder: ModelSpec
    grid: GridSettings
    initial: InitialWeights | None

    #: Trained along, an encoder answers at its own stride.
    dense_coefficient = 1

    @property
    def cut(self) -> GridCrop:
        """Return the windows that it is trained on."""
        return GridCrop(self.encoder, self.grid.grid * self.grid.grid_step, self.dense_coefficient)

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights besides settings and data."""
        return {
            "spec": self._untrained().to_json(),
            "encoder": self.encoder.to_json(),
            "initial_sha256": None if self.initial is None else self.initial.sha256,
        }

    def module(self, settings: SpatialTrainSettings, augment: AugmentSettings, total_steps: int) -> SpatialTraining:
        """Return what Lightning trains."""
        network = build_network(self.encoder.architecture)
        if self.initial is not None:
            begin_with(network, self.initial)
        learning = LearningEncoder(network, self.encoder)
        return SpatialTraining(self._untrained(), settings, augment, total_steps=total_steps, learning=learning)

    def store(self, module: PatchTraining, weights: Path, card: dict[str, Any]) -> None:
        """Store the encoder, then the refiner, which names it by its hash."""
        assert isinstance(module, SpatialTraining)
        assert module.finished.encoder is not None
        network = module.finished.encoder.network
        of_encoder = weights.with_name(f"{self.encoder.name}.safetensors")
        # What was measured was measured on the refiner's answers.
        told = {name: value for name, value in card.items() if not name.startswith("validation_")}
        digest = save_model(of_encoder, network, self.encoder, told)
        spatial = module.finished.spatial
        spatial.spec = replace(spatial.spec, encoder_sha256=digest)
        save_model(weights, spatial, spatial.spec, card)

    def _untrained(self) -> RefinerSpec:
        return _spec(self.name, self.encoder, "", self.grid, self.dense_coefficient)


def _spec(name: str, encoder: ModelSpec, sha256: str, grid: GridSettings, dense_coefficient: int) -> RefinerSpec:
    return RefinerSpec(
        name=name,
        encoder=encoder.name,
        encoder_sha256=sha256,
        encoder_features=find_architecture(encoder.architecture).feature_channels,
        projected=grid.projected,
        hidden=grid.hidden,
        grid=grid.grid,
        grid_step=grid.grid_step,
        window_step=grid.window_step,
        order=grid.order,
        residual=grid.residual,
        smoothing=grid.smoothing,
        dense_coefficient=dense_coefficient,
    )
