"""Answers of an old and a new model side by side: on places that were held out, and on what is not to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_metastasis.evaluation import Estimate, Resamples, SlideOutcome, binary_report, froc_figures
from napari_metastasis.evaluation.matching import LesionOutcome
from napari_metastasis.evaluation.resampling import estimate
from napari_metastasis.models import Detector
from napari_metastasis.models.replay import Replay
from napari_metastasis.models.tuning import TunedNetwork
from napari_metastasis.sampling.batches import BatchSource
from napari_metastasis.sampling.places import Place
from napari_metastasis.settings import EvaluationSettings
from napari_metastasis.workflows.retrain.verdict import PlaceAnswer, Verdict

__all__ = ["Encoded", "judge", "place_figures"]

Floats = npt.NDArray[np.float64]

_RESAMPLES = 1000
#: An interval over fewer slides says nothing.
_FEWEST_SLIDES = 5
#: Before a logarithm.
_LEAST = 1e-6
_REPLAYED = 32


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A model with what it is judged by, as its own lower layers encode it.

    Attributes
    ----------
    model
        The model.
    crops
        Of the places that were held out, one in a batch; ``None`` where none were.
    replay
        Of what it has learnt from before; ``None`` where nothing is known of that.
    """

    model: Detector
    crops: BatchSource | None
    replay: Replay | None


def judge(old: Encoded, new: Encoded, order: Sequence[int], places: Sequence[Place], *, seed: int) -> Verdict:
    """Compare two models.

    Parameters
    ----------
    old, new
        The models.
    order
        The number of the place of each crop.
    places
        These places.
    seed
        Of the intervals.
    """
    both = (old, new)
    log_odds = [_crop_log_odds(one, order, places) for one in both]
    of_place: dict[int, list[Floats]] = {}
    for number, before, now in zip(order, *log_odds, strict=True):
        if before.size:
            of_place.setdefault(number, []).append(np.stack([before, now]))
    models = (old.model, new.model)
    answers = tuple(
        _answer(models, places[number], np.concatenate(parts, axis=1)) for number, parts in sorted(of_place.items())
    )
    replayed = [_replayed(one) for one in both]
    return Verdict(
        answers,
        place_figures(answers, old.model.spec.threshold, seed),
        None if replayed[0] is None or replayed[1] is None else (replayed[0], replayed[1]),
    )


def _crop_log_odds(one: Encoded, order: Sequence[int], places: Sequence[Place]) -> list[Floats]:
    """Return a model's log-odds of the cells of each crop that are what was said of its place."""
    if one.crops is None:
        return []
    network, found = TunedNetwork(one.model).eval(), []
    for crop, number in enumerate(order):
        batch = one.crops.batch(crop)
        features = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
        found.append(_log_odds(network, features)[batch.labels == places[number].label])
    return found


def _answer(models: tuple[Detector, Detector], place: Place, log_odds: Floats) -> PlaceAnswer:
    """Return what two models say of a place, by their log-odds of its cells, 2 x n."""
    own = 1 / (1 + np.exp(-log_odds))
    # By the network's own, equal shares of both classes: those of slides, where tumour is rare, say little of tumour.
    losses = -np.log((own if place.label else 1 - own).clip(_LEAST, 1)).mean(axis=1)
    shown = [one.spec.probabilities(row.astype(np.float32)) for one, row in zip(models, own, strict=True)]
    right = [
        int(((row >= one.spec.threshold) == bool(place.label)).sum()) for one, row in zip(models, shown, strict=True)
    ]
    return PlaceAnswer(
        place=place,
        old=float(shown[0].mean()),
        new=float(shown[1].mean()),
        old_loss=float(losses[0]),
        new_loss=float(losses[1]),
        old_highest=float(shown[0].max()),
        new_highest=float(shown[1].max()),
        old_right=right[0],
        new_right=right[1],
        cells=log_odds.shape[1],
    )


@torch.no_grad()
def _log_odds(network: TunedNetwork, features: torch.Tensor) -> Floats:
    odds: Floats = network.log_odds(features).double().numpy()
    return odds


def place_figures(answers: Sequence[PlaceAnswer], threshold: float, seed: int) -> dict[str, tuple[Estimate, Estimate]]:
    """Return accuracy, AUC and FROC score of an old and a new model on places; what is not defined is not there."""
    if not answers:
        return {}
    labels = np.array([one.place.label == 1 for one in answers])
    resamples = Resamples(labels.astype(np.int64), _RESAMPLES, seed)
    cells = np.array([one.cells for one in answers], dtype=np.float64)
    figures = {}

    def accuracy(right: Sequence[int]) -> Estimate:
        hits = np.array(right, dtype=np.float64)
        return estimate(lambda counts: (counts @ hits / (counts @ cells))[:, None], resamples, width=len(cells))[0]

    figures["accuracy"] = accuracy([one.old_right for one in answers]), accuracy([one.new_right for one in answers])
    if labels.any() and not labels.all():
        reports = [
            binary_report(labels, np.array(scores), threshold=threshold, resamples=resamples)
            for scores in ([one.old for one in answers], [one.new for one in answers])
        ]
        figures["auc"] = reports[0].auc, reports[1].auc
    if labels.any():
        figures["froc"] = _froc(answers, "old", seed), _froc(answers, "new", seed)
    return figures


def _froc(answers: Sequence[PlaceAnswer], which: str, seed: int) -> Estimate:
    """Return the FROC score of places: those with tumour are lesions to find, the others can be false positives."""
    outcomes = []
    for slide in sorted({one.place.slide for one in answers}):
        own = [one for one in answers if one.place.slide == slide]
        hits = [float(getattr(one, f"{which}_highest")) for one in own if one.place.label]
        false = [float(getattr(one, f"{which}_highest")) for one in own if not one.place.label]
        outcomes.append(
            SlideOutcome(
                slide=str(slide),
                score=max(hits + false),
                is_tumour=bool(hits),
                lesions=tuple(LesionOutcome(is_target=True, size_class="micro", probability=hit) for hit in hits),
                false_positives=np.array(false),
            )
        )
    groups = np.array([one.is_tumour for one in outcomes], dtype=np.int64)
    rates = EvaluationSettings().fp_rates
    score = froc_figures(outcomes, rates, "linear", Resamples(groups, _RESAMPLES, seed)).score
    return score if len(outcomes) >= _FEWEST_SLIDES else Estimate(score.value, np.nan, np.nan)


def _replayed(one: Encoded) -> float | None:
    """Return the AUC of a model on what it is not to forget."""
    replay = one.replay
    if replay is None or len(np.unique(replay.labels)) < 2:
        return None
    rows, network = np.arange(len(replay)), TunedNetwork(one.model).eval()
    resamples = Resamples(np.zeros(len(rows), np.int64), 1, 0)
    parts = np.array_split(rows, -(-len(rows) // _REPLAYED))
    scores = np.concatenate([_log_odds(network, replay.images(part)).ravel() for part in parts])
    return binary_report(replay.labels == 1, scores, threshold=0.0, resamples=resamples).auc.value
