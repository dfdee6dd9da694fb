"""How Lightning is set up here: checkpoints that survive a kill, quiet logs, batches by number."""

from __future__ import annotations

import logging
import signal
import sys
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

from napari_metastasis.errors import DeviceError, MetastasisError
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.scanning import computes_bfloat16, resolve_devices
from napari_metastasis.settings import TrainSettings
from napari_metastasis.storage import atomic_write
from napari_metastasis.training.callbacks import EndSoon, KeepBest, Onlooker, StopOnNaN, WaitShare, Watch

__all__ = [
    "LAST",
    "SETTINGS",
    "BatchNumbers",
    "batch_loader",
    "check_devices",
    "make_trainer",
    "plain_errors",
    "quiet_lightning",
    "training_precision",
    "was_stopped_early",
]

#: Files of a run folder: the epoch that ended last, and what the run was told.
LAST, SETTINGS = "last.ckpt", "settings.json"


class _Batches(Dataset[tuple[Tensor, ...]]):
    """Batches as torch's loaders want them: number to N x 3 x H x W uint8, labels, targets float32, attention N.

    Where networks need them, the dyes of each image's slide follow, N x 8 float32.
    """

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        batch = self.source.batch(number)
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).contiguous()
        others = (batch.labels, batch.targets, batch.attention, *([batch.stains] if len(batch.stains) else []))
        return images, *map(torch.from_numpy, others)


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


def make_trainer(
    output: Path, settings: TrainSettings, figure: str, *, progress: bool, watch: Watch | None = None
) -> lightning.Trainer:
    """Return a trainer that stores every epoch in ``output``; with patience, it stops when ``figure`` rises no more."""
    accelerator, devices = _accelerator(settings)
    # In a file, rich would write the bar once, at the end, beside the line of what ended it.
    progress = progress and sys.stderr.isatty()
    # Saved when the epoch is over, not at its validation: else the counters of a resumed run lag one epoch.
    callbacks: list[lightning.Callback] = [
        ModelCheckpoint(
            dirpath=output,
            filename=Path(LAST).stem,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        StopOnNaN(output / LAST),
        EndSoon(),
        WaitShare(),
    ]
    if settings.patience:
        callbacks += [
            EarlyStopping(figure, mode="max", patience=settings.patience, check_on_train_epoch_end=True),
            KeepBest(figure),
        ]
    if watch is not None:
        callbacks.append(Onlooker(watch))
    if progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=training_precision(settings),
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
) -> DataLoader[tuple[Tensor, ...]]:
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
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
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
                # What people corrected may be of one class.
                "No (positive|negative) samples in targets.*",
            ):
                warnings.filterwarnings("ignore", message=advice)
            warnings.simplefilter("ignore", PossibleUserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
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


def training_precision(settings: TrainSettings) -> Any:
    """Return the precision of training, as Lightning calls it."""
    precision = settings.precision
    if precision == "auto":
        devices = resolve_devices(settings.device)[: settings.devices]
        precision = "bfloat16" if all(map(computes_bfloat16, devices)) else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
