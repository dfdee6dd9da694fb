"""Which lesions a person has spoken of, at any threshold and after another scan: matched by what they overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations import Annotation, Correction, Corrections, rasterize
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.lesions.lesion import Findings

__all__ = ["CorrectionCells", "LesionReview", "Reviewed", "match_corrections"]

#: A correction is about a lesion where they share this much of the smaller one, and takes it away where it covers as
#: much of the lesion itself.
_SHARE = 0.5
#: What shares less than this is a neighbour.
_TOUCH = 0.1

_PENDING = "pending"


@dataclass(frozen=True, slots=True)
class LesionReview:
    """What a person has said of a lesion.

    Attributes
    ----------
    state
        "confirmed", "rejected" or "ignored"; "pending" where nothing was said, or nothing that is clear.
    keys
        Of the corrections that overlap it, the one that shares most first.
    is_clear
        Whether what they say fits together and fits the lesion: where it does not, it has to be looked at again.
    """

    state: str = _PENDING
    keys: tuple[str, ...] = ()
    is_clear: bool = True


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a person has said of the lesions at one threshold.

    Attributes
    ----------
    of_lesion
        By the lesions' ids; those of which nothing was said are not there.
    alone
        Keys of the corrections that no lesion overlaps: what was drawn, and findings that are not shown any more.
    """

    of_lesion: Mapping[int, LesionReview] = field(default_factory=dict)
    alone: tuple[str, ...] = ()

    def review(self, lesion: int) -> LesionReview:
        """Return what was said of a lesion."""
        return self.of_lesion.get(lesion, LesionReview())

    def pending(self, lesions: Iterable[int]) -> tuple[int, ...]:
        """Return those that are still to be looked at, in their order."""
        return tuple(one for one in lesions if self.review(one).state == _PENDING)


class CorrectionCells:
    """The cells of a map that corrections lie on; those of each are found once.

    Parameters
    ----------
    frame
        Where the cells lie.
    """

    def __init__(self, frame: HeatmapFrame) -> None:
        self.frame = frame
        self._found: dict[str, tuple[Correction, npt.NDArray[np.intp]]] = {}

    def of(self, correction: Correction) -> npt.NDArray[np.intp]:
        """Return the cells, (n, 2) of row and column: at least that of its middle, unless it is off the slide."""
        held = self._found.get(correction.key)
        if held is None or held[0].shape_px is not correction.shape_px:
            held = correction, self._cells(correction.shape_px)
            self._found[correction.key] = held
        return held[1]

    def _cells(self, shape: shapely.Geometry) -> npt.NDArray[np.intp]:
        middle = self.frame.cell_at(Point(*shapely.get_coordinates(shapely.point_on_surface(shape))[0].tolist()))
        cell = np.array([[round(middle.y), round(middle.x)]], np.intp)
        rows, columns = self.frame.cells.shape
        cell = cell[((cell >= 0) & (cell < (rows, columns))).all(axis=1)]
        if isinstance(shape, shapely.Point):
            return cell
        left, top, right, bottom = shape.bounds
        low, high = self.frame.cell_at(Point(left, top)), self.frame.cell_at(Point(right, bottom))
        first = max(0, int(low.x)), max(0, int(low.y))
        past = min(columns, int(high.x) + 2), min(rows, int(high.y) + 2)
        if past[0] <= first[0] or past[1] <= first[1]:
            return cell
        window = Region(*first, past[0] - first[0], past[1] - first[1])
        areas = [Annotation("", "", part) for part in shapely.get_parts(shape).tolist()]
        inside = np.argwhere(rasterize(areas, self.frame, window)) + np.array([window.y, window.x])
        return inside if len(inside) else cell


def match_corrections(found: Findings, corrections: Corrections, cells: CorrectionCells) -> Reviewed:
    """Return which lesions the corrections speak of.

    A lesion is confirmed where it shares half of the smaller of both with tumour that a person saw; it is rejected, or
    ignored, where half of the lesion itself is covered by what a person called normal, or asked to ignore. Where both
    hold, or an overlap is too small for either, what was said does not clearly apply to it.

    Parameters
    ----------
    found
        The lesions.
    corrections
        All of the slide.
    cells
        Of the map that the lesions were read from.
    """
    cell_mm2 = (cells.frame.cell_um / 1000) ** 2
    size_of = {row.id: max(1.0, row.area_mm2 / cell_mm2) for row in found.rows}
    shares: dict[int, list[tuple[float, float, Correction]]] = defaultdict(list)
    alone = []
    for correction in corrections:
        own = cells.of(correction)
        labels, counts = np.unique(found.labels[own[:, 0], own[:, 1]], return_counts=True)
        about = [(int(label), int(count)) for label, count in zip(labels, counts, strict=True) if label in size_of]
        if not about:
            alone.append(correction.key)
        for label, count in about:
            smaller = min(len(own), size_of[label])
            shares[label].append((count / smaller, count / size_of[label], correction))
    return Reviewed({label: _review(said) for label, said in shares.items()}, tuple(alone))


def _review(said: list[tuple[float, float, Correction]]) -> LesionReview:
    """Return what corrections say of a lesion, by their shares of the smaller of both and of the lesion."""
    said = sorted(said, key=lambda one: -one[0])
    keys = tuple(correction.key for *_, correction in said)
    decided = [one for one in said if one[2].label != "undecided"]
    covered: dict[str, float] = defaultdict(float)
    for _, of_lesion, correction in decided:
        covered[correction.label] += of_lesion
    about = {correction.label for of_smaller, _, correction in decided if of_smaller >= _SHARE}
    holds = {label for label in about if label == "tumour" or covered[label] >= _SHARE}
    if len(about) == 1 and holds:
        states = {"tumour": "confirmed", "normal": "rejected", "ignore": "ignored"}
        return LesionReview(states[next(iter(holds))], keys)
    touches = any(of_smaller >= _TOUCH for of_smaller, *_ in decided)
    return LesionReview(_PENDING, keys, is_clear=not touches)
