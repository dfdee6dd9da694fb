"""What every task has in common: what is trained, in which stages, how one step is made, and what is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from napari_metastasis.models.inputs import NetworkInput
from napari_metastasis.sampling.batches import BatchSource, PatchBatch
from napari_metastasis.sampling.crops import Crop, PatchCrop
from napari_metastasis.sampling.locations import PatchPixels
from napari_metastasis.settings import AugmentSettings, BoostingSettings, MiningSettings, TrainSettings
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.encoded import Encoding

__all__ = ["Batch", "Fitting", "Stage", "TaskModule", "TrainingTask", "one_cycle"]

#: Images N x 3 x H x W uint8, their labels, the targets that are learnt, and the weights that they were drawn by, N;
#: then, for networks that need them, the dyes of their slides, N x 8.
Batch = tuple[Tensor, ...]
Network = TypeVar("Network", bound=nn.Module)

#: Of the run, until the rate's peak. Not 0.2: torch divides by zero where that comes to one step.
_WARM_UP_SHARE = 0.201
#: Place of the dyes in a batch.
_STAINS = 4


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a network is fitted.

    Attributes
    ----------
    settings, augment
        How to train, and how images are varied.
    total_steps
        Optimiser steps of the whole run, which the one-cycle schedule spans.
    """

    settings: TrainSettings
    augment: AugmentSettings
    total_steps: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the trainings that follow each other in a run on a cohort.

    Attributes
    ----------
    folder
        Name of its folder within the run folder.
    settings
        How to train.
    round
        Number of the round of mining, or of boosting, before it; 0 for none.
    """

    folder: str
    settings: TrainSettings
    round: int = 0


class TrainingTask(ABC, Generic[Network]):
    """What is trained, and how it is stored. Picklable: every device has its own."""

    #: What is measured on the validation data after every epoch; the first says which epoch is the best.
    metrics: ClassVar[tuple[str, ...]] = ("auc", "accuracy")
    #: What comes before later stages, and what a card calls the numbers of what was found.
    round_word: ClassVar[str] = "mining"
    found_word: ClassVar[str] = "mined"
    #: What a card says that its model is for.
    intended_use: ClassVar[str] = (
        "Research. Finding candidates for breast-cancer metastases in H&E-stained lymph-node slides."
    )
    #: How crops are boosted between stages; ``None`` where false positives are mined.
    boosting: BoostingSettings | None = None
    #: Contract of what comes out: it has a name, and can be written as JSON.
    spec: Any

    @property
    def name(self) -> str:
        """Return the name of what comes out."""
        return str(self.spec.name)

    @property
    def patches(self) -> PatchPixels:
        """Return resolution and size of the patches that are drawn; by default those of what comes out."""
        spec: PatchPixels = self.spec
        return spec

    @property
    def network_input(self) -> NetworkInput:
        """Return what the network reads of colours; by default colours as they are."""
        return NetworkInput()

    @property
    def crop(self) -> Crop:
        """Return what is cropped around each patch; the patch alone by default."""
        return PatchCrop(self.patches.patch_px)

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights besides settings and data, as plain values; by default the contract."""
        return {"spec": self.spec.to_json()}

    @abstractmethod
    def module(self, fitting: Fitting) -> TaskModule[Network]:
        """Return what Lightning trains."""

    def trained_on(self, training: BatchSource) -> TrainingTask[Network]:
        """Return the task whose contract says what has to be known of what it was trained on; by default itself."""
        del training
        return self

    @abstractmethod
    def store(self, network: Network, weights: Path, card: dict[str, Any]) -> None:
        """Store the averaged network, whole or not at all."""

    def kept_crops(self, settings: TrainSettings) -> int:
        """Return how many crops are encoded once, before a stage; by default 0: all anew, in every step."""
        del settings
        return 0

    def encoded(self, source: BatchSource, batch_size: int, how: Encoding) -> BatchSource:
        """Return a source's crops as a finished encoder encodes them, of a task that does so."""
        raise NotImplementedError(f"expected a task with a finished encoder for {source} in {how.folder}, got another")

    def shares(self, weights: Path, batches: Iterable[PatchBatch], device: str) -> Iterator[tuple[float, float]]:
        """Yield the share of tumour in each crop, and of what a model answers wrongly; of a task that boosts."""
        raise NotImplementedError(
            f"expected a task that boosts crops, got another for {weights} on {device}: {batches}"
        )

    def stages(self, settings: TrainSettings, mining: MiningSettings) -> tuple[Stage, ...]:
        """Return the stages of a run on a cohort; by default one, without hard negatives."""
        del mining
        return (Stage("stage-0", settings),)

    def mined_with(self, output: Path, before: Path | None) -> Path:
        """Return the weights of the model whose false positives are mined: by default those of the stage before."""
        del output
        assert before is not None, "a task that mines before its first stage says with which model"
        return before

    def continued(self, weights: Path) -> TrainingTask[Network]:
        """Return the task that begins with the weights of the stage before."""
        raise NotImplementedError(f"expected a task of one stage, got more; say how it goes on from {weights}")

    def check_folder(self, output: Path, rounds: int) -> None:
        """Refuse a run folder whose result ``rounds`` of mining must not replace; none by default."""

    def finish(self, weights: Path, output: Path, mined: Sequence[int]) -> Path:
        """Return the weights of the run, made of those of its last stage and the numbers that were mined."""
        del output, mined
        return weights

    def results(self, weights: Path) -> tuple[Path, ...]:
        """Return all weights that a run leaves, in the order in which a user's collection takes them."""
        return (weights,)


