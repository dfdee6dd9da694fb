"""The lines and dots that show corrections at a zoom, made once for each of them. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.outline_visual import LineStyle
from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.annotations.corrections import LABELS

if TYPE_CHECKING:
    from napari_metastasis.lesions import Reviewed

__all__ = ["CorrectionLines", "ShownAreas", "correction_styles", "ends_of", "shown_areas", "shown_points"]

FloatArray = npt.NDArray[np.float64]

#: What is added to the width of what is chosen, and to that of a line where it is a dot, in screen pixels.
_CHOSEN_PX, _DOT_PX = 1.6, 4.0
_PLACES = {label: place for place, label in enumerate(LABELS)}


def correction_styles(*, dots: bool) -> list[LineStyle]:
    """Return how corrections look, or their dots: each label, then each where it is chosen."""
    looks = [DRAWN[label] for label in LABELS]
    wider = _DOT_PX if dots else 0.0
    return [
        LineStyle(
            look.width_px + chosen + wider,
            (look.rgb[0] / 255, look.rgb[1] / 255, look.rgb[2] / 255),
            look.is_broken and not dots,
        )
        for chosen in (0.0, _CHOSEN_PX)
        for look in looks
    ]


def ends_of(shapes: Sequence[shapely.Geometry]) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Return the edges of areas, (n, 2, 2) both ends as (x, y), and which of the areas each belongs to."""
    parts, of_part = shapely.get_parts(np.array(shapes, dtype=object), return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    corners, of_corner = shapely.get_coordinates(rings, return_index=True)
    inner = of_corner[1:] == of_corner[:-1]
    ends = np.stack((corners[:-1][inner], corners[1:][inner]), axis=1)
    return ends, of_part[of_ring[of_corner[1:][inner]]]


@dataclass(frozen=True, slots=True, eq=False)
class ShownAreas:
    """The areas that are drawn.

    Attributes
    ----------
    corrections
        Theirs.
    bounds
        (n, 4) of left, top, right and bottom, in level-0 pixels.
    style
        (n,) places of their labels among :data:`LABELS`.
    """

    corrections: tuple[Correction, ...]
    bounds: FloatArray
    style: npt.NDArray[np.intp]


def shown_areas(corrections: Corrections, reviewed: Reviewed | None) -> ShownAreas:
    """Return the areas that are drawn: all that a person drew, and findings whose outline a person changed.

    Other decisions show on the outlines of the lesions; of findings that are not shown at this threshold, none is.
    """
    alone = frozenset(() if reviewed is None or not corrections.areas else reviewed.alone)
    is_drawn = [
        one.found is None
        or (one.label == "tumour" and one.shape_px is not one.found.outline_px and one.key not in alone)
        for one in corrections.areas
    ]
    drawn = tuple(compress(corrections.areas, is_drawn))
    return ShownAreas(
        drawn,
        corrections.bounds_px[np.array(is_drawn, np.bool_)],
        np.array([_PLACES[one.label] for one in drawn], np.intp),
    )


def shown_points(corrections: Corrections) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Return the points, (n, 2) of (x, y), and the places of their labels among :data:`LABELS`."""
    return corrections.places_px, np.array([_PLACES[one.label] for one in corrections.points], np.intp)


class CorrectionLines:
    """Simplifies areas to what a zoom shows, each once."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[shapely.Geometry, float, FloatArray]] = {}

    def lacking(self, areas: Sequence[Correction], tolerance_px: float) -> list[Correction]:
        """Return those whose lines were not made for a tolerance."""
        made = self._made
        return [
            one
            for one in areas
            if (held := made.get(one.key)) is None or held[0] is not one.shape_px or held[1] != tolerance_px
        ]

    def make(self, areas: Sequence[Correction], tolerance_px: float) -> None:
        """Make the lines of some areas."""
        shapes = np.array([one.shape_px for one in areas], dtype=object)
        simple = shapely.simplify(shapes, tolerance_px, preserve_topology=False)
        # What would vanish is drawn as it is.
        simple = np.where(shapely.is_empty(simple), shapes, simple)
        ends, owner = ends_of(simple.tolist())
        starts = np.searchsorted(owner, np.arange(len(areas) + 1))
        for at, one in enumerate(areas):
            self._made[one.key] = one.shape_px, tolerance_px, ends[starts[at] : starts[at + 1]]

    def of(self, areas: Sequence[Correction]) -> list[FloatArray]:
        """Return the lines of areas, each (n, 2, 2); none where they were not made yet."""
        none = np.zeros((0, 2, 2))
        return [held[2] if (held := self._made.get(one.key)) is not None else none for one in areas]
