"""Train a refiner, behind a finished encoder or end to end with one (Zheng et al. 2022)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_metastasis.errors import ModelError
from napari_metastasis.models import (
    Detector,
    InitialWeights,
    ModelSpec,
    RefinerSpec,
    SpatialNetwork,
    begin_with,
    build_network,
    check_name,
    find_architecture,
    save_model,
)
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.crops import ABSENT, GridCrop
from napari_metastasis.settings import GridSettings, MiningSettings, SpatialTrainSettings, TrainSettings
from napari_metastasis.storage import storage_errors
from napari_metastasis.training.augment import absent_strips, turn_alike
from napari_metastasis.training.encoded import AlreadyEncoded, Encoding, WithLogOdds, encode_batches
from napari_metastasis.training.losses import known_cross_entropy, spatial_loss
from napari_metastasis.training.tasks.base import Batch, Fitting, Stage, TaskModule, TrainingTask, one_cycle
from napari_metastasis.training.tasks.encoders import FixedEncoder, LearningEncoder, grids_of

__all__ = [
    "RefinerModule",
    "RefinerTask",
    "RefinerWithEncoderTask",
    "SpatialModel",
    "encoder_name",
    "refiner_behind",
    "refiner_with_encoder",
]

_MOMENTUM = 0.9
#: Folder of the run within a run folder.
_STAGE = "spatial"


def encoder_name(name: str) -> str:
    """Return the name of the encoder that is trained along with a refiner."""
    return f"{name}-encoder"


def refiner_behind(model: Detector, name: str, grid: GridSettings, dense_coefficient: int) -> RefinerTask:
    """Return what trains a refiner behind a finished model, for scans at a dense coefficient.

    Raises
    ------
    ModelError
        If the name cannot name files, the grid cannot be, or the model does not scan at this coefficient.
    """
    model.spec.dense_stride_px(dense_coefficient)
    return RefinerTask(_spec(name, model.spec, model.weights_sha256, grid, dense_coefficient), model)


def refiner_with_encoder(
    encoder: ModelSpec, name: str, grid: GridSettings, initial: InitialWeights | None
) -> RefinerWithEncoderTask:
    """Return what trains a refiner and its encoder, which answers at its own stride, from these initial weights.

    Raises
    ------
    ModelError
        If the name cannot name files, or the grid cannot be.
    """
    return RefinerWithEncoderTask(_spec(name, encoder, "", grid, 1), encoder, initial)


def _spec(name: str, encoder: ModelSpec, sha256: str, grid: GridSettings, dense_coefficient: int) -> RefinerSpec:
    check_name(name)
    if encoder.input != "rgb":
        raise ModelError(
            f"expected a detector that reads colours as they are for a refiner, got {encoder.name}, whose input is "
            f"{encoder.input}; choose another one"
        )
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


class SpatialModel(nn.Module):
    """An encoder that learns, if it does, and the spatial network behind it: all that has weights to train.

    Parameters
    ----------
    encoder
        Trained along; ``None`` where it is finished.
    spec
        Of the refiner.
    """

    def __init__(self, encoder: LearningEncoder | None, spec: RefinerSpec) -> None:
        super().__init__()
        self.encoder = encoder
        self.spatial = SpatialNetwork(spec)


class _OnGrids(TrainingTask[SpatialModel]):
    """Train on crops of as many native cells as all phases of a grid take."""

    spec: RefinerSpec

    @property
    @abstractmethod
    def patches(self) -> ModelSpec:
        """Return the encoder's patches."""

    @property
    def crop(self) -> GridCrop:
        """Return crops of whole grids."""
        return GridCrop(self.patches, self.spec.span_cells, self.spec.dense_coefficient)

    def module(self, fitting: Fitting) -> RefinerModule:
        """Return what Lightning trains."""
        return RefinerModule(self, fitting)

    @abstractmethod
    def encoders(self) -> tuple[FixedEncoder | None, LearningEncoder | None]:
        """Return the encoder that stays as it is, and the one that learns; one of them is ``None``."""

    def stages(self, settings: TrainSettings, mining: MiningSettings) -> tuple[Stage, ...]:
        """Return the one stage."""
        del mining
        return (Stage(_STAGE, settings),)


@dataclass(frozen=True)
class RefinerTask(_OnGrids):
    """Train a refiner behind a finished model.

    Attributes
    ----------
    spec
        Of the refiner.
    model
        The encoder.
    """

    spec: RefinerSpec
    model: Detector

    @property
    def patches(self) -> ModelSpec:
        """Return the encoder's patches."""
        return self.model.spec

    def encoders(self) -> tuple[FixedEncoder, None]:
        """Return the encoder that stays as it is, and none that learns."""
        return FixedEncoder(self.model, self.spec.dense_coefficient), None

    def kept_crops(self, settings: TrainSettings) -> int:
        """Return how many the settings keep."""
        return settings.kept_crops if isinstance(settings, SpatialTrainSettings) else 0

    def encoded(self, source: BatchSource, batch_size: int, how: Encoding) -> BatchSource:
        """Return a source's crops as the model encodes them."""
        return encode_batches(WithLogOdds(self.encoders()[0]), source, batch_size, how)

    def store(self, network: SpatialModel, weights: Path, card: dict[str, Any]) -> None:
        """Store the refiner."""
        save_model(weights, network.spatial, network.spatial.spec, card)

    def stages(self, settings: TrainSettings, mining: MiningSettings) -> tuple[Stage, ...]:
        """Return the one stage, with the encoder's false positives where mining is asked for."""
        return (Stage(_STAGE, settings, round=min(1, mining.mining_rounds)),)

    def mined_with(self, output: Path, before: Path | None) -> Path:
        """Return the encoder's weights, stored in the run folder."""
        del before
        with storage_errors(output):
            encoder = output / "encoder" / f"{self.model.spec.name}.safetensors"
            encoder.parent.mkdir(exist_ok=True)
            if not (encoder.exists() and encoder.with_suffix(".json").exists()):
                save_model(encoder, self.model.network, self.model.spec, self.model.card)
        return encoder


