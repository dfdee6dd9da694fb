"""Judge what came out of a retraining, each model by what its own lower layers make of it."""

from __future__ import annotations

import json
from pathlib import Path

from napari_metastasis.models import Detector, correct_card, load_detector
from napari_metastasis.models.replay import REPLAY_SUFFIX, Replay
from napari_metastasis.models.tuning import lower_sha256
from napari_metastasis.storage import atomic_text
from napari_metastasis.training.encoded import EncodedBatches
from napari_metastasis.workflows.retrain.comparing import Encoded, judge
from napari_metastasis.workflows.retrain.earlier import EARLIER_REPLAY, encoded_by, remembered
from napari_metastasis.workflows.retrain.prepared import HELD_OUT, Prepared
from napari_metastasis.workflows.retrain.verdict import Verdict

__all__ = ["judged"]

_PLACES, _VERDICT = "held-out.csv", "verdict.json"


def judged(run: Prepared, weights: Path) -> Verdict:
    """Compare the new model with the old one, and write down what came out."""
    new = load_detector(weights)
    verdict = judge(
        *_both(run, new),
        () if run.held_out is None else run.held_out.order,
        run.parted.held_out,
        seed=run.job.settings.seed,
    )
    verdict.write_table(run.output / _PLACES, [one.name for one in run.corrected.slides])
    with atomic_text(run.output / _VERDICT) as stream:
        json.dump(verdict.to_json(), stream, indent=2)
    correct_card(weights, {"retrained": {**new.card["retrained"], "verdict": verdict.to_json()}})
    return verdict


def _both(run: Prepared, new: Detector) -> tuple[Encoded, Encoded]:
    """Return the old and the new model, each with what they are judged by as its own lower layers encode it."""
    crops, replay = _judged_by(run, run.detector), run.replay
    if lower_sha256(new) == lower_sha256(run.detector):
        return Encoded(run.detector, crops, replay), Encoded(new, crops, replay)
    old = Encoded(run.detector, crops, _remembered(run, run.detector, run.output / EARLIER_REPLAY))
    beside = (run.output / run.name).with_suffix(REPLAY_SUFFIX)
    return old, Encoded(new, _judged_by(run, new), _remembered(run, new, beside))


def _remembered(run: Prepared, model: Detector, path: Path) -> Replay:
    assert run.patches is not None
    return encoded_by(model, run.patches, remembered(run.patches, run.replay), path, run.log)


def _judged_by(run: Prepared, model: Detector) -> EncodedBatches | None:
    """Return the crops of what is held out, as a model's own lower layers encode them."""
    if run.held_out is None:
        return None
    folder = HELD_OUT if model is run.detector else f"{HELD_OUT}-anew"
    return run.encoder.encoded("places to judge by", folder, run.held_out, model, in_order=True)
