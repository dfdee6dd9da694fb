"""Train a patch classifier: patches in, a named model with its card out. Killed training goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_metastasis import __version__
from napari_metastasis.errors import MetastasisError, TrainingError
from napari_metastasis.models import ARCHITECTURES, Model, ModelSpec, save_checkpoint
from napari_metastasis.patches import PatchSource
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.training.classifier import PatchClassifier

__all__ = ["patch_spec", "train_scannet"]


#: Enough to tell two sets of patches apart, few enough to be read in no time.
_FINGERPRINTED_PATCHES = 32


class _Patches(Dataset[tuple[Tensor, Tensor]]):
    """Patches as tensors: 3 x H x W uint8 and the label."""

    def __init__(self, source: PatchSource, patch_px: int) -> None:
        self.source = source
        self.patch_px = patch_px

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.source.read(index)
        if image.shape[:2] != (self.patch_px, self.patch_px):
            raise TrainingError(
                f"expected patches of {self.patch_px} x {self.patch_px} px, got {image.shape[1]} x {image.shape[0]} "
                f"(number {index}); cut them to size"
            )
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.tensor(self.source.labels[index])


class _BalancedSampler(Sampler[int]):
    """Class first, then patch: both classes equally often, in an order that the seed and the epoch decide."""

    def __init__(self, labels: np.ndarray[Any, np.dtype[np.int64]], seed: int) -> None:
        self.members = [np.flatnonzero(labels == k) for k in (0, 1)]
        self.count = len(labels)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        half = -(-self.count // 2)
        # Each class is dealt out in whole shuffles before any patch comes again.
        dealt = [
            np.concatenate([generator.permutation(of_class) for _ in range(-(-half // len(of_class)))])[:half]
            for of_class in self.members
        ]
        order = np.stack(dealt, axis=1).reshape(-1)[: self.count]
        return iter(generator.permutation(order).tolist())


def patch_spec(name: str, architecture: str, mpp: float) -> ModelSpec:
    """Return the contract of a network that is trained on patches at ``mpp``.

    Raises
    ------
    ModelError
        If no network has this name.
    """
    from napari_metastasis.models import build_network

    if architecture not in ARCHITECTURES:
        build_network(architecture)  # raises with the names that exist
    network = ARCHITECTURES[architecture]
    return ModelSpec(
        name=name, architecture=architecture, mpp=mpp, patch_px=network.patch_px, stride_px=network.stride_px
    )


class _StopOnNaN(lightning.Callback):
    """Stop before broken weights replace the last good checkpoint."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        del pl_module, args
        if not math.isfinite(float(outputs["loss"])):
            raise TrainingError(
                f"expected a finite loss, got {float(outputs['loss'])} at step {trainer.global_step}; "
                "the last checkpoint is good: lower the learning rate and start again"
            )


def train_scannet(
    spec: ModelSpec,
    *,
    patches: PatchSource,
    validation: PatchSource,
    output: Path,
    settings: TrainSettings,
    data_description: str,
    initial: Model | None = None,
    progress: bool = True,
) -> Path:
    """Train a network on patches and store it as a model.

    Parameters
    ----------
    spec
        What to train.
    patches, validation
        Labelled patches of ``spec.patch_px``; the second decides nothing, it is only reported.
    output
        Run folder: ``settings.json``, ``last.ckpt``, ``log/version_<start>/metrics.csv``, ``<name>.safetensors`` and
        its card. A run found there with the same settings and patches goes on where it stopped.
    settings
        How to train.
    data_description
        What the patches are, for the model card.
    initial
        Model whose weights training begins with; ``None`` for random ones.
    progress
        Show a progress bar on standard error.

    Returns
    -------
    Path
        The stored weights.

    Raises
    ------
    ModelError
        If the initial model has another architecture.
    TrainingError
        If there are too few patches, the folder holds a run with other settings or patches, or the loss is no longer
        finite.
    StorageError
        If the folder cannot be written.
    """
    steps_per_epoch = len(patches) // settings.batch_size
    if steps_per_epoch < 1:
        raise TrainingError(
            f"expected at least one batch of {settings.batch_size} patches, got {len(patches)}; lower the batch size"
        )
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    module = PatchClassifier(spec, settings, total_steps=steps_per_epoch * settings.epochs)
    if initial is not None:
        module.begin_with(initial)
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        _claim(output, spec, settings, initial, patches=patches, validation=validation)
    last = output / "last.ckpt"
    sampler = _BalancedSampler(patches.labels, settings.seed)
    if last.exists():
        # Lightning asks a resumed loader for its first batches before it tells the sampler which epoch it is.
        sampler.set_epoch(torch.load(last, weights_only=True)["epoch"] + 1)
    with _quiet_lightning(), _errors_of_workers():
        trainer = _trainer(output, settings, progress=progress)
        validating = _loader(validation, spec, settings, sampler=None)
        trainer.fit(
            module,
            _loader(patches, spec, settings, sampler=sampler),
            validating,
            ckpt_path=str(last) if last.exists() else None,
            weights_only=True if last.exists() else None,
        )
        if "validation_auc" not in trainer.callback_metrics:
            # The run found there had ended, perhaps before its model was stored: its weights are measured once more.
            trainer.validate(module, validating, verbose=False)
    card = {
        "data": data_description,
        "validation_auc": round(float(trainer.callback_metrics["validation_auc"]), 4),
        "validation_accuracy": round(float(trainer.callback_metrics["validation_accuracy"]), 4),
        "initial_sha256": None if initial is None else initial.weights_sha256,
        "settings": {**asdict(settings), "augment": asdict(AugmentSettings())},
        "versions": {"napari-metastasis": __version__, "torch": torch.__version__, "lightning": lightning.__version__},
        "intended_use": "Research. Finding candidates for breast-cancer metastases in H&E-stained lymph-node slides.",
        "warning": "Not a medical device. Not validated for diagnosis.",
    }
    weights = output / f"{spec.name}.safetensors"
    save_checkpoint(weights, module.averaged_network, spec, card)
    return weights


