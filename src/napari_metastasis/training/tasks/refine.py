"""Refiners as Lightning trains them: behind a finished encoder, or end to end with one (Zheng et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.models import RefinerSpec, SpatialNetwork
from napari_metastasis.sampling.crops import ABSENT
from napari_metastasis.settings import AugmentSettings, SpatialTrainSettings
from napari_metastasis.training.equivariance import ORIENTATIONS, turned
from napari_metastasis.training.losses import spatial_loss
from napari_metastasis.training.tasks.detect import PatchTraining, one_cycle
from napari_metastasis.training.tasks.encoders import FixedEncoder, LearningEncoder, grids_of

__all__ = ["SpatialModel", "SpatialTraining"]

_MOMENTUM = 0.9


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


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Log-odds and labels of grids, all N x k x k."""

    refined: Tensor
    of_encoder: Tensor
    labels: Tensor


class SpatialTraining(PatchTraining):
    """Train a refiner on windows of slides.

    Parameters
    ----------
    spec
        Of the refiner.
    fixed
        A finished encoder; ``None`` where one is trained along.
    learning
        An encoder to train; ``None`` where it is finished.
    settings, augment
        How.
    total_steps
        Optimiser steps of the whole run.
    """

    def __init__(
        self,
        spec: RefinerSpec,
        settings: SpatialTrainSettings,
        augment: AugmentSettings,
        *,
        total_steps: int,
        fixed: FixedEncoder | None = None,
        learning: LearningEncoder | None = None,
    ) -> None:
        super().__init__(
            SpatialModel(learning, spec),
            settings,
            augment,
            total_steps=total_steps,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            turn=False,
        )
        self.spec = spec
        self.how = settings
        self.fixed = fixed

    @property
    def finished(self) -> SpatialModel:
        """Return the averaged weights: what is kept."""
        model = self.average.module
        assert isinstance(model, SpatialModel)
        return model

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of windows, N x 3 x H x W uint8, with labels N x K x K (eq. 6)."""
        del batch_index
        image, labels, _ = batch
        draw = self.global_step * self.trainer.world_size + self.trainer.global_rank
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + draw)
        image, labels = _turned_alike(image, labels, generator)
        varied = self.augment(image.float() / 255, draw) * 255
        absent = _strips(labels, self.how.absent_share, generator).to(labels.device)
        answers = self._answers(self._trained(), varied, labels, absent)
        loss = _cross_entropy(answers.refined, answers.labels)
        if self.how.beta:
            loss = loss + self.how.beta * spatial_loss(answers.refined.sigmoid(), answers.labels)
        if self.fixed is None:
            # The encoder answers for itself as well: its map is what refining is compared with.
            loss = loss + _cross_entropy(answers.of_encoder, answers.labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> None:
        """Score one batch with the averaged weights."""
        del batch_index
        image, labels, _ = batch
        nothing = torch.zeros_like(labels, dtype=torch.bool)
        answers = self._answers(self.finished, image.float(), labels, nothing)
        known = answers.labels >= 0
        probability = answers.refined.sigmoid()[known]
        self.auroc.update(probability, answers.labels[known])
        self.accuracy.update(probability, answers.labels[known])
        loss = _cross_entropy(answers.refined, answers.labels)
        self.log("validation_loss", loss, batch_size=len(image), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser with a one-cycle schedule of its rate."""
        if self.how.optimiser == "adamw":
            return super().configure_optimizers()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimiser = torch.optim.RMSprop(
            trained, lr=self.how.learning_rate, momentum=_MOMENTUM, weight_decay=self.how.weight_decay
        )
        return one_cycle(optimiser, self.how.learning_rate, self.total_steps)

    def _trained(self) -> SpatialModel:
        assert isinstance(self.network, SpatialModel)
        return self.network

    def _answers(self, model: SpatialModel, image: Tensor, labels: Tensor, absent: Tensor) -> _Answers:
        encoder = self.fixed if model.encoder is None else model.encoder
        assert encoder is not None
        log_odds, hidden = encoder(image)
        features = model.spatial.project(log_odds, hidden)
        absent = absent | (labels == ABSENT)
        features = torch.where(absent[..., None], torch.nan, features)
        # What is not there has no answer either.
        known = torch.where(absent, -1, labels)
        grids = [grids_of(each, self.spec) for each in (features, log_odds, known)]
        return _Answers(model.spatial(grids[0]), grids[1], grids[2])


def _cross_entropy(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of what is known."""
    known = labels >= 0
    losses = functional.binary_cross_entropy_with_logits(
        log_odds, labels.clamp_min(0).to(log_odds.dtype), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp_min(1)


def _turned_alike(image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn every window, and its labels, by one of the eight symmetries of the square."""
    turns = torch.randint(0, ORIENTATIONS, (len(image),), generator=generator).tolist()
    both = [[turned(one, turn) for one, turn in zip(each, turns, strict=True)] for each in (image, labels)]
    return torch.stack(both[0]), torch.stack(both[1])


def _strips(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return which cells are taken away, N x K x K bool: in some windows a strip along one side."""
    count, side, _ = labels.shape
    taken = torch.rand(count, generator=generator) < share
    width = torch.randint(1, side, (count,), generator=generator) if side > 1 else torch.zeros(count)
    turn = torch.randint(0, 4, (count,), generator=generator).tolist()
    absent = torch.zeros(count, side, side, dtype=torch.bool)
    for row in taken.nonzero()[:, 0].tolist():
        strip = torch.zeros(side, side, dtype=torch.bool)
        strip[: int(width[row])] = True
        absent[row] = strip.rot90(turn[row], dims=(0, 1))
    return absent
