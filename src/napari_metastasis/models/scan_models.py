"""The models of a scan: the detector, and those that follow it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_metastasis.errors import ModelError, PassWarning, UnknownModelError
from napari_metastasis.models.detector import Detector
from napari_metastasis.models.model import Model, read_model
from napari_metastasis.models.weights_file import read_task
from napari_metastasis.models.zoo import ZooEntry, list_models, load_detector, load_model
from napari_metastasis.storage import home_path
from napari_metastasis.tasks import DETECT, find_task

__all__ = ["ScanModels", "load_scan_models", "model_for"]


@dataclass(frozen=True, slots=True)
class ScanModels:
    """The models of a scan.

    Attributes
    ----------
    detector
        Makes the scan itself.
    others
        Make the passes that follow, by task.
    named
        Tasks whose model the user named, which asks for its pass.
    """

    detector: Detector
    others: Mapping[str, Model] = field(default_factory=dict)
    named: frozenset[str] = frozenset()


def load_scan_models(
    name: str | Path, named: Mapping[str, str | Path] | None = None, *, tasks: tuple[str, ...] = ()
) -> ScanModels:
    """Return the models of a scan.

    Parameters
    ----------
    name
        Of a detector, or of a model that reads its features, which stands for the detector too; or a path of either.
    named
        Names or paths of further models, by task.
    tasks
        Further tasks whose model is wanted, if :func:`model_for` finds one.

    Raises
    ------
    UnknownModelError
        If there is no such model, or the detector that one was trained on is missing.
    WeightsError
        If files are damaged.
    ModelError
        If two of them do not go together.
    """
    others = {task: load_model(other, task) for task, other in (named or {}).items()}
    model = load_model(name, DETECT if others else None)
    if model.task != DETECT:
        others[model.task] = model
        model = _detector_of(model, name)
    assert isinstance(model, Detector)
    for other in others.values():
        other.check(model)
    found = {task: model_for(model, task) for task in tasks if task not in others}
    asked = frozenset(others)
    return ScanModels(model, {**others, **{task: one for task, one in found.items() if one is not None}}, asked)


def _detector_of(model: Model, name: str | Path) -> Detector:
    """Return the detector that a model was trained on: from the zoo, or from the model's own folder."""
    wanted, noun = model.spec.encoder, find_task(model.task).noun
    beside = home_path(name).with_name(f"{wanted}.safetensors")
    for candidate in (wanted, beside):
        try:
            detector = load_detector(candidate)
        except UnknownModelError:
            continue
        if detector.weights_sha256 == model.encoder_sha256:
            return detector
    raise UnknownModelError(
        f"expected model {wanted} ({model.encoder_sha256[:12]}…) for {noun} {model.name}, got none with these "
        f"weights; keep it with 'napari-metastasis models add', or put it beside the {noun}"
    )


def model_for(detector: Detector, task: str) -> Model | None:
    """Return the model of a task for a detector: the user's newest, else one that ships.

    Warns
    -----
    PassWarning
        If a model cannot be read.
    """
    entries = list_models(task)
    own = sorted((entry for entry in entries if not entry.shipped), key=_written, reverse=True)
    for entry in (*own, *(entry for entry in entries if entry.shipped)):
        try:
            # Cards first, because only one model's weights are needed.
            _, spec = read_task(entry.path)
            if spec.get("encoder_sha256", "") in ("", detector.weights_sha256):
                return read_model(entry.path)
        except ModelError as error:
            # Damaged, or of another version: the next one is tried.
            noun = find_task(task).noun
            warnings.warn(f"{noun} {entry.name} is passed over: {error}", PassWarning, stacklevel=2)
    return None


def _written(entry: ZooEntry) -> float:
    """Return when a model was written; 0 for one that has gone since it was listed."""
    try:
        return entry.path.stat().st_mtime
    except OSError:
        return 0.0
