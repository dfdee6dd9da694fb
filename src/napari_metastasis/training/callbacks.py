"""What is watched while Lightning trains: broken weights, the best epoch, signals, and waiting for patches."""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from napari_metastasis.errors import TrainingError

__all__ = ["EndSoon", "KeepBest", "Onlooker", "StopOnNaN", "WaitShare", "Watch"]


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody who looks on while a run trains.

    Attributes
    ----------
    on_step
        Called with (steps taken, steps in all).
    on_epoch
        Called with an epoch's number, from 0, and its figures.
    should_end
        Asked after every step.
    """

    on_step: Callable[[int, int], None]
    on_epoch: Callable[[int, Mapping[str, float]], None]
    should_end: Callable[[], bool]


class StopOnNaN(lightning.Callback):
    """Stop before broken weights replace the last good checkpoint of a run, ``last``."""

    def __init__(self, last: Path) -> None:
        self.last = last

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Check the loss of a step."""
        del pl_module, args
        if not math.isfinite(float(outputs["loss"])):
            raise self._error(f"a finite loss, got {float(outputs['loss'])} at step {trainer.global_step}")

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check the averaged weights of an epoch."""
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
        # Checkpoints of earlier versions call it best_auc.
        return {"best_auc": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a checkpoint kept."""
        self.best, self.weights = state_dict["best_auc"], state_dict["weights"]


class EndSoon(lightning.Callback):
    """End soon once the program was told to, or has failed: signals are handled as outside, and nothing is awaited."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)
        self._others = set(multiprocessing.active_children())

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the handler of SIGTERM back: Lightning's, just put there, waits for devices that may not answer."""
        del trainer, pl_module
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """End the processes that read: torch waits for each until it has finished what it is at."""
        del trainer, pl_module, exception
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            # Torch raises an error when one of them dies, wherever the program is by then.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in set(multiprocessing.active_children()) - self._others:
            worker.terminate()


class Onlooker(lightning.Callback):
    """Tell somebody how training goes, and end it when they ask: what was learnt until then is kept.

    Parameters
    ----------
    watch
        Whom to tell, and to ask.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Tell the step, and ask whether to end."""
        del pl_module, args
        self.watch.on_step(trainer.global_step, int(trainer.estimated_stepping_batches))
        if self.watch.should_end():
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the figures of the epoch."""
        del pl_module
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.watch.on_epoch(trainer.current_epoch, figures)


class WaitShare(lightning.Callback):
    """Log the share of an epoch that the device spent waiting for patches, once the first batch has come."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.begun = self.ended = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Count what has passed since the last step."""
        del trainer, pl_module
        now, number = time.perf_counter(), args[-1]
        if number == 0:
            # The workers are starting: no step is warm yet.
            self.waited, self.begun = 0.0, now
        else:
            self.waited += now - self.ended

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Remember when the step ended."""
        del trainer, pl_module, args
        self.ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the epoch's share."""
        del trainer
        seconds = self.ended - self.begun
        pl_module.log("wait_share", self.waited / seconds if seconds > 0 else 0.0, sync_dist=True)