@dataclass(frozen=True)
class RefinerWithEncoderTask(_OnGrids):
    """Train an encoder and its refiner end to end (Zheng et al. 2022). There is nothing yet that could be mistaken.

    Attributes
    ----------
    spec
        Of the refiner, which names no encoder's hash yet.
    encoder
        Contract of the encoder.
    initial
        Weights of the encoder to begin with.
    """

    spec: RefinerSpec
    encoder: ModelSpec
    initial: InitialWeights | None

    @property
    def patches(self) -> ModelSpec:
        """Return the encoder's patches."""
        return self.encoder

    def identity(self) -> dict[str, Any]:
        """Return both contracts, and what the encoder begins with."""
        return {
            **super().identity(),
            "encoder": self.encoder.to_json(),
            "initial_sha256": None if self.initial is None else self.initial.sha256,
        }

    def encoders(self) -> tuple[None, LearningEncoder]:
        """Return no encoder that stays as it is, and the one that learns."""
        network = build_network(self.encoder.architecture)
        if self.initial is not None:
            begin_with(network, self.initial)
        return None, LearningEncoder(network, self.encoder)

    def store(self, network: SpatialModel, weights: Path, card: dict[str, Any]) -> None:
        """Store the encoder, then the refiner, which names it by its hash."""
        assert network.encoder is not None
        # What was measured was measured on the refiner's answers.
        told = {name: value for name, value in card.items() if not name.startswith("validation_")}
        digest = save_model(self._beside(weights), network.encoder.network, self.encoder, told)
        spatial = network.spatial
        spatial.spec = replace(spatial.spec, encoder_sha256=digest)
        save_model(weights, spatial, spatial.spec, card)

    def results(self, weights: Path) -> tuple[Path, ...]:
        """Return the encoder, and the refiner that needs it."""
        return (self._beside(weights), weights)

    def _beside(self, weights: Path) -> Path:
        return weights.with_name(f"{self.encoder.name}.safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Log-odds and labels of grids, all N x k x k."""

    refined: Tensor
    of_encoder: Tensor
    labels: Tensor


class RefinerModule(TaskModule[SpatialModel]):
    """Train a refiner on crops of slides."""

    task: _OnGrids
    fixed: FixedEncoder | AlreadyEncoded | None
    settings: SpatialTrainSettings

    @property
    def turns(self) -> bool:
        """Return no: crops are turned together with their labels."""
        return False

    def configure_network(self) -> SpatialModel:
        """Return all that learns."""
        self.fixed, learning = self.task.encoders()
        if self.task.kept_crops(self.settings):
            self.fixed = AlreadyEncoded()
        return SpatialModel(learning, self.task.spec)

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of crops, N x 3 x H x W uint8, or encoded, with labels N x K x K (eq. 6)."""
        image, labels, *_ = batch
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + draw)
        image, labels = turn_alike(image, labels, generator)
        # What was kept was varied before it was encoded.
        varied = image.float() if self.task.kept_crops(self.settings) else self.augment(image.float() / 255, draw) * 255
        absent = absent_strips(labels, self.settings.absent_share, generator).to(labels.device)
        answers = self._answers(self.network, varied, labels, absent)
        loss = known_cross_entropy(answers.refined, answers.labels)
        if self.settings.beta:
            loss = loss + self.settings.beta * spatial_loss(answers.refined.sigmoid(), answers.labels)
        if self.fixed is None:
            # The encoder answers for itself as well: its map is what refining is compared with.
            loss = loss + known_cross_entropy(answers.of_encoder, answers.labels)
        return loss

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the refined probabilities and labels of all patches that are known, and the cross-entropy."""
        image, labels, *_ = batch
        nothing = torch.zeros_like(labels, dtype=torch.bool)
        answers = self._answers(self.averaged_network(), image.float(), labels, nothing)
        known = answers.labels >= 0
        loss = known_cross_entropy(answers.refined, answers.labels)
        return answers.refined.sigmoid()[known], answers.labels[known], loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser with a one-cycle schedule of its rate."""
        settings = self.settings
        if settings.optimiser == "adamw":
            return super().configure_optimizers()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimiser = torch.optim.RMSprop(
            trained, lr=settings.learning_rate, momentum=_MOMENTUM, weight_decay=settings.weight_decay
        )
        return one_cycle(optimiser, settings.learning_rate, self.total_steps)

    def _answers(self, model: SpatialModel, image: Tensor, labels: Tensor, absent: Tensor) -> _Answers:
        encoder = self.fixed if model.encoder is None else model.encoder
        assert encoder is not None
        log_odds, hidden = encoder(image)
        features = model.spatial.project(log_odds, hidden)
        absent = absent | (labels == ABSENT)
        features = torch.where(absent[..., None], torch.nan, features)
        # What is not there has no answer either.
        known = torch.where(absent, -1, labels)
        grids = [grids_of(each, self.task.spec) for each in (features, log_odds, known)]
        return _Answers(model.spatial(grids[0]), grids[1], grids[2])
