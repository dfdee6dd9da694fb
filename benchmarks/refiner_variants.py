"""Refiners that differ in one thing, trained on the same windows, which are encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_metastasis.evaluation.resampling import Resamples
from napari_metastasis.models import Detector, SpatialNetwork
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.settings import (
    AugmentSettings,
    EvaluationSettings,
    GridSettings,
    SpatialTrainSettings,
)
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.lightning_setup import quiet_lightning
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.encoders import FixedEncoder
from napari_metastasis.training.tasks.refine import RefinerTask, refiner_behind

#: How finely log-odds are told apart where they are counted, and between which.
_BINS, _ODDS = 8192, (-20.0, 20.0)
#: Windows in a batch, of those that are encoded and of those that are trained on.
BATCH = 32
#: Grids of 8 x 8 patches, each two strides from the next: 0.25 mm, and as much of a window in every variant.
_GRID = {"grid": 8, "grid_step": 2, "window_step": 4}
_ALONE = {"grid": 1, "grid_step": 16, "window_step": 1}
_SHARED = {"hidden": 32, "projected": 31, "residual": True}
#: What :data:`AVERAGED` is called in the tables.
AVERAGING = "its log-odds, averaged over neighbours"
#: Not trained at all: a refiner begins with the encoder's log-odds, averaged over 5 x 5 patches by a Gaussian.
AVERAGED = GridSettings(**_SHARED, **_GRID, order="raster-four", smoothing=5)  # type: ignore[arg-type]
#: What is read, how, and the weight of the spatial loss.
VARIANTS: dict[str, tuple[dict[str, Any], float]] = {
    "each patch alone, trained on the same": ({**_ALONE, "order": "raster-four"}, 0.0),
    "LSTM, line by line": ({**_GRID, "order": "raster"}, 0.0),
    "LSTM, line by line, spatial loss": ({**_GRID, "order": "raster"}, 1.0),
    "lines and columns, both ways": ({**_GRID, "order": "raster-four"}, 0.0),
    "lines and columns, both ways, spatial loss": ({**_GRID, "order": "raster-four"}, 1.0),
    "every row, then every column, spatial loss": ({**_GRID, "order": "rows-columns"}, 1.0),
    "lines and columns, both ways, spatial loss, averaged": ({**_GRID, "order": "raster-four", "smoothing": 5}, 1.0),
    "the same, half as many units and features": (
        {**_GRID, "order": "raster-four", "smoothing": 5, "hidden": 16, "projected": 15},
        1.0,
    ),
}
#: What all of them share: not the paper's optimiser, which is for an encoder that learns along.
TRAINING: dict[str, Any] = {"optimiser": "adamw", "learning_rate": 0.003, "batch_size": BATCH, "ema_decay": 0.99}
#: Varied as the patches are that the encoder learnt from, but for what would move cells off their labels.
AUGMENTATION = AugmentSettings(
    affine_share=0.0, stain=0.5, hue=0.1, background=0.1, exposure=0.2, density_share=0.4, channel_gain=0.25
)


def grid_settings(variant: str) -> GridSettings:
    """Return what a variant reads, and how."""
    return GridSettings(**(_SHARED | VARIANTS[variant][0]))


def training_settings(variant: str) -> SpatialTrainSettings:
    """Return how a variant is trained."""
    return SpatialTrainSettings(**TRAINING, beta=VARIANTS[variant][1])


def task_behind(model: Detector, grid: GridSettings, name: str = "ablation") -> RefinerTask:
    """Return what trains a refiner behind a model, for scans as they are by default."""
    return refiner_behind(model, name, grid, model.spec.dense_coefficient)


def only_averaging(model: Detector) -> SpatialNetwork:
    """Return the refiner that is not trained, and averages log-odds."""
    return SpatialNetwork(task_behind(model, AVERAGED).spec).eval()


@dataclass(frozen=True)
class Encoded:
    """Windows as a model encodes them: N x (1 + C) x K x K, log-odds first, and labels N x K x K."""

    features: Tensor
    labels: Tensor


def together(parts: Sequence[Encoded]) -> Encoded:
    """Return all windows of several."""
    return Encoded(torch.cat([part.features for part in parts]), torch.cat([part.labels for part in parts]))


class Draws(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches of stored windows, each depending on its number alone."""

    def __init__(self, encoded: Encoded, settings: SpatialTrainSettings, steps: int) -> None:
        self._encoded, self._settings, self._steps = encoded, settings, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        draws = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + number)
        rows = torch.randint(0, len(self._encoded.labels), (self._settings.batch_size,), generator=draws)
        return self._encoded.features[rows].float(), self._encoded.labels[rows].long(), torch.zeros(len(rows))


def encode(task: RefinerTask, source: BatchSource, batches: int) -> Encoded:
    """Encode the first batches of crops, varied as in training."""
    encoder = FixedEncoder(task.model, task.spec.dense_coefficient)
    varied = Augmenter(AUGMENTATION, 0, turn=False)
    features, labels = [], []
    for number in range(batches):
        batch = source.batch(number)
        image = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            log_odds, hidden = encoder(varied(image / 255, number) * 255)
        features.append(torch.cat([log_odds[:, None], hidden.permute(0, 3, 1, 2)], dim=1).half())
        labels.append(torch.from_numpy(batch.labels))
    return Encoded(torch.cat(features), torch.cat(labels))


def train(task: RefinerTask, encoded: Encoded, settings: SpatialTrainSettings, steps: int) -> SpatialNetwork:
    """Return a refiner that was trained on stored windows, by the same steps as any other."""
    lightning.seed_everything(settings.seed, verbose=False)
    kept = replace(settings, kept_crops=len(encoded.labels))
    module = task.module(Fitting(kept, AUGMENTATION, steps))
    with quiet_lightning():
        trainer = lightning.Trainer(
            max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", gradient_clip_val=1.0,
        )  # fmt: skip
        trainer.fit(module, DataLoader(Draws(encoded, settings, steps), batch_size=None))
    return module.finished_network().spatial.eval().requires_grad_(requires_grad=False)


def counted(scores: NDArray[np.float32], is_tumour: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many scores of normal, then of tumour, lie in each of the bins that log-odds are told apart by."""
    odds = np.clip(logit(scores.astype(np.float64)), *_ODDS)
    return np.concatenate([np.histogram(odds[is_tumour == label], _BINS, _ODDS)[0] for label in (False, True)])


def auc_of(drawn: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return areas under the curve, (k,), of samples (k, n) of n units, each counted by :func:`counted`."""
    normal, tumour = np.split((drawn @ counts).astype(np.float64), 2, axis=1)
    below = np.cumsum(normal, axis=1) - normal / 2
    return np.asarray((tumour * below).sum(axis=1) / (normal.sum(axis=1) * tumour.sum(axis=1)))


def resampled(units: NDArray[np.int64]) -> Resamples:
    """Return samples of units with replacement, each group by itself, as often as reports have them."""
    scoring = EvaluationSettings()
    return Resamples(units, number=scoring.resamples, seed=scoring.seed)
