"""Train a patch classifier: batches in, a named model with its card out. Killed training goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import lightning
import torch

from napari_metastasis import __version__
from napari_metastasis.errors import TrainingError
from napari_metastasis.models import InitialWeights, ModelSpec, check_name, find_architecture, save_model
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.resume import resume_slides, write_slides
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.distributed import run_distributed
from napari_metastasis.training.fit import fit
from napari_metastasis.training.learning_curves import write_curves
from napari_metastasis.training.lightning_setup import LAST, SETTINGS, check_devices
from napari_metastasis.training.tasks.detect import PatchClassifier, PatchTraining

__all__ = ["TrainingJob", "patch_spec", "train", "train_scannet"]

#: Settings that change no weight: how fast patches are read.
_MAY_CHANGE = frozenset({"workers", "prefetch"})
#: File of a run folder: what was seen of the slides when the run began.
_SLIDES = "slides.json"


def patch_spec(name: str, architecture: str, mpp: float, initial: InitialWeights | None = None) -> ModelSpec:
    """Return the contract of a network that is trained on patches at ``mpp``, normalised as its initial weights were.

    Raises
    ------
    ModelError
        If no network has this architecture, or the model's name cannot name its files.
    """
    check_name(name)
    network = find_architecture(architecture)
    spec = ModelSpec(
        name=name, architecture=architecture, mpp=mpp, patch_px=network.patch_px, stride_px=network.stride_px
    )
    if initial is None or initial.mean is None or initial.std is None:
        return spec
    return replace(spec, mean=initial.mean, std=initial.std)


@dataclass(frozen=True)
class _PatchJob:
    """Train a patch classifier."""

    spec: ModelSpec
    initial: InitialWeights | None

    @property
    def name(self) -> str:
        return self.spec.name

    def identity(self) -> dict[str, Any]:
        return {"spec": self.spec.to_json(), "initial_sha256": None if self.initial is None else self.initial.sha256}

    def module(self, settings: TrainSettings, augment: AugmentSettings, total_steps: int) -> PatchClassifier:
        return PatchClassifier(self.spec, settings, augment, total_steps=total_steps, initial=self.initial)

    def store(self, module: PatchTraining, weights: Path, card: dict[str, Any]) -> None:
        assert isinstance(module, PatchClassifier)
        initial = self.initial
        began = {
            "initial": None if initial is None else initial.name,
            "initial_sha256": None if initial is None else initial.sha256,
        }
        save_model(weights, module.finished_network(), self.spec, {**card, **began})


def train_scannet(
    spec: ModelSpec,
    *,
    training: BatchSource,
    validation: BatchSource,
    output: Path,
    settings: TrainSettings,
    augment: AugmentSettings,
    data_description: str,
    licence: str,
    initial: InitialWeights | None = None,
    progress: bool = True,
) -> Path:
    """Train a network on batches of patches and store it as a model.

    Parameters
    ----------
    spec
        What to train.
    training, validation
        Batches of patches of ``spec.patch_px``. The second is measured after every epoch; it decides nothing, unless
        ``settings.patience`` asks for the best epoch.
    output, settings, augment, data_description, licence, progress
        As :func:`train` takes them.
    initial
        Weights that training begins with; ``None`` for random ones.

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
    return train(
        _PatchJob(spec, initial),
        training=training,
        validation=validation,
        output=output,
        settings=settings,
        augment=augment,
        data_description=data_description,
        licence=licence,
        progress=progress,
    )


class TrainingJob(Protocol):
    """What is trained, and how it is stored. Picklable: every device has its own."""

    @property
    def name(self) -> str:
        """Return the name of what comes out."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what decides the weights besides settings and data, as plain values."""
        ...

    def module(self, settings: Any, augment: AugmentSettings, total_steps: int) -> PatchTraining:
        """Return what Lightning trains."""
        ...

    def store(self, module: PatchTraining, weights: Path, card: dict[str, Any]) -> None:
        """Store the averaged weights, whole or not at all."""
        ...


