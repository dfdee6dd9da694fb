"""What is to be retrained, what tells one retraining from another, and what a model's card says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from napari_metastasis.models import Model
from napari_metastasis.models.replay import Replay
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.sampling.places import Place
from napari_metastasis.settings import CorrectionSettings, TuneTrainSettings, WholeSettings
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted

__all__ = ["Retraining", "data_text", "identity_of", "learnt_by", "said_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """What is to be retrained, and how.

    Attributes
    ----------
    results
        Result folders with corrections.
    model
        Name or path of the detector, or of the model of mitoses, to begin with.
    name
        Of the new model; by default the old one's next version.
    output
        Run folder; by default one of the user's own, named after the model and what it learns from.
    budget_s
        Seconds that it may take.
    patches
        Images that the model learnt from before, as a folder, zip or HDF5 file of patches; with them all of its layers
        learn, where time is left. ``None`` where they are not at hand.
    settings, corrections, whole
        How it learns, from what, and how all of its layers do.
    """

    results: tuple[Path, ...]
    model: str | Path
    name: str = ""
    output: Path | None = None
    budget_s: float = 300.0
    patches: Path | None = None
    settings: TuneTrainSettings = field(default_factory=TuneTrainSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    whole: WholeSettings = field(default_factory=WholeSettings)


def identity_of(
    job: Retraining,
    detector: Model,
    corrected: Corrected,
    replay: Replay | None,
    patches: BalancedPatches | None,
) -> str:
    """Return a hash of what decides what a model learns."""
    told = {
        "model": detector.weights_sha256,
        "slides": list(corrected.fingerprints),
        "places": [
            (one.key, one.slide, one.label, hashlib.sha256(shapely.to_wkb(one.area_px)).hexdigest())
            for one in corrected.places
        ],
        "ignored": [[hashlib.sha256(shapely.to_wkb(one)).hexdigest() for one in own] for own in corrected.ignored],
        "replay": None if replay is None else replay.sha256,
        "settings": job.settings.told(),
        "corrections": job.corrections.told(),
        "budget_s": job.budget_s,
    }
    if any(map(len, corrected.pending)):
        told["pending"] = [hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest() for one in corrected.pending]
    if patches is not None:
        told |= {"patches": patches.fingerprint, "whole": job.whole.told()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def learnt_by(card: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of the corrections that a model, or one that it was made from, has learnt, by its card."""
    told = card.get("retrained")
    keys = told.get("learnt") if isinstance(told, dict) else None
    return frozenset(key for key in keys if isinstance(key, str)) if isinstance(keys, list) else frozenset()


def data_text(places: Sequence[Place], detector: Model, nouns: tuple[str, str] = ("normal", "tumour")) -> str:
    """Return what a model has learnt from, for its card; ``nouns`` are what places of label 0 and 1 are called."""
    tumour = sum(one.label for one in places)
    before = str(detector.card.get("data", "not stated"))
    slides = len({one.slide for one in places})
    return (
        f"Corrections of {len(places)} places ({tumour} {nouns[1]}, {len(places) - tumour} {nouns[0]}) on {slides} "
        f"slide{'s' * (slides != 1)}. Before that, {detector.name}: {before}"
    )


def said_of(
    job: Retraining, detector: Model, corrected: Corrected, parted: Parted, places: Sequence[Place], replayed: int
) -> dict[str, Any]:
    """Return what a model's card says of its retraining, besides what training says.

    Parameters
    ----------
    job, detector
        What was asked for, and what it begins with.
    corrected, parted
        What was corrected, and what was held out.
    places
        What is learnt.
    replayed
        How many encoded patches are replayed.
    """
    card = detector.card
    parent = {"name": detector.name, "weights_sha256": detector.weights_sha256}
    before = card.get("parents")
    learnt = {one.key for one in places}
    return {
        "parents": [parent, *(before if isinstance(before, list) else [])],
        "retrained": {
            "slides": [
                {"name": one.name, "fingerprint": known}
                for one, known in zip(corrected.slides, corrected.fingerprints, strict=True)
            ],
            "places": len(learnt),
            "learnt": sorted(learnt | learnt_by(card)),
            "held_out": len(parted.held_out),
            "held_out_by": parted.by,
            "replayed": replayed,
            "corrections": job.corrections.told(),
        },
    }
