"""The mitoses of a slide: points at a threshold, their number for each mm², and where they are densest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import HotSpot, hot_spot
from napari_metastasis.geometry import Point
from napari_metastasis.lesions.index import LesionIndex
from napari_metastasis.settings import HotSpotSettings

__all__ = ["Mitoses", "MitosisCount", "mitoses_at"]


@dataclass(frozen=True, slots=True, eq=False)
class MitosisCount:
    """How many mitoses were found at a threshold, and in how much tissue.

    Attributes
    ----------
    threshold
        Probability from which the peaks of the map count.
    count
        How many there are.
    searched_mm2, tissue_mm2
        Tissue that was looked at, and all of the slide's.
    spot
        Where they are densest; ``None`` where there are none.
    """

    threshold: float
    count: int
    searched_mm2: float
    tissue_mm2: float
    spot: HotSpot | None

    @property
    def per_mm2(self) -> float | None:
        """Return the mitoses in a mm² of the tissue that was looked at; ``None`` where none was."""
        return self.count / self.searched_mm2 if self.searched_mm2 else None

    @property
    def text(self) -> str:
        """Return their number for a person: "34 mitoses, 2.8 per mm²"."""
        if self.per_mm2 is None:
            return "Not looked for"
        return f"{self.count} mitos{'is' if self.count == 1 else 'es'}, {self.per_mm2:.2g} per mm²"

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
        least = "" if self.searched_mm2 >= spot.area_mm2 else f", of which {self.searched_mm2:.2f} mm² were looked at"
        return f"{spot.count} in the densest {spot.area_mm2:g} mm²{least}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the record and for ``--json``, places in level-0 pixels."""
        spot = self.spot
        return {
            "threshold": self.threshold,
            "count": self.count,
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

    @classmethod
    def from_json(cls, values: Any) -> MitosisCount:
        """Return what :meth:`to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is anything else.
        """
        spot = values["hot_spot"]
        return MitosisCount(
            threshold=_number(values["threshold"]),
            count=int(_number(values["count"])),
            searched_mm2=_number(values["searched_mm2"]),
            tissue_mm2=_number(values["tissue_mm2"]),
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
    """The mitoses that were found at a threshold.

    Attributes
    ----------
    xy
        (n, 2) float64, as (x, y) in level-0 pixels, the surest first.
    probability
        (n,) float32.
    """

    xy: NDArray[np.float64]
    probability: NDArray[np.float32]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.xy)

    @property
    def in_spot(self) -> NDArray[np.bool_]:
        """Return which of them lie where they are densest: (n,) bool."""
        return np.zeros(len(self), np.bool_) if self.spot is None else self.spot.holds(self.xy)


def mitoses_at(
    index: LesionIndex,
    threshold: float,
    *,
    mpp: float,
    searched_mm2: float,
    tissue_mm2: float,
    settings: HotSpotSettings,
) -> Mitoses:
    """Return the mitoses at a threshold.

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
        See :class:`MitosisCount`.
    settings
        The area in which the most are counted.

    Raises
    ------
    SettingsError
        If the threshold lies below the floor.
    """
    found = index.at(threshold).detections
    xy = np.stack([found.x, found.y], axis=1).astype(np.float64)
    return Mitoses(
        threshold=float(threshold),
        count=len(xy),
        xy=xy,
        probability=found.probability,
        searched_mm2=searched_mm2,
        tissue_mm2=tissue_mm2,
        spot=hot_spot(xy, mpp=mpp, settings=settings),
    )
