"""What a model has learnt from before, and is not to forget: as it lies encoded beside its weights, or as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.errors import TrainingError
from napari_metastasis.models import Detector, ModelSpec, weights_of
from napari_metastasis.models.replay import REPLAY_SUFFIX, Replay, read_replay, write_replay
from napari_metastasis.models.tuning import lower_sha256
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.settings import WholeSettings
from napari_metastasis.workflows.retrain.remember import encode_replay
from napari_metastasis.workflows.retrain.run_log import RunLog

__all__ = ["EARLIER_REPLAY", "earlier_patches", "encoded_by", "remembered", "replay_beside"]

#: File of a run folder: earlier patches as the model that it begins with encodes them.
EARLIER_REPLAY = "earlier.replay"
#: Patches that are kept encoded beside a model that had none.
_REMEMBERED = 192


def replay_beside(model: str | Path, detector: Detector) -> tuple[Replay | None, list[str]]:
    """Return what the model is not to forget, and what has to be said where nothing is known of it."""
    replay = read_replay(weights_of(model).with_suffix(REPLAY_SUFFIX))
    if replay is None:
        return None, [f"{detector.name} has no earlier patches beside its weights: nothing keeps it from forgetting"]
    if replay.lower_sha256 != lower_sha256(detector):
        return None, [f"the earlier patches beside {detector.name} were encoded by another model, and are not replayed"]
    return replay, []


def earlier_patches(path: Path | None, spec: ModelSpec, whole: WholeSettings, *, seed: int) -> BalancedPatches | None:
    """Return images that a model has learnt from before; ``None`` where they are not at hand, or not wanted.

    Raises
    ------
    PatchDatasetError
        If there are none.
    TrainingError
        If they are of another size than the model's, or too few for a step.
    """
    if path is None or not whole.whole_steps:
        return None
    source = open_patches(path)
    rows, columns, _ = source.read(0).shape
    if (rows, columns) != (spec.patch_px, spec.patch_px):
        raise TrainingError(
            f"expected earlier patches of {spec.patch_px} x {spec.patch_px} px, as {spec.name} learnt from, got "
            f"{columns} x {rows} in {path}; give others"
        )
    return BalancedPatches(source, spec.patch_px, whole.whole_patches, seed)


def remembered(patches: BalancedPatches, replay: Replay | None) -> int:
    """Return how many of them are kept encoded: as many as were before, and as there are of each class."""
    most = 2 * int(np.bincount(patches.source.labels, minlength=2).min())
    return min(most, _REMEMBERED if replay is None else len(replay) // 2 * 2)


def encoded_by(detector: Detector, patches: BalancedPatches, count: int, path: Path, log: RunLog) -> Replay:
    """Return some of them as the lower layers of a detector encode them, and keep these in a file.

    Parameters
    ----------
    detector
        The model.
    patches, count
        Of which, and how many.
    path
        The file; what was encoded there before is not encoded again.
    log
        Shows it.
    """
    found, told = read_replay(path), f"earlier patches {patches.fingerprint[:16]}"
    if found is not None and (found.lower_sha256, len(found), found.source) == (lower_sha256(detector), count, told):
        return found
    with log.step("Encoding earlier patches", "patches") as progress:
        made = encode_replay(detector, patches.source, count=count, source=told, seed=patches.seed, progress=progress)
    write_replay(path, made)
    return made
