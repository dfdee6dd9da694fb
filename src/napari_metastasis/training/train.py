"""Train a task: batches in, a named model with its card out. Training that was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import lightning
import torch

from napari_metastasis import __version__
from napari_metastasis.errors import TrainingError
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.resume import resume_slides, write_slides
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.callbacks import Watch
from napari_metastasis.training.distributed import run_distributed
from napari_metastasis.training.fit import fit
from napari_metastasis.training.learning_curves import write_curves
from napari_metastasis.training.lightning_setup import LAST, SETTINGS, check_devices
from napari_metastasis.training.tasks.base import Fitting, TrainingTask

__all__ = ["Encode", "TrainingRun", "train"]

#: Settings that change no weight: how fast patches are read.
_MAY_CHANGE = frozenset({"workers", "prefetch"})
#: File of a run folder: what was seen of the slides when the run began.
_SLIDES = "slides.json"


class Encode(Protocol):
    """Encodes a source of crops; varied ones to learn from, all of an epoch as they are to measure on."""

    def __call__(self, source: BatchSource, *, vary: bool) -> BatchSource:
        """Return batches of encoded crops."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Where a run lies, and what its model card says.

    Attributes
    ----------
    output
        Run folder.
    description, licence
        What the images are, and the weights' licence.
    progress
        Show a progress bar on standard error.
    watch
        Who looks on, and may end the run early; of one device alone.
    """

    output: Path
    description: str
    licence: str
    progress: bool = True
    watch: Watch | None = None


def train(
    task: TrainingTask[Any],
    run: TrainingRun,
    *,
    training: BatchSource,
    validation: BatchSource,
    settings: TrainSettings,
    augment: AugmentSettings,
    encode: Encode | None = None,
) -> Path:
    """Train on batches, and store what came out with its card.

    Parameters
    ----------
    task
        What to train.
    run
        Where: the folder gets ``settings.json``, ``slides.json`` where patches come from slides, ``last.ckpt``,
        ``log/version_<start>/metrics.csv``, ``curves.csv`` and ``curves.png``, ``<name>.safetensors`` and its card. A
        run found there with the same settings and data goes on where it stopped, with the slides that it began with.
    training, validation
        Batches of what the task is trained on. The second is measured after every epoch; it decides nothing, unless
        ``settings.patience`` asks for the best epoch.
    settings, augment
        How to train, and how images are varied.
    encode
        Encodes both sources once the folder is known to be this run's, for a task that does so.

    Returns
    -------
    Path
        The stored weights.

    Raises
    ------
    DeviceError
        If there are fewer devices than asked for.
    ModelError
        If the initial weights do not fit.
    TrainingError
        If the folder holds a run with other settings or data, or the loss or the weights are no longer finite.
    StorageError
        If the folder cannot be written.
    """
    check_devices(settings)
    fitting = Fitting(settings, augment, _steps(training, settings) * settings.epochs)
    process = _Process(task, run, fitting, training, validation)
    weights = process.weights
    process.begin()
    if not (weights.exists() and weights.with_suffix(".json").exists()):
        if encode is not None:
            process = replace(process, training=encode(training, vary=True), validation=encode(validation, vary=False))
        if settings.devices == 1:
            process.train()
        else:
            run_distributed(_Process.train, (process,), settings.devices)
            if not weights.exists():
                # A process that is interrupted ends as if it were done.
                raise KeyboardInterrupt
    elif (run.output / "curves.csv").exists():
        return weights
    write_curves(run.output, task.metrics)
    return weights


@dataclass(frozen=True)
class _Process:
    """What every device of a run is told."""

    task: TrainingTask[Any]
    run: TrainingRun
    fitting: Fitting
    training: BatchSource
    validation: BatchSource

    @property
    def weights(self) -> Path:
        return self.run.output / f"{self.task.name}.safetensors"

    def begin(self) -> None:
        """Make the run folder and write down what the run is, or check that the run found there is the same."""
        output = self.run.output
        record, sources = output / _SLIDES, {"training": self.training, "validation": self.validation}
        begun = self.weights.exists() or (output / LAST).exists()
        if begun:
            resume_slides(record, sources)
        settings = self.fitting.settings.told()
        with storage_errors(output):
            output.mkdir(parents=True, exist_ok=True)
            _claim(
                output / SETTINGS,
                {
                    **self.task.identity(),
                    "settings": {name: value for name, value in settings.items() if name not in _MAY_CHANGE},
                    "augment": _told(self.fitting.augment),
                    # Else the card would name data that the weights never saw.
                    "training_sha256": self.training.fingerprint,
                    "validation_sha256": self.validation.fingerprint,
                },
                begun=begun,
            )
            if not (begun and record.exists()):
                write_slides(record, sources)

    def train(self) -> None:
        """Train on one device, this process's own, and let the first of all devices store the model."""
        settings = self.fitting.settings
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        module = self.task.module(self.fitting)
        run = self.run
        figures = fit(
            module, self.training, self.validation, run.output, settings, progress=run.progress, watch=run.watch
        )
        if module.global_rank == 0:
            task = self.task.trained_on(self.training)
            task.store(module.finished_network(), self.weights, self._card(figures))

    def _card(self, figures: Mapping[str, float]) -> dict[str, Any]:
        return {
            "data": self.run.description,
            "licence": self.run.licence or "not stated",
            **figures,
            "settings": {**self.fitting.settings.told(), "augment": _told(self.fitting.augment)},
            "versions": {
                "napari-metastasis": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
            },
            "intended_use": self.task.intended_use,
            "warning": "Not a medical device. Not validated for diagnosis.",
        }


def _told(augment: AugmentSettings) -> dict[str, Any]:
    """Return how images are varied; how far their density is, only where it is."""
    values = augment.told()
    if not augment.density_share:
        del values["density_min"], values["density_max"]
    return values


def _steps(training: BatchSource, settings: TrainSettings) -> int:
    steps = training.batches_per_epoch // settings.devices
    if steps < 1:
        raise TrainingError(
            f"expected at least one batch for each of {settings.devices} device(s) in an epoch, got "
            f"{training.batches_per_epoch}; lower the batch size or the number of devices"
        )
    return steps


def _claim(path: Path, wanted: dict[str, Any], *, begun: bool) -> None:
    """Write the run's settings, or check that the run found there has the same; one that never began has no say."""
    text = json.dumps(wanted, indent=2) + "\n"
    if begun and path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise TrainingError(
                "expected an empty folder or a run with the same settings and patches, "
                f"got another run in {path.parent}; choose another --output"
            )
        return
    with atomic_text(path) as stream:
        stream.write(text)
