"""Let all layers of a detector learn from corrected places, beside images that it has learnt from before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_metastasis.models import Detector
from napari_metastasis.models.tuning import TunedNetwork
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.settings import TrainSettings
from napari_metastasis.training.augment import turn_alike
from napari_metastasis.training.mosaic import dense_mosaic
from napari_metastasis.training.tasks.base import Batch, Fitting
from napari_metastasis.training.tasks.tune import TuneModule, TuneTask, crop_losses

__all__ = ["WholeModule", "WholeTask"]


@dataclass(frozen=True)
class WholeTask(TuneTask):
    """Train all layers of a detector that was tuned.

    Attributes
    ----------
    before
        The detector before any correction, as which earlier patches are to be answered.
    earlier
        These; each step takes a batch of them.
    """

    before: Detector
    earlier: BalancedPatches

    def identity(self) -> dict[str, Any]:
        """Return what a tuned detector's identity is, and what is not to be forgotten."""
        return {
            **super().identity(),
            "before_sha256": self.before.weights_sha256,
            "earlier_sha256": self.earlier.fingerprint,
        }

    def module(self, fitting: Fitting) -> WholeModule:
        """Return what Lightning trains."""
        return WholeModule(self, fitting)

    def kept_crops(self, settings: TrainSettings) -> int:
        """Return none: what lower layers that learn make of a crop changes with every step."""
        del settings
        return 0


class WholeModule(TuneModule):
    """Train on crops, N x 3 x H x W uint8."""

    task: WholeTask
    mean: Tensor
    std: Tensor

    def __init__(self, task: WholeTask, fitting: Fitting) -> None:
        super().__init__(task, fitting)
        self.register_buffer("mean", torch.tensor(task.spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(task.spec.std).view(1, 3, 1, 1), persistent=False)
        #: In a list: it does not learn, and no checkpoint holds it. So it is moved by hand, too.
        self._before = [TunedNetwork(task.before, whole=True).eval().requires_grad_(requires_grad=False)]

    def configure_network(self) -> TunedNetwork:
        """Return the detector, whose layers all learn."""
        return TunedNetwork(self.task.detector, whole=True).train()

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of crops with labels, N x K x K, and of earlier patches."""
        image, labels, *_ = batch
        seed = self.settings.seed * 1_000_003 + draw
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(seed)
        image, labels = turn_alike(image, labels, torch.Generator().manual_seed(seed))
        how = self.task.corrections
        corrected = crop_losses(self.network.log_odds(self._normalised(image)).float(), labels, how.hard_share)
        if not how.replay_weight:
            return corrected
        images = torch.from_numpy(self.task.earlier.batch(draw).images).permute(0, 3, 1, 2).to(image.device)
        spec = self.task.spec
        mosaic, apart = dense_mosaic(self._normalised(images), field_px=spec.field_px, stride_px=spec.stride_px)
        both = self.network, self._before[0].to(mosaic.device)
        now, before = (each.log_odds(mosaic).float()[:, ::apart, ::apart] for each in both)
        # What the model answered, not the labels: as with patches that were encoded.
        kept = nn.functional.binary_cross_entropy_with_logits(now, before.detach().sigmoid())
        return corrected + how.replay_weight * kept

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities and labels of all cells that are known, and the loss."""
        image, labels, *_ = batch
        return self.measured(self.averaged_network().log_odds(self._normalised(image)).float(), labels)

    def _normalised(self, image: Tensor) -> Tensor:
        return ((image.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
