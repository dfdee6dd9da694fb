"""How Lightning is set up here: checkpoints that survive a kill, quiet logs, batches by number."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_metastasis.errors import DeviceError, MetastasisError, TrainingError
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.scanning import computes_bfloat16, resolve_devices
from napari_metastasis.settings import TrainSettings
from napari_metastasis.storage import atomic_write

__all__ = [
    "LAST",
    "SETTINGS",
    "BatchNumbers",
    "KeepBest",
    "batch_loader",
    "check_devices",
    "make_trainer",
    "plain_errors",
    "quiet_lightning",
    "was_stopped_early",
]

#: Files of a run folder: the epoch that ended last, and what the run was told.
LAST, SETTINGS = "last.ckpt", "settings.json"


class _Batches(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches as torch's loaders want them: number to N x 3 x H x W uint8, labels N, and targets, N float32."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        batch = self.source.batch(number)
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(batch.labels), torch.from_numpy(batch.targets)


class BatchNumbers(Sampler[int]):
    """The numbers of an epoch's batches; of several devices, each takes its own.

    Attributes
    ----------
    per_epoch
        Batches in an epoch, over all devices.
    epoch
        The epoch that comes next; Lightning sets it.
    """

    def __init__(self, per_epoch: int, *, epoch: int = 0) -> None:
        self.per_epoch = per_epoch
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    @staticmethod
    def _rank() -> tuple[int, int]:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        return self.per_epoch // self._rank()[1]

    def __iter__(self) -> Iterator[int]:
        rank, devices = self._rank()
        first = self.epoch * self.per_epoch
        return iter(range(first + rank, first + len(self) * devices, devices))


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there: Lightning's writer copies between disks, and a kill cuts that short."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        del storage_options
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


class _StopOnNaN(lightning.Callback):
    """Stop before broken weights replace the last good checkpoint of the run in ``output``."""

    def __init__(self, output: Path) -> None:
        self.last = output / LAST

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        del pl_module, args
        if not math.isfinite(float(outputs["loss"])):
            raise self._error(f"a finite loss, got {float(outputs['loss'])} at step {trainer.global_step}")

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # The loss is that of the weights before the step: what an epoch's last step broke shows in no loss of it.
        # Lightning validates an epoch before it stores it.
        average = pl_module.get_submodule("average").state_dict()
        broken = [name for name, tensor in average.items() if not bool(torch.isfinite(tensor).all())]
        if broken:
            raise self._error(f"finite weights, got others in {broken[0]} after step {trainer.global_step}")

    def _error(self, what: str) -> TrainingError:
        beginning = f", --initial {self.last}" if self.last.exists() else ""
        return TrainingError(f"expected {what}; train in a new --output{beginning} and with a lower --learning-rate")


class KeepBest(lightning.Callback):
    """Remember the averaged weights of the best epoch, within the checkpoint of the last: neither is without the other.

    Parameters
    ----------
    figure
        What decides, the higher the better.

    Attributes
    ----------
    best
        What the best epoch reached.
    weights
        The average's state, on the processor; empty before the first epoch.
    """

    def __init__(self, figure: str) -> None:
        self.figure = figure
        self.best = -math.inf
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare the epoch with the best one."""
        reached = float(trainer.callback_metrics[self.figure])
        if reached > self.best:
            self.best = reached
            average = pl_module.get_submodule("average")
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in average.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        # The name of the time when there was one figure.
        return {"best_auc": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a checkpoint kept."""
        self.best, self.weights = state_dict["best_auc"], state_dict["weights"]


class _WaitShare(lightning.Callback):
    """Log the share of an epoch that the device spent waiting for patches, once the first batch has come."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.begun = self.ended = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        del trainer, pl_module
        now, number = time.perf_counter(), args[-1]
        if number == 0:
            # The workers are starting: no step is warm yet.
            self.waited, self.begun = 0.0, now
        else:
            self.waited += now - self.ended

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        del trainer, pl_module, args
        self.ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del trainer
        seconds = self.ended - self.begun
        pl_module.log("wait_share", self.waited / seconds if seconds > 0 else 0.0, sync_dist=True)


def check_devices(settings: TrainSettings) -> None:
    """Refuse more devices than there are, before anything is written.

    Raises
    ------
    DeviceError
        If this machine has fewer. Processes of a processor may be any number.
    """
    if settings.devices == 1 or settings.device == "cpu":
        return
    first = int(settings.device.partition(":")[2] or 0)
    there = max(0, torch.cuda.device_count() - first) if settings.device != "mps" else 1
    if there < settings.devices:
        raise DeviceError(
            f"expected {settings.devices} GPUs for --devices {settings.devices}, got {there} of --device "
            f"{settings.device}; lower the number of devices"
        )


def make_trainer(output: Path, settings: TrainSettings, figure: str, *, progress: bool) -> lightning.Trainer:
    """Return a trainer that stores every epoch in ``output``; with patience, it stops when ``figure`` rises no more."""
    accelerator, devices = _accelerator(settings)
    # Saved when the epoch is over, not at its validation: else the counters of a resumed run lag one epoch.
    callbacks: list[lightning.Callback] = [
        ModelCheckpoint(
            dirpath=output,
            filename=Path(LAST).stem,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        _StopOnNaN(output),
        _WaitShare(),
    ]
    if settings.patience:
        callbacks += [
            EarlyStopping(figure, mode="max", patience=settings.patience, check_on_train_epoch_end=True),
            KeepBest(figure),
        ]
    if progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=_precision(settings),
        max_epochs=settings.epochs,
        logger=CSVLogger(output, name="log"),
        callbacks=callbacks,
        # Said, or Lightning would take a cluster's job for its own processes, each of them the first.
        plugins=[_AtomicCheckpoints(), LightningEnvironment()],
        enable_progress_bar=progress,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )


def was_stopped_early(checkpoint: dict[str, Any]) -> bool:
    """Return whether training had ended for want of gain when this was stored."""
    callbacks: dict[str, dict[str, Any]] = checkpoint["callbacks"]
    return any(name.startswith(EarlyStopping.__name__) and state["stopped_epoch"] for name, state in callbacks.items())


def batch_loader(
    source: BatchSource, settings: TrainSettings, numbers: BatchNumbers | range
) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """Return a loader of the batches of these numbers, whose workers make them ahead of the device."""
    return DataLoader(
        _Batches(source),
        batch_size=None,
        sampler=numbers,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=settings.prefetch if settings.workers else None,
        pin_memory=torch.cuda.is_available() and settings.device != "cpu",
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to developers away from users; its errors still come through."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The number of workers is a setting; the run folder is meant to hold an earlier run, and may have been
            # moved; the last is about Lightning's own use of torch.
            for advice in (
                ".*num_workers.*",
                ".*pin_memory.*",
                "Checkpoint directory .*",
                "The dirpath has changed .*",
                ".*LeafSpec.*",
            ):
                warnings.filterwarnings("ignore", message=advice)
            warnings.simplefilter("ignore", PossibleUserWarning)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Give errors their own line back, which torch wraps in a worker's traceback, and Ctrl-C its own meaning."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        # Lightning ends the whole process on Ctrl-C; whether to, and with which status, is the caller's to say.
        if isinstance(ended.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise
    except MetastasisError as error:
        if "\n" not in str(error):
            raise
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from error


def _accelerator(settings: TrainSettings) -> tuple[str, Any]:
    device = settings.device
    if device in {"auto", "cpu", "mps"}:
        return device, settings.devices
    first = int(device.partition(":")[2] or 0)
    return "gpu", list(range(first, first + settings.devices))


def _precision(settings: TrainSettings) -> Any:
    precision = settings.precision
    if precision == "auto":
        devices = resolve_devices(settings.device)[: settings.devices]
        precision = "bfloat16" if all(map(computes_bfloat16, devices)) else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
