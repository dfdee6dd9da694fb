"""The mitoses of a slide: points at a threshold, their number for each mm², and where they are densest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import Corrections, HotSpot, hot_spot
from napari_metastasis.lesions.index import LesionIndex
from napari_metastasis.lesions.mitosis_review import review_points
from napari_metastasis.lesions.said import LesionReview, ReviewState
from napari_metastasis.settings import HotSpotSettings

__all__ = ["Mitoses", "found_mitoses", "mitoses_at"]


#: In this order people are told how many were reviewed.
_TOLD: tuple[ReviewState, ...] = ("confirmed", "rejected", "added")


@dataclass(frozen=True, slots=True, eq=False)
class Mitoses:
    """The mitoses that were found at a threshold, and what people said of them.

    Attributes
    ----------
    threshold
        Probability from which the peaks of the map count.
    xy
        (n, 2) float64, as (x, y) in level-0 pixels: those that a model found, the surest first, and then those that
        only people know of. Rejected ones are among them.
    probability
        (n,) float32; NaN where no model found anything.
    reviews
        What was said of each, n. "added" are those where no model found anything, and "confirmed" are behind those of
        the model where they were found at another threshold, or by another model.
    of_model
        How many a model found at the threshold: the first ones.
    searched_mm2, tissue_mm2
        Tissue that was looked at, and all of the slide's.
    spot
        Where those that count are densest; ``None`` where there are none.
    """

    threshold: float
    xy: NDArray[np.float64]
    probability: NDArray[np.float32]
    reviews: tuple[LesionReview, ...]
    of_model: int
    searched_mm2: float
    tissue_mm2: float
    spot: HotSpot | None

    def __len__(self) -> int:
        """Return how many are listed: also those that do not count."""
        return len(self.xy)

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Return which of them count, (n,) bool: not those that a person rejected."""
        return np.array([one.counts for one in self.reviews], np.bool_)

    @property
    def count(self) -> int:
        """Return how many count."""
        return int(np.count_nonzero(self.counts))

    @property
    def per_mm2(self) -> float | None:
        """Return the mitoses in a mm² of the tissue that was looked at; ``None`` where none was."""
        return self.count / self.searched_mm2 if self.searched_mm2 else None

    @property
    def in_spot(self) -> NDArray[np.bool_]:
        """Return which of them count and lie where they are densest: (n,) bool."""
        return np.zeros(len(self), np.bool_) if self.spot is None else self.spot.holds(self.xy) & self.counts

    @property
    def states(self) -> dict[ReviewState, int]:
        """Return how many there are of each state that people gave, and of "pending" and "unknown"."""
        found = Counter(one.told for one in self.reviews)
        return {state: found[state] for state in (*_TOLD, "pending", "unknown")}

    @property
    def review_text(self) -> str:
        """Return what people said, in a line: "2 confirmed, 1 rejected, not counted; 31 pending"; empty if nothing."""
        states = self.states
        if states["unknown"]:
            return "what people said of them cannot be read"
        told = {"confirmed": "confirmed", "rejected": "rejected, not counted", "added": "added"}
        said = [f"{states[state]} {told[state]}" for state in _TOLD if states[state]]
        return "; ".join([*said, f"{states['pending']} pending"]) if said else ""

    @property
    def searched_text(self) -> str:
        """Return how much was looked at, for a person: "12.3 of 98.0 mm² of tissue looked at"."""
        if not self.searched_mm2:
            return "No tissue was looked at for mitoses"
        part = f"{self.searched_mm2:.2f}"
        whole = f"{self.tissue_mm2:.2f}"
        return f"All {whole} mm² of tissue looked at" if part == whole else f"{part} of {whole} mm² of tissue looked at"

    @property
    def text(self) -> str:
        """Return their number for a person: "34 mitoses, 2.8 per mm²"."""
        if self.per_mm2 is None:
            return "Not looked for"
        return f"{self.count} mitos{'is' if self.count == 1 else 'es'}, {self.per_mm2:.2g} per mm²"

    @property
    def spot_text(self) -> str:
        """Return what lies where they are densest: "12 in the densest 2 mm²"; empty where there are none."""
        spot = self.spot
        if spot is None:
            return ""
        least = "" if self.searched_mm2 >= spot.area_mm2 else f", of which {self.searched_mm2:.2f} mm² were looked at"
        return f"{spot.count} in the densest {spot.area_mm2:g} mm²{least}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record and for ``--json``; points are surest first, in level-0 pixels."""
        spot, states = self.spot, self.states
        return {
            "threshold": self.threshold,
            "count": self.count,
            "found": self.of_model,
            "reviewed": sum(states[state] for state in _TOLD),
            **{state: states[state] for state in _TOLD},
            "searched_mm2": round(self.searched_mm2, 6),
            "tissue_mm2": round(self.tissue_mm2, 6),
            "per_mm2": None if self.per_mm2 is None else round(self.per_mm2, 6),
            "hot_spot": None
            if spot is None
            else {
                "shape": spot.shape,
                "x": round(spot.center.x, 2),
                "y": round(spot.center.y, 2),
                "width": round(spot.width, 2),
                "height": round(spot.height, 2),
                "area_mm2": spot.area_mm2,
                "count": spot.count,
                "per_mm2": round(spot.per_mm2, 6),
            },
        }

    def reviewed(self, corrections: Corrections, *, mpp: float, settings: HotSpotSettings) -> Mitoses:
        """Return what a model found with what people say of it; what they said before is forgotten.

        Each point of a person is about the point of the model that lies nearest to it, within the radius in which
        points are matched, one to one. What is rejected does not count; what people know of beside them does.

        Parameters
        ----------
        corrections
            All of the slide.
        mpp
            Micrometres per level-0 pixel.
        settings
            The area in which the most are counted.
        """
        own = slice(self.of_model)
        said = review_points(self.xy[own], corrections, mpp=mpp)
        found = replace(
            self,
            xy=np.concatenate([self.xy[own], said.beside_xy]),
            probability=np.concatenate([self.probability[own], said.beside_probability]),
            reviews=(*said.of_found, *said.beside),
        )
        return replace(found, spot=hot_spot(found.xy[found.counts], mpp=mpp, settings=settings))

    def unread(self) -> Mitoses:
        """Return them as those of which it is not known what people said: the corrections cannot be read."""
        return replace(self, reviews=tuple(replace(one, is_known=False) for one in self.reviews))