def _ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return an exponential average that forgets faster at first: a short stage would else keep what it began with."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            # Counters, and the sources that tied filters are copied from: there is no mean of these.
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(now)(averaged, current, steps)  # type: ignore[no-untyped-call]

    return update


def one_cycle(optimiser: torch.optim.Optimizer, peak: float | list[float], total_steps: int) -> dict[str, Any]:
    """Return an optimiser with a one-cycle schedule, of one peak or one for each group, as Lightning takes them."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=peak, total_steps=total_steps, pct_start=_WARM_UP_SHARE
    )
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TaskModule(lightning.LightningModule, Generic[Network]):
    """Train the network of a task; a kind of it says how the network is made, what its loss is, and what is measured.

    The exponential average of the weights is what is measured and kept: it is steadier than the last step's. Not
    Lightning's own callback: in a checkpoint that puts the average under the network's names, so that no run of an
    earlier version could go on, and it averages a copy of the whole module, a finished encoder and all.

    Parameters
    ----------
    task
        What is trained.
    fitting
        How.
    """

    def __init__(self, task: Any, fitting: Fitting) -> None:
        super().__init__()
        self.task = task
        self.settings = fitting.settings
        self.total_steps = fitting.total_steps
        self.network = self.configure_network()
        self.average = AveragedModel(self.network, multi_avg_fn=_ema(self.settings.ema_decay), use_buffers=True)
        # Never trained itself: several devices would wait for its gradients.
        self.average.requires_grad_(requires_grad=False)
        self.augment = Augmenter(fitting.augment, self.settings.seed, turn=self.turns)
        self.metrics = MetricCollection(self.configure_metrics(), prefix="validation_", compute_groups=False)

    @property
    def turns(self) -> bool:
        """Return whether images are varied by quarter turns and reflections as well, apart from their labels."""
        return True

    @abstractmethod
    def configure_network(self) -> Network:
        """Return the network to train, with the weights that it begins with."""

    def configure_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Return what is measured on the validation data, by the names of the task."""
        of_two_classes = {"auc": BinaryAUROC(), "accuracy": BinaryAccuracy()}
        return {name: of_two_classes[name] for name in self.task.metrics}

    @abstractmethod
    def loss(self, batch: Batch, draw: int) -> Tensor:
        """Return the loss of a batch; ``draw``, another for each step and device, seeds all that is random."""

    @abstractmethod
    def measure(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return what metrics compare, answers of the averaged weights and labels, and the loss."""

    def seen(self, image: Tensor, batch: Batch) -> Tensor:
        """Return what the network reads of a batch's images, N x 3 x H x W in 0..1, which may have been varied.

        Returns
        -------
        N x channels x H x W in 0..1, as a scan reads them, before they are normalised.
        """
        network_input: NetworkInput = self.task.network_input
        return network_input.of_images(image * 255, batch[_STAINS]) / 255 if network_input.needs_stains else image

    def averaged_network(self) -> Network:
        """Return the network with the averaged weights."""
        return cast("Network", self.average.module)

    def finished_network(self) -> Network:
        """Return what is kept."""
        return self.averaged_network()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        del batch_index
        # Of all devices: two of them must not vary their images alike.
        loss = self.loss(batch, self.global_step * self.trainer.world_size + self.trainer.global_rank)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        return loss

    def on_train_batch_end(self, *args: Any) -> None:
        """Move the averaged weights one step along."""
        del args
        self.average.update_parameters(self.network)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure the averaged weights on one batch."""
        del batch_index
        answers, labels, loss = self.measure(batch)
        # Where nothing is known of a batch there is nothing to compare.
        if len(labels):
            self.metrics.update(answers, labels)
        self.log("validation_loss", loss, batch_size=len(batch[0]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured in the epoch."""
        self.log_dict(self.metrics.compute(), sync_dist=True)
        self.metrics.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a one-cycle schedule; biases and normalisation are not decayed."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.settings.learning_rate,
        )
        return one_cycle(optimiser, self.settings.learning_rate, self.total_steps)
