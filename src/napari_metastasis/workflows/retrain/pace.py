"""How much a retraining does in its time: measured on this computer, and settled once."""

from __future__ import annotations

import json
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
from napari_metastasis.settings import CorrectionSettings, TuneTrainSettings
from napari_metastasis.storage import atomic_text

__all__ = ["Pace", "Plan", "measure_pace", "read_plan", "settle_plan", "write_plan"]

#: Crops of a place that was held out, and places that are judged in any case.
_JUDGED_CROPS, _JUDGED_PLACES = 4, 8
#: Each crop is learnt from so often, where the time allows.
_LEAST_EPOCHS = 2
#: Of what is left of the time: for encoding, of which this part is for judging; and for learning once all is encoded.
_ENCODING_SHARE, _JUDGING_SHARE, _LEARNING_SHARE = 0.3, 0.25, 0.8


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
    """

    crops: int
    held_out_crops: int
    epochs: int
    identity: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a crop takes to be encoded, and those of a step of learning."""

    crop_s: float
    step_s: float


def measure_pace(
    detector: Detector,
    lower: LowerLayers,
    probe: PlaceCrops,
    replay: Replay | None,
    settings: TuneTrainSettings,
    corrections: CorrectionSettings,
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
    return Pace(crop_s, step_s)


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
    """
    fit = max(0, int(_ENCODING_SHARE * left_s / pace.crop_s))
    judged = min(_JUDGED_CROPS * held_out, max(min(held_out, _JUDGED_PLACES), int(_JUDGING_SHARE * fit)))
    size = settings.batch_size
    crops = max(size, min(corrections.crops_per_place * places, fit - judged))
    steps = -(-crops // size)
    learning_s = _LEARNING_SHARE * (left_s - pace.crop_s * (steps * size + judged))
    epochs = min(max(_LEAST_EPOCHS, round(settings.steps / steps)), int(learning_s / (pace.step_s * steps)))
    return Plan(crops, judged, max(1, epochs), identity)


def read_plan(path: Path) -> Plan | None:
    """Return the plan of a run that was begun; ``None`` where there is none that can be read."""
    try:
        found = read_json(path)
        crops, held_out_crops, epochs = (int(found[name]) for name in ("crops", "held_out_crops", "epochs"))
        return Plan(crops, held_out_crops, epochs, str(found["identity"]))
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