def _trainer(output: Path, settings: TrainSettings, *, progress: bool) -> lightning.Trainer:
    accelerator, devices = _accelerator(settings.device)
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        precision=_precision(settings.precision, accelerator),
        max_epochs=settings.epochs,
        logger=CSVLogger(output, name="log"),
        callbacks=[
            # Saved when the epoch is over, not at its validation: else the counters of a resumed run lag one epoch.
            ModelCheckpoint(
                dirpath=output,
                filename="last",
                every_n_epochs=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
            _StopOnNaN(),
            *([RichProgressBar(console_kwargs={"stderr": True})] if progress else []),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice to developers away from users; its errors still come through."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # One worker keeps up with any processor; the run folder is meant to hold an earlier run, and may have been
            # moved; the last is about Lightning's own use of torch.
            for advice in (
                ".*num_workers.*",
                ".*pin_memory.*",
                "Checkpoint directory .*",
                "The dirpath has changed .*",
                ".*LeafSpec.*",
            ):
                warnings.filterwarnings("ignore", message=advice)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _errors_of_workers() -> Iterator[None]:
    """Give errors from worker processes their own line back: torch wraps it in the worker's traceback."""
    try:
        yield
    except MetastasisError as error:
        if "\n" not in str(error):
            raise
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from error


def _fingerprint(source: PatchSource) -> str:
    """Return a SHA-256 over every label and some patches: cheap, and that of other data differs."""
    digest = hashlib.sha256(source.labels.tobytes())
    for index in np.linspace(0, len(source) - 1, _FINGERPRINTED_PATCHES).astype(int).tolist():
        digest.update(source.read(index).tobytes())
    return digest.hexdigest()


def _claim(
    output: Path,
    spec: ModelSpec,
    settings: TrainSettings,
    initial: Model | None,
    *,
    patches: PatchSource,
    validation: PatchSource,
) -> None:
    """Write the run's settings, or check that the run found there has the same."""
    wanted = {
        "spec": spec.to_json(),
        "settings": asdict(settings),
        "augment": asdict(AugmentSettings()),
        "initial_sha256": None if initial is None else initial.weights_sha256,
        # Else the card would name data that the weights never saw.
        "patches_sha256": _fingerprint(patches),
        "validation_sha256": _fingerprint(validation),
    }
    path = output / "settings.json"
    text = json.dumps(wanted, indent=2) + "\n"
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise TrainingError(
                "expected an empty folder or a run with the same settings and patches, "
                f"got another run in {output}; choose another --output"
            )
        return
    with atomic_text(path) as stream:
        stream.write(text)


def _loader(
    source: PatchSource, spec: ModelSpec, settings: TrainSettings, sampler: Sampler[int] | None
) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(
        _Patches(source, spec.patch_px),
        batch_size=settings.batch_size,
        sampler=sampler,
        drop_last=sampler is not None,
        num_workers=1,
        persistent_workers=True,
    )


def _accelerator(device: str) -> tuple[str, Any]:
    if device == "auto":
        return "auto", 1
    if device == "cpu":
        return "cpu", 1
    if device == "mps":
        return "mps", 1
    return "gpu", [int(device.partition(":")[2] or 0)]


def _precision(precision: str, accelerator: str) -> Any:
    if precision == "auto":
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast_cpu = has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        precision = "bfloat16" if on_gpu or fast_cpu else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[precision]