def train(
    job: TrainingJob,
    *,
    training: BatchSource,
    validation: BatchSource,
    output: Path,
    settings: TrainSettings,
    augment: AugmentSettings,
    data_description: str,
    licence: str,
    progress: bool = True,
) -> Path:
    """Train on batches, and store what came out with its card.

    Parameters
    ----------
    job
        What to train.
    training, validation
        Batches of what the job is trained on.
    output
        Run folder: ``settings.json``, ``slides.json`` where streams are of slides, ``last.ckpt``,
        ``log/version_<start>/metrics.csv``, ``curves.csv`` and ``curves.png``, ``<name>.safetensors`` and its card. A
        run found there with the same settings and data goes on where it stopped, with the slides that it began with.
    settings, augment
        How to train, and how images are varied.
    data_description, licence
        What the images are, and the weights' licence, for the model card.
    progress
        Show a progress bar on standard error.

    Returns
    -------
    Path
        The stored weights.

    Raises
    ------
    DeviceError
        If there are fewer devices than asked for.
    TrainingError
        If the folder holds a run with other settings or data, or the loss or the weights are no longer finite.
    StorageError
        If the folder cannot be written.
    """
    check_devices(settings)
    weights = output / f"{job.name}.safetensors"
    steps = _steps(training, settings)
    begun = weights.exists() or (output / LAST).exists()
    record, streams = output / _SLIDES, {"training": training, "validation": validation}
    if begun:
        resume_slides(record, streams)
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        _claim(
            output,
            {
                **job.identity(),
                "settings": {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE},
                "augment": asdict(augment),
                # Else the card would name data that the weights never saw.
                "training_sha256": training.fingerprint,
                "validation_sha256": validation.fingerprint,
            },
            begun=begun,
        )
        if not (begun and record.exists()):
            write_slides(record, streams)
    if not (weights.exists() and weights.with_suffix(".json").exists()):
        run = _Run(
            job=job,
            training=training,
            validation=validation,
            weights=weights,
            settings=settings,
            augment=augment,
            statement={"data": data_description, "licence": licence or "not stated"},
            total_steps=steps * settings.epochs,
            progress=progress,
        )
        if settings.devices == 1:
            _train(run)
        else:
            run_distributed(_train, (run,), settings.devices)
            if not weights.exists():
                # A process that is interrupted ends as if it were done.
                raise KeyboardInterrupt
    elif (output / "curves.csv").exists():
        return weights
    write_curves(output)
    return weights


@dataclass(frozen=True)
class _Run:
    """What every device of a run is told."""

    job: TrainingJob
    training: BatchSource
    validation: BatchSource
    weights: Path
    settings: TrainSettings
    augment: AugmentSettings
    statement: dict[str, str]
    total_steps: int
    progress: bool


def _train(run: _Run) -> None:
    """Train on one device, this process's own, and let the first of all devices store the model."""
    settings = run.settings
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    module = run.job.module(settings, run.augment, run.total_steps)
    figures = fit(module, run.training, run.validation, run.weights.parent, settings, progress=run.progress)
    card = {
        **run.statement,
        **figures,
        "settings": {**asdict(settings), "augment": asdict(run.augment)},
        "versions": {"napari-metastasis": __version__, "torch": torch.__version__, "lightning": lightning.__version__},
        "intended_use": "Research. Finding candidates for breast-cancer metastases in H&E-stained lymph-node slides.",
        "warning": "Not a medical device. Not validated for diagnosis.",
    }
    if module.global_rank == 0:
        run.job.store(module, run.weights, card)


def _steps(training: BatchSource, settings: TrainSettings) -> int:
    steps = training.batches_per_epoch // settings.devices
    if steps < 1:
        raise TrainingError(
            f"expected at least one batch for each of {settings.devices} device(s) in an epoch, got "
            f"{training.batches_per_epoch}; lower the batch size or the number of devices"
        )
    return steps


def _claim(output: Path, wanted: dict[str, Any], *, begun: bool) -> None:
    """Write the run's settings, or check that the run found there has the same; one that never began has no say."""
    path = output / SETTINGS
    text = json.dumps(wanted, indent=2) + "\n"
    if begun and path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise TrainingError(
                "expected an empty folder or a run with the same settings and patches, "
                f"got another run in {output}; choose another --output"
            )
        return
    with atomic_text(path) as stream:
        stream.write(text)
