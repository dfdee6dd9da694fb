"""Whether a retrained model is better than the one it was made from, on places that it did not see."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from napari_metastasis.storage import atomic_text

__all__ = ["Encoded", "PlaceAnswer", "Verdict", "judge"]

Floats = npt.NDArray[np.float64]

#: A place is answered better, or worse, where its cross-entropy changes by more than this: less is no change.
_CHANGE = 0.01
_RESAMPLES = 1000
#: A fall of the AUC on earlier patches from which a model has forgotten something.
_FORGOTTEN = 0.02
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


@dataclass(frozen=True, slots=True)
class PlaceAnswer:
    """What two models say of one place.

    Attributes
    ----------
    place
        The place.
    old, new
        Mean probabilities of tumour over its cells.
    old_loss, new_loss
        Mean cross-entropies of these cells.
    old_highest, new_highest
        Highest probabilities.
    old_right, new_right, cells
        How many cells are on the right side of the threshold, of how many.
    """

    place: Place
    old: float
    new: float
    old_loss: float
    new_loss: float
    old_highest: float
    new_highest: float
    old_right: int
    new_right: int
    cells: int

    @property
    def change(self) -> int:
        """Return 1 where the new model answers better, -1 where it answers worse, and else 0."""
        less = self.old_loss - self.new_loss
        return int(np.sign(less)) if abs(less) > _CHANGE else 0


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """Old and new model side by side.

    Attributes
    ----------
    places
        Those that were held out.
    figures
        "auc" (of places), "accuracy" (of cells) and "froc" (of places, by slide): old and new; what is not defined is
        not there.
    replayed
        AUC of the old and the new model on what is replayed; ``None`` where nothing is, or of one class.
    """

    places: tuple[PlaceAnswer, ...]
    figures: dict[str, tuple[Estimate, Estimate]]
    replayed: tuple[float, float] | None

    @property
    def better(self) -> int:
        """Return how many places the new model answers better."""
        return sum(one.change > 0 for one in self.places)

    @property
    def worse(self) -> int:
        """Return how many places the new model answers worse."""
        return sum(one.change < 0 for one in self.places)

    @property
    def is_better(self) -> bool | None:
        """Return whether more places are better than worse, no fewer cells are right, and nothing was forgotten.

        ``None`` where that was not judged.

        Places of one class say nothing of the other: a model that always answers the same is right on all of them.
        """
        if not self.places or self.unjudged:
            return None
        forgot = self.replayed is not None and self.replayed[0] - self.replayed[1] > _FORGOTTEN
        old, new = self.figures["accuracy"]
        return self.better > self.worse and new.value >= old.value and not forgot

    @property
    def unjudged(self) -> str:
        """Return the class of which no place was held out: "tumour" or "normal"; empty where both were."""
        labels = {one.place.label for one in self.places}
        return "" if len(labels) != 1 else ("normal tissue" if labels == {1} else "tumour")

    @property
    def sentence(self) -> str:
        """Return the verdict for a person."""
        if not self.places:
            return "Not judged: no corrected place could be held out"
        places = "1 place" if len(self.places) == 1 else f"{len(self.places)} places"
        lacking = f"; not judged on {self.unjudged}, of which none was held out" if self.unjudged else ""
        return f"Better on {self.better} of {places} that it did not see, worse on {self.worse}{lacking}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        values: dict[str, Any] = {
            "sentence": self.sentence,
            "held_out": len(self.places),
            "better": self.better,
            "worse": self.worse,
        }
        for name, (old, new) in self.figures.items():
            values |= {**old.to_json(f"old_{name}"), **new.to_json(f"new_{name}")}
        if self.replayed is not None:
            values |= {"old_replayed_auc": self.replayed[0], "new_replayed_auc": self.replayed[1]}
        return values

    def write_table(self, path: Path, slides: Sequence[str]) -> None:
        """Write a line for each place.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        with atomic_text(path) as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(("slide", "correction", "label", "x", "y", "old", "new", "change"))
            words = {1: "better", 0: "same", -1: "worse"}
            for one in self.places:
                middle = one.place.area_px.centroid
                label = "tumour" if one.place.label else "normal"
                where = (f"{middle.x:.0f}", f"{middle.y:.0f}")
                said = (f"{one.old:.4f}", f"{one.new:.4f}", words[one.change])
                table.writerow((slides[one.place.slide], one.place.key, label, *where, *said))


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
        _figures(answers, old.model.spec.threshold, seed),
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


def _figures(answers: Sequence[PlaceAnswer], threshold: float, seed: int) -> dict[str, tuple[Estimate, Estimate]]:
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
