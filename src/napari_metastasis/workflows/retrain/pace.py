"""How much a retraining does in its time: measured on this computer, and settled once."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from napari_metastasis.models import Detector
from napari_metastasis.models.replay import Replay
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork
from napari_metastasis.plain_json import read_json
from napari_metastasis.sampling.places import PlaceCrops
from napari_metastasis.settings import CorrectionSettings, TuneTrainSettings, WholeSettings
from napari_metastasis.storage import atomic_text
from napari_metastasis.training.lightning_setup import training_precision

__all__ = ["Pace", "Plan", "measure_pace", "read_plan", "settle_plan", "write_plan"]

#: Crops of a place that was held out, and places that are judged in any case.
_JUDGED_CROPS, _JUDGED_PLACES = 4, 8
#: Each crop is learnt from so often, where the time allows.
_LEAST_EPOCHS = 2
#: Of what is left of the time: for encoding, of which this part is for judging; and for learning once all is encoded.
_ENCODING_SHARE, _JUDGING_SHARE, _LEARNING_SHARE = 0.3, 0.25, 0.8
#: Fewer steps of all layers change too little to be worth what comes with them.
_LEAST_WHOLE_STEPS = 8
#: A step answers its earlier patches twice, as the model does now and as it did before; the second costs no gradients.
_BOTH_ANSWERS = 4 / 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done.

    Attributes
    ----------
    crops, held_out_crops
        Of places that are learnt from, and of those that are held out.
    epochs
        How often the first are learnt from.
    identity
        Hash of what the plan was made for.
    whole_steps
        Steps in which all layers learn afterwards.
    """

    crops: int
    held_out_crops: int
    epochs: int
    identity: str
    whole_steps: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a crop takes to be encoded, those of a step of learning, and those of a step of all layers.

    Attributes
    ----------
    crop_s, step_s
        Of the upper layers.
    whole_step_s, patch_s
        A step of all layers, and an earlier patch that is encoded.
    """

    crop_s: float
    step_s: float
    whole_step_s: float = 0.0
    patch_s: float = 0.0


def measure_pace(
    detector: Detector,
    lower: LowerLayers,
    probe: PlaceCrops,
    replay: Replay | None,
    settings: TuneTrainSettings,
    corrections: CorrectionSettings,
    whole: WholeSettings | None = None,
) -> Pace:
    """Return how fast this computer is, by a few crops and steps.

    Parameters
    ----------
    detector, lower
        The model, and its lower layers.
    probe
        Some crops, which are closed afterwards.
    replay
        Earlier patches, of which each step replays some.
    settings, corrections
        How it learns.
    whole
        How all layers learn; ``None`` where they do not.
    """
    try:
        # The first crop takes longer: its slide is opened.
        probe.batch(0)
        begun = time.monotonic()
        images = torch.from_numpy(probe.batch(0).images).permute(0, 3, 1, 2).float()
        features = lower(images).permute(0, 3, 1, 2)
        crop_s = (time.monotonic() - begun) / len(images)
    finally:
        probe.close()
    network = TunedNetwork(detector).train()
    step_s = _step_seconds(network, features) * settings.batch_size
    if replay is not None and corrections.replay_weight:
        some = replay.images(np.arange(min(len(replay), 4 * len(images))))
        step_s += _step_seconds(network, some) * corrections.replayed_patches
    if whole is None:
        return Pace(crop_s, step_s)
    spec, side = detector.spec, images.shape[-1]
    with torch.autocast("cpu", torch.bfloat16, enabled=training_precision(settings) == "bf16-mixed"):
        pixel_s = _step_seconds(TunedNetwork(detector, whole=True).train(), images[:1] / 255) / side**2
    mosaic_px = (spec.field_px + spec.patch_px * (math.sqrt(whole.whole_patches) - 1)) ** 2
    whole_step_s = pixel_s * (whole.whole_crops * side**2 + _BOTH_ANSWERS * mosaic_px)
    return Pace(crop_s, step_s, whole_step_s, crop_s * (spec.field_px / side) ** 2)


def _step_seconds(network: TunedNetwork, features: torch.Tensor) -> float:
    """Return the seconds that a step of learning takes for each image."""
    network(features).sum().backward()
    # The first step takes longer: memory is asked for.
    begun = time.monotonic()
    network(features).sum().backward()
    return (time.monotonic() - begun) / len(features)


def settle_plan(
    pace: Pace,
    left_s: float,
    *,
    places: int,
    held_out: int,
    settings: TuneTrainSettings,
    corrections: CorrectionSettings,
    identity: str,
    whole: WholeSettings | None = None,
    remembered: int = 0,
) -> Plan:
    """Return how much fits into the time that is left; at least one batch is learnt from.

    Parameters
    ----------
    pace
        Of this computer.
    left_s
        Seconds.
    places, held_out
        How many are learnt from, and how many are held out.
    settings, corrections
        How the model learns.
    identity
        Hash of what the plan is made for.
    whole
        How all layers learn; ``None`` where they do not.
    remembered
        Earlier patches that are encoded by the new model and by the old one, where they do.
    """
    fit = max(0, int(_ENCODING_SHARE * left_s / pace.crop_s))
    judged = min(_JUDGED_CROPS * held_out, max(min(held_out, _JUDGED_PLACES), int(_JUDGING_SHARE * fit)))
    size = settings.batch_size
    # What is fed is encoded again, as it is distorted.
    times = 2 if corrections.feeds else 1
    crops = max(size, min(corrections.crops_per_place * places, (fit - judged) // times))
    steps = -(-crops // size)
    encoding_s = pace.crop_s * (times * steps * size + judged)
    learning_s = _LEARNING_SHARE * (left_s - encoding_s)
    epochs = min(max(_LEAST_EPOCHS, round(settings.steps / steps)), int(learning_s / (pace.step_s * steps)))
    epochs = max(1, epochs)
    steps_s = encoding_s + pace.step_s * steps * epochs
    whole_steps = 0
    if whole is not None:
        # What is held out is encoded once more, by lower layers that are others then.
        whole_s = _LEARNING_SHARE * (left_s - steps_s - pace.crop_s * judged - 2 * pace.patch_s * remembered)
        whole_steps = min(whole.whole_steps, int(whole_s / pace.whole_step_s))
        if whole_steps < min(_LEAST_WHOLE_STEPS, whole.whole_steps):
            whole_steps = 0
    return Plan(crops, judged, epochs, identity, whole_steps)


def read_plan(path: Path) -> Plan | None:
    """Return the plan of a run that was begun; ``None`` where there is none that can be read."""
    try:
        found = read_json(path)
        crops, held_out_crops, epochs = (int(found[name]) for name in ("crops", "held_out_crops", "epochs"))
        return Plan(crops, held_out_crops, epochs, str(found["identity"]), int(found.get("whole_steps", 0)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan of a run.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_text(path) as stream:
        json.dump(asdict(plan), stream)
