"""Rows of the table for what a person said of no lesion that is shown: lesions drawn, and findings of elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import shapely

from napari_metastasis.annotations import Annotation, Correction, Corrections
from napari_metastasis.annotations.corrections import State
from napari_metastasis.lesions import Lesion, LesionRow, lesion_of

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
        self._made: dict[str, tuple[Correction, SaidRow]] = {}

    def of(self, corrections: Corrections, reviewed: Reviewed) -> tuple[SaidRow, ...]:
        """Return what was drawn as tumour, and decided findings that are not shown."""
        alone = [corrections[key] for key in reviewed.alone if key in corrections]
        return tuple(
            self._row(one)
            for one in alone
            if not isinstance(one.shape_px, shapely.Point)
            and (one.state == "added" or (one.found is not None and one.state != "pending"))
        )

    def _row(self, correction: Correction) -> SaidRow:
        held = self._made.get(correction.key)
        if held is None or held[0] is not correction:
            held = self._made[correction.key] = correction, self._measured(correction)
        return held[1]

    def _measured(self, correction: Correction) -> SaidRow:
        number = self._numbers.setdefault(correction.key, -1 - len(self._numbers))
        largest = max(shapely.get_parts(correction.shape_px).tolist(), key=lambda part: part.area)
        lesion: Lesion = lesion_of(Annotation("", "", largest), number=number, mpp=self._mpp)
        return SaidRow(
            id=number,
            x=lesion.x,
            y=lesion.y,
            probability=None if correction.found is None else correction.found.probability,
            area_mm2=correction.shape_px.area * (self._mpp / 1000) ** 2,
            length_mm=lesion.length_mm,
            detections=0,
            map=None,
            nuclei=lesion.nuclei,
            key=correction.key,
            state=correction.state,
        )
