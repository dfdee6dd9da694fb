"""Fit a network to batches in a run folder; what was stopped goes on from its last epoch."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from napari_metastasis.errors import TrainingError, first_line
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.settings import TrainSettings
from napari_metastasis.storage import storage_errors
from napari_metastasis.training.callbacks import KeepBest, Watch
from napari_metastasis.training.lightning_setup import (
    LAST,
    BatchNumbers,
    batch_loader,
    make_trainer,
    plain_errors,
    quiet_lightning,
    was_stopped_early,
)
from napari_metastasis.training.tasks.base import TaskModule

__all__ = ["fit"]


def fit(
    module: TaskModule[Any],
    training: BatchSource,
    validation: BatchSource,
    output: Path,
    settings: TrainSettings,
    *,
    progress: bool,
    watch: Watch | None = None,
) -> dict[str, float]:
    """Train on one device, this process's own, and leave the weights that are kept in ``module.average``.

    Parameters
    ----------
    module
        What to train, seeded.
    training, validation
        Batches; the second is measured after every epoch.
    output
        Run folder, of ``last.ckpt`` and ``log``. A checkpoint found there goes on.
    settings
        How to train.
    progress
        Show a progress bar on standard error.
    watch
        Who looks on, and may end it early.

    Returns
    -------
    dict
        What was measured of the weights that are kept, ``validation_auc`` and others.

    Raises
    ------
    TrainingError
        If the loss or the weights are no longer finite, or a checkpoint found there is damaged; it stays what it was.
    StorageError
        If the folder cannot be written.
    """
    last = output / LAST
    figures = [f"validation_{name}" for name in module.task.metrics]
    # The logger writes as well, and knows nothing of remedies.
    with quiet_lightning(), plain_errors(), storage_errors(output):
        # To the processor: it may have been stored on a GPU that is not there, and all ranks would take the first.
        found = _read_checkpoint(last) if last.exists() else None
        # Lightning asks a resumed loader for its first batches before it tells the sampler which epoch it is.
        begun = 0 if found is None else found["epoch"] + 1
        trainer = make_trainer(output, settings, figures[0], progress=progress, watch=watch)
        validating = batch_loader(validation, settings, range(validation.batches_per_epoch))
        best = next((callback for callback in trainer.callbacks if isinstance(callback, KeepBest)), None)
        if found is not None and best is not None and was_stopped_early(found):
            # Or it would train one epoch more, only to see that it is to stop.
            module.load_state_dict(found["state_dict"])
            best.load_state_dict(found["callbacks"][best.state_key])
        else:
            del found
            trainer.fit(
                module,
                batch_loader(training, settings, BatchNumbers(training.batches_per_epoch, epoch=begun)),
                validating,
                ckpt_path=str(last) if begun else None,
                weights_only=True if begun else None,
            )
        if best is not None:
            module.average.load_state_dict(best.weights)
        if best is not None or figures[0] not in trainer.callback_metrics:
            # The weights kept are not those of the last epoch, or the run found there had ended before they were
            # stored: they are measured once more, which is no epoch of the curves.
            trainer.loggers = []
            trainer.validate(module, validating, verbose=False)
    return {name: round(float(trainer.callback_metrics[name]), 4) for name in figures}


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise TrainingError(
            f"expected the checkpoint of a run, got {first_line(error)} in {path}; copy it again, or move it away to "
            "begin the run anew"
        ) from error
    if not isinstance(found, dict) or not {"epoch", "state_dict", "callbacks"} <= found.keys():
        raise TrainingError(f"expected the checkpoint of a run, got something else in {path}; choose another --output")
    return found