def mitoses_at(
    index: LesionIndex,
    threshold: float,
    *,
    mpp: float,
    searched_mm2: float,
    tissue_mm2: float,
    settings: HotSpotSettings,
    corrections: Corrections | None = None,
) -> Mitoses:
    """Return the mitoses at a threshold, with what people said of them.

    Parameters
    ----------
    index
        Made of the map of mitoses with the detection settings of
        :class:`~napari_metastasis.settings.MitosisSettings`.
    threshold
        At least the index's floor.
    mpp
        Micrometres per level-0 pixel.
    searched_mm2, tissue_mm2
        See :class:`Mitoses`.
    settings
        The area in which the most are counted.
    corrections
        All of the slide; ``None`` where nobody spoke of it.

    Raises
    ------
    SettingsError
        If the threshold lies below the floor.
    """
    found = index.at(threshold).detections
    own = found_mitoses(
        np.stack([found.x, found.y], axis=1).astype(np.float64),
        found.probability,
        threshold=float(threshold),
        searched_mm2=searched_mm2,
        tissue_mm2=tissue_mm2,
    )
    return own.reviewed(Corrections() if corrections is None else corrections, mpp=mpp, settings=settings)


def found_mitoses(
    xy: NDArray[np.float64],
    probability: NDArray[np.float32],
    *,
    threshold: float,
    searched_mm2: float,
    tissue_mm2: float,
) -> Mitoses:
    """Return what a model found, before anybody spoke of it, and before it is known where they are densest.

    Parameters are those of :class:`Mitoses`; :meth:`Mitoses.reviewed` makes the rest.
    """
    reviews = (LesionReview(),) * len(xy)
    return Mitoses(threshold, xy, probability, reviews, len(xy), searched_mm2, tissue_mm2, spot=None)
