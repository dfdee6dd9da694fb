"""Tune the upper layers of a detector on corrected places, beside patches that it has learnt from before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_metastasis.models import Detector, ModelSpec, save_model
from napari_metastasis.models.replay import Replay
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.settings import CorrectionSettings, TrainSettings
from napari_metastasis.training.encoded import Encoding, encode_batches
from napari_metastasis.training.tasks.base import Batch, Fitting, TaskModule, TrainingTask

__all__ = ["TuneModule", "TuneTask", "balanced", "crop_losses"]


#: Earlier patches that are answered at a time.
_TOGETHER = 64


@dataclass(frozen=True)
class TuneTask(TrainingTask[TunedNetwork]):
    """Tune a detector.

    Attributes
    ----------
    spec
        Contract of what comes out: the detector's, under another name.
    detector
        To begin with.
    corrections
        How crops weigh, and how large they are.
    replay
        What it is not to forget; ``None`` where that is not known.
    said
        What its card says besides what training says.
    """

    spec: ModelSpec
    detector: Detector
    corrections: CorrectionSettings
    replay: Replay | None
    said: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """Return both contracts' weights, and how corrections count."""
        return {
            **super().identity(),
            "initial_sha256": self.detector.weights_sha256,
            "corrections": self.corrections.told(),
            "replay_sha256": None if self.replay is None else self.replay.sha256,
        }

    def module(self, fitting: Fitting) -> TuneModule:
        """Return what Lightning trains."""
        return TuneModule(self, fitting)

    def kept_crops(self, settings: TrainSettings) -> int:
        """Return more than there are: all crops are encoded once."""
        del settings
        return 1

    def encoded(self, source: BatchSource, batch_size: int, how: Encoding) -> BatchSource:
        """Return a source's crops as the lower layers encode them."""
        return encode_batches(LowerLayers(self.detector), source, batch_size, how)

    def store(self, network: TunedNetwork, weights: Path, card: dict[str, Any]) -> None:
        """Store the whole detector, whose card names what it was made from."""
        save_model(weights, network.network, self.spec, {**card, **self.said})


class TuneModule(TaskModule[TunedNetwork]):
    """Train on encoded crops."""

    task: TuneTask

    @property
    def turns(self) -> bool:
        """Return no: features are not turned."""
        return False

    def configure_network(self) -> TunedNetwork:
        """Return the detector, whose upper layers learn."""
        network = TunedNetwork(self.task.detector)
        replay = self.task.replay
        if replay is not None:
            parts = np.array_split(np.arange(len(replay)), -(-len(replay) // _TOGETHER))
            with torch.no_grad():
                answers = [network.eval().log_odds(replay.images(part)).flatten() for part in parts]
            #: Probabilities that the detector gave its earlier patches.
            self.earlier = torch.cat(answers).sigmoid()
        return network.train()

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of encoded crops, N x C x H x W, with labels N x K x K, and of replayed patches."""
        features, labels, *_ = batch
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(self.settings.seed * 1_000_003 + draw)
        how, replay = self.task.corrections, self.task.replay
        corrected = crop_losses(self.network.log_odds(features.float()), labels, how.hard_share)
        if replay is None or not how.replay_weight:
            return corrected
        rows = balanced(replay.labels, how.replayed_patches, np.random.default_rng([self.settings.seed, draw]))
        now = self.network.log_odds(replay.images(rows).to(features.device)).flatten()
        # What the model answered, not the labels: few patches would be learnt by heart, and tell nothing more.
        kept = nn.functional.binary_cross_entropy_with_logits(now, self.earlier[rows].to(now.device))
        return corrected + how.replay_weight * kept

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities and labels of all cells that are known, and the loss."""
        features, labels, *_ = batch
        return self.measured(self.averaged_network().log_odds(features.float()), labels)

    @staticmethod
    def measured(log_odds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities and labels of cells that are known, and the loss, of N x K x K of both."""
        known = labels >= 0
        return log_odds.sigmoid()[known], labels[known], crop_losses(log_odds, labels, 0.0)


def crop_losses(log_odds: Tensor, labels: Tensor, hard: float) -> Tensor:
    """Return the mean over crops of the mean cross-entropy of their known cells; 0 where no cell is known.

    Parameters
    ----------
    log_odds, labels
        N x K x K; labels below 0 are not known.
    hard
        A crop weighs ``1 - hard`` and ``hard`` times its loss over the mean loss of the crops.
    """
    known = (labels >= 0).float()
    losses = nn.functional.binary_cross_entropy_with_logits(
        log_odds, labels.clamp_min(0).to(log_odds.dtype), reduction="none"
    )
    cells = known.sum(dim=(1, 2))
    crops = (losses * known).sum(dim=(1, 2)) / cells.clamp_min(1)
    counted = (cells > 0).float()
    if hard:
        mean = (crops.detach() * counted).sum() / counted.sum().clamp_min(1)
        counted = counted * (1 - hard + hard * crops.detach() / mean.clamp_min(1e-6))
    return (crops * counted).sum() / counted.sum().clamp_min(1e-6)


def balanced(labels: np.ndarray[Any, Any], count: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the numbers of so many patches, half of them of each class where there are both."""
    present = [numbers for label in (0, 1) if len(numbers := np.flatnonzero(labels == label))]
    return np.concatenate([generator.choice(numbers, -(-count // len(present))) for numbers in present])
