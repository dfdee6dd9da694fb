"""Patch classifiers as Lightning trains them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from napari_metastasis.errors import ModelError
from napari_metastasis.models import InitialWeights, ModelSpec, ScanNet, begin_with, build_scannet
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.equivariance import orientations_are_tied, tie_orientations, untie_orientations

__all__ = ["PatchClassifier", "PatchTraining", "one_cycle"]

#: Of the run, until the rate's peak. Not 0.2: torch divides by zero where that comes to one step.
_WARM_UP_SHARE = 0.201


def _ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return an exponential average that forgets faster at first: a short stage would else keep what it began with."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            # Counters, and the places that tied filters are copied from: there is no mean of these.
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(now)(averaged, current, steps)  # type: ignore[no-untyped-call]

    return update


def one_cycle(optimiser: torch.optim.Optimizer, peak: float, total_steps: int) -> dict[str, Any]:
    """Return an optimiser with a one-cycle schedule, as Lightning takes them."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=peak, total_steps=total_steps, pct_start=_WARM_UP_SHARE
    )
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PatchTraining(lightning.LightningModule):
    """Train any network that tells tumour from normal patches.

    The exponential average of the weights is what is validated and kept: it is steadier than the last step's.

    Parameters
    ----------
    network
        Patches N x 3 x H x W, normalised, to logits N x 2 or N x 2 x 1 x 1.
    settings
        How.
    augment
        How patches are varied.
    total_steps
        Optimiser steps of the whole run, which the one-cycle schedule spans.
    mean, std
        What normalises patches in 0..1, of each channel.
    tumour_class
        The logit of tumour.
    turn
        Vary patches by quarter turns and reflections as well.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainSettings,
        augment: AugmentSettings,
        *,
        total_steps: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        tumour_class: int = 1,
        turn: bool = True,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.total_steps = total_steps
        self.tumour_class = tumour_class
        self.network = network
        self.average = AveragedModel(self.network, multi_avg_fn=_ema(settings.ema_decay), use_buffers=True)
        # Never trained itself: several devices would wait for its gradients.
        self.average.requires_grad_(requires_grad=False)
        self.augment = Augmenter(augment, settings.seed, turn=turn)
        self.loss = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        self.auroc = BinaryAUROC()
        self.accuracy = BinaryAccuracy()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def _normalise(self, image: Tensor) -> Tensor:
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch: patches N x 3 x H x W uint8, labels N, and targets N."""
        del batch_index
        image, _, targets = batch
        # Of all devices: two of them must not vary their patches alike.
        draw = self.global_step * self.trainer.world_size + self.trainer.global_rank
        # Dropout draws from the global generator; seeded by the step, resumed training draws what it would have drawn.
        torch.manual_seed(self.settings.seed * 1_000_003 + draw)
        varied = self.augment(image.float() / 255, draw)
        of_class = [1 - targets, targets] if self.tumour_class == 1 else [targets, 1 - targets]
        loss: Tensor = self.loss(self.network(self._normalise(varied)).flatten(1), torch.stack(of_class, dim=1))
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        """Move the averaged weights one step along."""
        del args
        self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> None:
        """Score one batch with the averaged weights."""
        del batch_index
        image, label, _ = batch
        logits = self.average(self._normalise(image.float() / 255)).flatten(1).float()
        probability = logits.softmax(dim=1)[:, self.tumour_class]
        self.auroc.update(probability, label)
        self.accuracy.update(probability, label)
        # Labels say whether there is tumour, not which logit is its own.
        of_class = label if self.tumour_class == 1 else 1 - label
        loss = nn.functional.cross_entropy(logits, of_class)
        self.log("validation_loss", loss, batch_size=len(label), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's area under the curve and accuracy."""
        self.log("validation_auc", self.auroc.compute(), sync_dist=True)
        self.log("validation_accuracy", self.accuracy.compute(), sync_dist=True)
        self.auroc.reset()
        self.accuracy.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a one-cycle schedule; biases and normalisation are not decayed."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.settings.learning_rate,
        )
        return one_cycle(optimiser, self.settings.learning_rate, self.total_steps)


class PatchClassifier(PatchTraining):
    """Train a network of the ScanNet family on labelled patches.

    Parameters
    ----------
    spec
        What to train.
    settings
        How.
    augment
        How patches are varied.
    total_steps
        Optimiser steps of the whole run, which the one-cycle schedule spans.
    initial
        Weights that training begins with.

    Raises
    ------
    ModelError
        If the initial weights are of another architecture, or not tied in orientation while these are to be.
    """

    def __init__(
        self,
        spec: ModelSpec,
        settings: TrainSettings,
        augment: AugmentSettings,
        *,
        total_steps: int,
        initial: InitialWeights | None = None,
    ) -> None:
        network = build_scannet(spec.architecture)
        if initial is not None:
            _begin_with(network, spec, initial, tied=settings.tie_orientations)
        if settings.tie_orientations:
            tie_orientations(network)
        super().__init__(
            network,
            settings,
            augment,
            total_steps=total_steps,
            mean=spec.mean,
            std=spec.std,
            tumour_class=spec.tumour_class,
            turn=not settings.tie_orientations,
        )

    def finished_network(self) -> ScanNet:
        """Return an ordinary network with the averaged weights: what is kept."""
        network = self.average.module
        assert isinstance(network, ScanNet)
        return untie_orientations(network)


def _begin_with(network: ScanNet, spec: ModelSpec, initial: InitialWeights, *, tied: bool) -> None:
    if initial.architecture not in (None, spec.architecture):
        raise ModelError(
            f"expected initial weights of {spec.architecture}, got {initial.architecture}; "
            "choose another initial model or architecture"
        )
    begin_with(network, initial)
    if tied and not orientations_are_tied(network):
        raise ModelError(
            f"expected initial weights that were trained with tied orientations, got {initial.name}, whose "
            "filters are free; add --no-tie-orientations"
        )
