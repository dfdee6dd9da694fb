"""How a model of mitoses is trained further: it learns what was corrected, and answers the rest as it did."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_metastasis.models import SegmentationNetwork, save_model
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.training.losses import point_map_cross_entropy
from napari_metastasis.training.tasks.base import Batch, Fitting
from napari_metastasis.training.tasks.mitosis import MitosisModule, MitosisTask, point_loss

__all__ = ["RetrainedModule", "RetrainedTask"]


@dataclass(frozen=True)
class RetrainedTask(MitosisTask):
    """Train a model of mitoses further; its contract stays.

    Attributes
    ----------
    said
        What its card says of the retraining.
    held_weight
        Of its earlier answers, to the second half of a batch, beside the corrections in the first; at 0 there is no
        second half.
    """

    said: Mapping[str, Any] = field(default_factory=dict)
    held_weight: float = 0.0

    def identity(self) -> dict[str, Any]:
        """Return the contract, what training begins with, and what is learnt and held how."""
        held = {"held_weight": self.held_weight} if self.held_weight else {}
        return {**super().identity(), **held}

    def module(self, fitting: Fitting) -> RetrainedModule:
        """Return what Lightning trains."""
        return RetrainedModule(self, fitting)

    def trained_on(self, training: BatchSource) -> RetrainedTask:
        """Return the task as it is: how densely slides are stained, few crops do not say."""
        del training
        return self

    def store(self, network: SegmentationNetwork, weights: Path, card: dict[str, Any]) -> None:
        """Store the network with the threshold that it had."""
        save_model(weights, network, self.spec, {**card, **self.began, **self.said})


class RetrainedModule(MitosisModule):
    """Train a model further, which normalises as it did: a few crops say little of all tissue."""

    task: RetrainedTask

    def configure_network(self) -> SegmentationNetwork:
        """Return the network, and keep what it begins as beside this module, so that no checkpoint holds it."""
        network = super().configure_network()
        self._earlier = [copy.deepcopy(network).eval().requires_grad_(requires_grad=False)]
        return network

    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of corrected mosaics, and of those that are to be answered as before, which lie behind."""
        if not self.task.held_weight:
            return super().loss(batch, draw)
        image, labels, pi, *_ = batch
        count = len(image) // 2
        seen, known = self.varied(batch, draw), labels >= 0
        odds = self._log_odds(self.network, seen)
        # Beside the module, it goes to no device by itself.
        earlier = self._earlier[0].to(seen.device)
        with torch.no_grad():
            before = self._log_odds(earlier, seen[count:]).sigmoid()
        learnt = point_loss(self.task.how)(odds[:count], pi[:count], known[:count])
        held = point_map_cross_entropy(odds[count:], before, known[count:], foreground=self.task.how.foreground)
        return learnt + self.task.held_weight * held

    def on_train_start(self) -> None:
        """Keep batch normalisation as it was measured."""
        super().on_train_start()
        for layer in self.network.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.eval()
