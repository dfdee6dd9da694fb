"""Rows of the table for what a person said of no lesion that is shown: lesions drawn, and findings of elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.annotations.corrections import State
from napari_metastasis.lesions import LesionRow
from napari_metastasis.lesions.measure import longest_diameters
from napari_metastasis.lesions.size_classes import estimated_nuclei
from napari_metastasis.settings import DetectionSettings, setting_of

if TYPE_CHECKING:
    from napari_metastasis.lesions import Reviewed

__all__ = ["SaidRow", "SaidRows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidRow(LesionRow):
    """A place that a person spoke of, and that no lesion of the map stands for. Its id is below 0.

    Attributes
    ----------
    key
        Of the correction.
    state
        "added" where it was drawn; else what became of the finding, which is not shown at this threshold.
    """

    key: str
    state: State


class SaidRows:
    """Makes rows of corrections; each is measured once.

    Parameters
    ----------
    mpp
        Of the slide, µm per level-0 pixel.
    """

    def __init__(self, mpp: float) -> None:
        self._mpp = mpp
        self._numbers: dict[str, int] = {}
        #: Of what is not listed, ``None``.
        self._made: dict[str, tuple[Correction, SaidRow | None]] = {}

    def of(self, corrections: Corrections, reviewed: Reviewed) -> tuple[SaidRow, ...]:
        """Return what was drawn as tumour, and decided findings that are not shown."""
        if not corrections.areas:
            return ()
        alone, made = frozenset(reviewed.alone), self._made
        shown = [one for one in corrections.areas if one.key in alone]
        lacking = [one for one in shown if (held := made.get(one.key)) is None or held[0] is not one]
        listed = []
        for one in lacking:
            if one.state == "added" or (one.found is not None and one.state != "pending"):
                listed.append(one)
            else:
                made[one.key] = one, None
        if listed:
            self._measure(listed)
        return tuple(row for one in shown if (row := made[one.key][1]) is not None)

    def measured(self, corrections: Sequence[Correction]) -> tuple[SaidRow, ...]:
        """Return areas as rows, in their order, whether they are listed or not."""
        made = self._made
        lacking = [
            one for one in corrections if (held := made.get(one.key)) is None or held[0] is not one or held[1] is None
        ]
        if lacking:
            self._measure(lacking)
        return tuple(row for one in corrections if (row := made[one.key][1]) is not None)

    def number_of(self, key: str) -> int | None:
        """Return the id of the row of a correction; ``None`` where there is none."""
        return self._numbers.get(key)

    def _measure(self, corrections: Sequence[Correction]) -> None:
        """Measure several together: of a file, there may be thousands."""
        shapes = np.array([one.shape_px for one in corrections], dtype=object)
        inside = shapely.get_coordinates(shapely.point_on_surface(shapely.make_valid(shapes)))
        corners, owner = shapely.get_coordinates(shapely.convex_hull(shapes), return_index=True)
        lengths = longest_diameters(corners, owner, count=len(shapes)) * self._mpp / 1000
        areas = shapely.area(shapes) * (self._mpp / 1000) ** 2
        density = setting_of(DetectionSettings, "nuclei_per_mm2")[0]
        for one, (x, y), length, area in zip(
            corrections, inside.tolist(), lengths.tolist(), areas.tolist(), strict=True
        ):
            number = self._numbers.setdefault(one.key, -1 - len(self._numbers))
            self._made[one.key] = (
                one,
                SaidRow(
                    id=number,
                    x=x,
                    y=y,
                    probability=None if one.found is None else one.found.probability,
                    area_mm2=area,
                    length_mm=length,
                    detections=0,
                    map=None,
                    nuclei=estimated_nuclei(area, density),
                    key=one.key,
                    state=one.state,
                ),
            )
