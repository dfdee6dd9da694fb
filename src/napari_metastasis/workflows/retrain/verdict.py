"""Whether a retrained model is better than the one it was made from, on places that it did not see."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.evaluation import Estimate
from napari_metastasis.sampling.places import Place
from napari_metastasis.storage import atomic_text

__all__ = ["PlaceAnswer", "Verdict"]

#: A place is answered better, or worse, where its cross-entropy changes by more than this: less is no change.
_CHANGE = 0.01
#: A fall of the AUC on earlier patches from which a model has forgotten something.
_FORGOTTEN = 0.02


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
    nouns
        What places of label 0 and 1 are called.
    replayed
        AUC of the old and the new model on what is replayed; ``None`` where nothing is, or of one class.
    """

    places: tuple[PlaceAnswer, ...]
    figures: dict[str, tuple[Estimate, Estimate]]
    replayed: tuple[float, float] | None
    nouns: tuple[str, str] = ("normal", "tumour")

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
        """Return the class of which no place was held out: "tumour" or "normal tissue"; empty where both were."""
        labels = {one.place.label for one in self.places}
        if len(labels) != 1:
            return ""
        noun = self.nouns[0 if labels == {1} else 1]
        return "normal tissue" if noun == "normal" else noun

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
                label = self.nouns[one.place.label]
                where = (f"{middle.x:.0f}", f"{middle.y:.0f}")
                said = (f"{one.old:.4f}", f"{one.new:.4f}", words[one.change])
                table.writerow((slides[one.place.slide], one.place.key, label, *where, *said))
