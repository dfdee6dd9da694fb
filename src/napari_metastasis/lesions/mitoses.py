"""The mitoses of a slide: points at a threshold, their number for each mm², and where they are densest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import Corrections, HotSpot, hot_spot
from napari_metastasis.geometry import Point
from napari_metastasis.lesions.mitosis_review import review_points
from napari_metastasis.lesions.said import LesionReview, ReviewState
from napari_metastasis.lesions.searched import Searched
from napari_metastasis.settings import HotSpotSettings

__all__ = ["Mitoses", "MitosisCount", "found_mitoses"]

#: In this order, and so, people are told how many were reviewed.
_TOLD: Mapping[ReviewState, str] = {
    "confirmed": "confirmed",
    "rejected": "rejected, not counted",
    "added": "added",
}


@dataclass(frozen=True, slots=True, eq=False)
class MitosisCount:
    """How many mitoses were found at a threshold, and in how much tissue.

    Attributes
    ----------
    threshold
        Probability from which the peaks of the map count.
    count
        How many there are in what was looked at.
    outside
        How many more people know of outside of it: no rate and no densest area is of these.
    searched_mm2, tissue_mm2
        Tissue that was looked at, and all of the slide's.
    spot
        Where they are densest; ``None`` where there are none.
    spot_searched_mm2
        Tissue in there that was looked at; ``None`` where that is not known.
    """

    threshold: float
    count: int
    outside: int
    searched_mm2: float
    tissue_mm2: float
    spot: HotSpot | None
    spot_searched_mm2: float | None

    @property
    def per_mm2(self) -> float | None:
        """Return the mitoses in a mm² of the tissue that was looked at; ``None`` where none was."""
        return self.count / self.searched_mm2 if self.searched_mm2 else None

    @property
    def text(self) -> str:
        """Return their number for a person: "34 mitoses, 2.8 per mm²; 3 more outside of what was looked at"."""
        told = f"{self.count} mitos{'is' if self.count == 1 else 'es'}"
        told = "Not looked for" if self.per_mm2 is None else f"{told}, {self.per_mm2:.2g} per mm²"
        return f"{told}; {self.outside} more outside of what was looked at" if self.outside else told

    @property
    def searches_all(self) -> bool:
        """Return whether all tissue of the slide was looked at."""
        # As they are recorded.
        return 0 < round(self.tissue_mm2, 6) <= round(self.searched_mm2, 6)

    @property
    def searched_text(self) -> str:
        """Return how much was looked at, for a person: "12.30 of 98.00 mm² of tissue looked at"."""
        if not self.searched_mm2:
            return "No tissue was looked at for mitoses"
        part, whole = f"{self.searched_mm2:.2f}", f"{self.tissue_mm2:.2f}"
        return f"All {whole} mm² of tissue looked at" if part == whole else f"{part} of {whole} mm² of tissue looked at"

    @property
    def spot_text(self) -> str:
        """Return what lies where they are densest: "12 in the densest 2 mm²"; empty where there are none."""
        spot = self.spot
        if spot is None:
            return ""
        known = self.spot_searched_mm2
        # A hundredth is the grid's, in which it was measured.
        is_whole = known is None or known > 0.99 * spot.area_mm2
        least = "" if is_whole else f", in which {known:.2f} mm² of tissue were looked at"
        return f"{spot.count} in the densest {spot.area_mm2:g} mm²{least}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record and for ``--json``, places in level-0 pixels."""
        spot = self.spot
        return {
            "threshold": self.threshold,
            "count": self.count,
            "outside": self.outside,
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
                "searched_mm2": None if self.spot_searched_mm2 is None else round(self.spot_searched_mm2, 6),
            },
        }

    @classmethod
    def from_json(cls, values: Any) -> MitosisCount:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is anything else.
        """
        spot = values["hot_spot"]
        searched = None if spot is None else spot.get("searched_mm2")
        return MitosisCount(
            threshold=_number(values["threshold"]),
            count=int(_number(values["count"])),
            # Earlier versions counted them with the others.
            outside=int(_number(values.get("outside", 0))),
            searched_mm2=_number(values["searched_mm2"]),
            tissue_mm2=_number(values["tissue_mm2"]),
            spot_searched_mm2=None if searched is None else _number(searched),
            spot=None
            if spot is None
            else HotSpot(
                center=Point(_number(spot["x"]), _number(spot["y"])),
                width=_number(spot["width"]),
                height=_number(spot["height"]),
                shape=str(spot["shape"]),
                area_mm2=_number(spot["area_mm2"]) or math.nan,
                count=int(_number(spot["count"])),
            ),
        )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


@dataclass(frozen=True, slots=True, eq=False)
class Mitoses(MitosisCount):
    """The mitoses that were found at a threshold, and what people said of them.

    ``count`` is of those that count: of what a model found, what no person rejected, and what people added in what was
    looked at.

    Attributes
    ----------
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
    mpp
        Micrometres per level-0 pixel.
    settings
        The area in which the most are counted.
    searched
        Where tissue was looked at; ``None`` where that is not known.
    inside
        (n,) bool: which of them lie in what was looked at: all that a model found, and all if not known.
    """

    xy: NDArray[np.float64]
    probability: NDArray[np.float32]
    reviews: tuple[LesionReview, ...]
    of_model: int
    mpp: float
    settings: HotSpotSettings
    searched: Searched | None
    inside: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return how many are listed: also those that do not count."""
        return len(self.xy)

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Return which of them count, (n,) bool: not those that a person rejected."""
        return np.array([one.counts for one in self.reviews], np.bool_)

    @property
    def in_spot(self) -> NDArray[np.bool_]:
        """Return which of them count and lie where they are densest: (n,) bool."""
        if self.spot is None:
            return np.zeros(len(self), np.bool_)
        return self.spot.holds(self.xy) & self.counts & self.inside

    @property
    def states(self) -> dict[ReviewState, int]:
        """Return how many there are of each state that people gave, and of "pending" and "unknown"."""
        found = Counter(one.told for one in self.reviews)
        return {state: found[state] for state in (*_TOLD, "pending", "unknown")}

    @property
    def review_text(self) -> str:
        """Return what people said, in a line: "2 confirmed; 1 rejected, not counted; 31 pending"; empty if nothing."""
        states = self.states
        if states["unknown"]:
            return "what people said of them cannot be read"
        said = [f"{states[state]} {words}" for state, words in _TOLD.items() if states[state]]
        return "; ".join([*said, f"{states['pending']} pending"]) if said else ""

    @property
    def own(self) -> Mitoses:
        """Return what the model found, of which nobody said anything."""
        return self.reviewed(Corrections())

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record and for ``--json``, with how many were reviewed."""
        states = self.states
        return {
            **MitosisCount.to_json(self),
            "found": self.of_model,
            "reviewed": sum(states[state] for state in _TOLD),
            **{state: states[state] for state in _TOLD},
        }

    def reviewed(self, corrections: Corrections) -> Mitoses:
        """Return what a model found with what people say of it; what they said before is forgotten.

        Each point of a person is about the point of the model that lies nearest to it, within the radius in which
        points are matched, one to one. What is rejected does not count; what people know of beside them does, in what
        was looked at.

        Parameters
        ----------
        corrections
            All of the slide.
        """
        own = slice(self.of_model)
        said = review_points(self.xy[own], corrections, mpp=self.mpp)
        inside = np.ones(self.of_model + len(said.beside_xy), np.bool_)
        if self.searched is not None and len(said.beside_xy):
            inside[self.of_model :] = self.searched.holds(said.beside_xy)
        listed = replace(
            self,
            xy=np.concatenate([self.xy[own], said.beside_xy]),
            probability=np.concatenate([self.probability[own], said.beside_probability]),
            reviews=(*said.of_found, *said.beside),
            inside=inside,
        )
        counting = listed.xy[listed.counts & inside]
        spot = hot_spot(counting, mpp=self.mpp, settings=self.settings)
        in_spot = None if spot is None or self.searched is None else self.searched.mm2_within(spot)
        outside = int(np.count_nonzero(listed.counts & ~inside))
        return replace(listed, count=len(counting), outside=outside, spot=spot, spot_searched_mm2=in_spot)

    def unread(self) -> Mitoses:
        """Return what the model found where it is not known what people said: the corrections cannot be read."""
        own = self.own
        return replace(own, reviews=tuple(replace(one, is_known=False) for one in own.reviews))


def found_mitoses(
    xy: NDArray[np.float64],
    probability: NDArray[np.float32],
    *,
    threshold: float,
    mpp: float,
    searched_mm2: float,
    tissue_mm2: float,
    settings: HotSpotSettings,
    searched: Searched | None = None,
    corrections: Corrections | None = None,
) -> Mitoses:
    """Return points that a model found, the surest first, with what people say of them; see :class:`Mitoses`."""
    found = Mitoses(
        threshold=threshold,
        count=len(xy),
        outside=0,
        searched_mm2=searched_mm2,
        tissue_mm2=tissue_mm2,
        spot=None,
        spot_searched_mm2=None,
        xy=xy,
        probability=probability,
        reviews=(LesionReview(),) * len(xy),
        of_model=len(xy),
        mpp=mpp,
        settings=settings,
        searched=searched,
        inside=np.ones(len(xy), np.bool_),
    )
    return found.reviewed(Corrections() if corrections is None else corrections)
