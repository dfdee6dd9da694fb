"""The lesions that files list: a model's, with what people said of them, and the outlines of people beside them.

Nothing counts twice. An outline that a person drew counts in place of the lesions that it covers by half or more; one
that lies within a larger confirmed lesion, or a larger outline, counts as a part of it. What a person confirmed, and no
lesion shows any more, at another threshold or after another scan, counts as it was when it was confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.annotations.corrections import State
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size, sparse_zeros
from napari_metastasis.lesions.annotated import lesion_of
from napari_metastasis.lesions.lesion import Lesion, LesionRow
from napari_metastasis.lesions.reviewed import SHARE, CorrectionCells, Reviewed, cells_under, match_corrections
from napari_metastasis.lesions.said import LesionReview, ReviewState
from napari_metastasis.lesions.staging import SlideVerdict, slide_verdict

__all__ = [
    "ListedLesions",
    "changed_text",
    "grid_of_outlines",
    "list_lesions",
    "listed_rows",
    "review_counts",
    "review_text",
    "unread_lesions",
    "verdict",
]

_Lesion = TypeVar("_Lesion", bound=Lesion)

#: Side of the cells on which outlines are compared: about that of the maps.
_CELL_UM = 8.0
#: In this order people are told how many there are, and what of.
_TOLD: Mapping[ReviewState, str] = {
    "confirmed": "confirmed",
    "added": "added",
    "rejected": "rejected",
    "ignored": "ignored",
    "pending": "pending",
}


@dataclass(frozen=True, slots=True)
class ListedLesions(Generic[_Lesion]):
    """The lesions of a result, and what people said of them.

    Attributes
    ----------
    found
        A model's, in their order.
    drawn
        The outlines of people that stand beside them; their ids are below zero.
    not_shown
        How many findings of each state no lesion overlaps any more: what was taken away, and is not found again.
    """

    found: tuple[_Lesion, ...]
    drawn: tuple[Lesion, ...] = ()
    not_shown: Mapping[State, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _OnGrid:
    """Lesions on cells of their own."""

    rows: tuple[LesionRow, ...]
    labels: npt.NDArray[np.int32]


def unread_lesions(lesions: Iterable[_Lesion]) -> ListedLesions[_Lesion]:
    """Return lesions of which it is not known what people said: their corrections cannot be read."""
    unknown = LesionReview(is_known=False)
    return ListedLesions(tuple(replace(one, review=unknown) for one in lesions))


def list_lesions(
    lesions: Sequence[_Lesion],
    corrections: Corrections,
    *,
    size: Size,
    mpp: float,
    nuclei_per_mm2: float | None = None,
) -> ListedLesions[_Lesion]:
    """Return lesions with what people said of them, and what else they outlined.

    Outlines are compared, so that files can be read without the maps.

    Parameters
    ----------
    lesions
        Of a model.
    corrections
        All of the slide.
    size, mpp
        Of the slide's level 0; the pixel size in µm.
    nuclei_per_mm2
        As :func:`~napari_metastasis.lesions.lesion_of` takes it.
    """
    cells = CorrectionCells(grid_of_outlines(size, mpp))
    reviewed = _matched(lesions, corrections, cells)
    standing = _standing(corrections, reviewed, cells)
    drawn = (
        replace(_measured(one, number, mpp, nuclei_per_mm2), review=standing.review(number))
        for number, one in standing.drawn.items()
    )
    found = (replace(one, review=standing.review_of(one.id, reviewed)) for one in lesions)
    gone = Counter(
        one.state
        for one in (corrections[key] for key in reviewed.alone)
        if one.found is not None and one.label in ("normal", "ignore")
    )
    return ListedLesions(tuple(found), tuple(drawn), dict(gone))


def listed_rows(
    rows: Sequence[LesionRow],
    corrections: Corrections,
    reviewed: Reviewed,
    cells: CorrectionCells,
    measure: Callable[[Sequence[Correction]], Sequence[LesionRow]],
) -> tuple[LesionRow, ...]:
    """Return what :func:`list_lesions` lists, where it is known already what was said of which lesion.

    Parameters
    ----------
    rows
        Of a model's lesions. One of which nobody spoke is returned as it is.
    corrections
        All of the slide.
    reviewed
        What they say of the lesions.
    cells
        On which outlines are compared.
    measure
        Returns areas of people as rows, in their order.
    """
    standing = _standing(corrections, reviewed, cells)
    found = [
        replace(one, review=standing.review_of(one.id, reviewed))
        if one.id in reviewed.of_lesion or one.id in standing.instead
        else one
        for one in rows
    ]
    areas = {number: one for number, one in standing.drawn.items() if not isinstance(one.shape_px, shapely.Point)}
    measures = dict(zip(areas, measure(tuple(areas.values())), strict=True))
    drawn = [
        replace(measures.get(number) or _point(one, number), id=number, review=standing.review(number))
        for number, one in standing.drawn.items()
    ]
    return (*found, *drawn)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Which outlines of people are lesions of their own, by their numbers, which are below zero.

    Attributes
    ----------
    drawn
        The outlines.
    counted_as
        The larger outlines or lesions that some of them are parts of.
    instead
        By a model's lesion, the outlines that count in its place.
    """

    drawn: Mapping[int, Correction]
    counted_as: Mapping[int, tuple[int, ...]]
    instead: Mapping[int, tuple[int, ...]]

    def review(self, number: int) -> LesionReview:
        """Return what is said of an outline."""
        one = self.drawn[number]
        return LesionReview(
            one.state,
            (one.key,),
            reviewer=one.reviewer,
            at=one.at,
            comment=one.comment,
            found=one.found,
            is_redrawn=one.is_redrawn,
            counted_as=self.counted_as.get(number, ()),
        )

    def review_of(self, lesion: int, reviewed: Reviewed) -> LesionReview:
        """Return what is said of a model's lesion."""
        return replace(reviewed.review(lesion), counted_as=self.instead.get(lesion, ()))


def _standing(corrections: Corrections, reviewed: Reviewed, cells: CorrectionCells) -> _Standing:
    numbered = {-number: one for number, one in enumerate(corrections, 1) if one.label == "tumour"}
    places = {own: place for own, one in numbered.items() if (place := _place(one, reviewed)) is not None}
    drawn = {own: numbered[own] for own in places}
    within = {own: place.within for own, place in places.items() if place.within}
    instead: dict[int, tuple[int, ...]] = {}
    for own, place in places.items():
        for lesion in place.takes:
            instead[lesion] = (*instead.get(lesion, ()), own)
    return _Standing(drawn, {**within, **_nested(drawn, cells)}, instead)


def grid_of_outlines(size: Size, mpp: float) -> HeatmapFrame:
    """Return the cells on which outlines are compared."""
    stride = max(1, round(_CELL_UM / mpp))
    return HeatmapFrame(ModelFrame(scale=1.0, mpp=mpp, size=size), patch_px=stride, stride_px=stride)


def _nested(drawn: Mapping[int, Correction], grid: CorrectionCells) -> dict[int, tuple[int]]:
    """Return which outlines of people are part of a larger one, or the same: two may draw one lesion."""
    cells = {own: grid.of(one) for own, one in drawn.items()}
    # Of thousands, most lie by themselves.
    sides = [(one.window.x, one.window.y, one.window.right, one.window.bottom) for one in cells.values()]
    windows = shapely.box(*np.array(sides, np.float64).reshape(-1, 4).T)
    first, second = shapely.STRtree(windows).query(windows, predicate="intersects")
    meets = np.zeros(len(cells), np.bool_)
    meets[first[first != second]] = True
    near = {own for own, does in zip(cells, meets.tolist(), strict=True) if does}
    whole, inside = sparse_zeros(grid.frame.cells.shape, np.int32), {}
    # The largest first; of one size, the earlier.
    for own in sorted(near, key=lambda one: (-len(cells[one]), -one)):
        beneath = cells[own].by_label(whole)
        around = max(beneath, key=lambda one: len(beneath[one]), default=None)
        if around is not None and len(beneath[around]) >= SHARE * len(cells[own]):
            inside[own] = (around,)
            continue
        part = whole[cells[own].window.slices]
        part[cells[own].mask & (part == 0)] = own
    return inside


def _matched(lesions: Sequence[Lesion], corrections: Corrections, grid: CorrectionCells) -> Reviewed:
    """Return what corrections say of lesions, compared on a grid."""
    if not corrections:
        return Reviewed()
    frame = grid.frame
    labels = sparse_zeros(frame.cells.shape, np.int32)
    # Of ten thousand lesions, those that somebody spoke of.
    drawn = [one for one in lesions if not one.outline_px.is_empty]
    said = shapely.box(*shapely.bounds([one.shape_px for one in corrections]).T)
    near, _ = shapely.STRtree([one.outline_px for one in drawn]).query(said, predicate="intersects")[::-1]
    rows = []
    for one in (drawn[index] for index in np.unique(near).tolist()):
        cells = cells_under(one.outline_px, frame)
        labels[cells.window.slices][cells.mask] = one.id
        # An outline lies within the cells of its map: what is shared is a share of what it encloses.
        rows.append(replace(one, area_mm2=len(cells) * (frame.cell_um / 1000) ** 2))
    return match_corrections(_OnGrid(tuple(rows), labels), corrections, grid)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an outline of a person stands: the lesions that it takes the place of, and those that it is a part of."""

    takes: tuple[int, ...] = ()
    within: tuple[int, ...] = ()


def _place(correction: Correction, reviewed: Reviewed) -> _Place | None:
    """Return where a correction stands as a lesion of its own; ``None`` where a lesion stands for it, or it is none."""
    if correction.label != "tumour":
        return None
    overlaps = reviewed.overlaps.get(correction.key, ())
    takes = tuple(one.lesion for one in overlaps if one.of_lesion >= SHARE)
    around = [one.lesion for one in overlaps if one.of_correction >= SHARE]
    is_area, is_drawn = not isinstance(correction.shape_px, shapely.Point), correction.found is None
    if is_area and (is_drawn or correction.is_redrawn):
        if takes:
            return _Place(takes=takes)
        return _Place(within=tuple(one for one in around if reviewed.review(one).state == "confirmed"))
    return None if around else _Place(takes=takes)


def _measured(correction: Correction, number: int, mpp: float, nuclei_per_mm2: float | None) -> Lesion:
    if not isinstance(correction.shape_px, shapely.Point):
        return lesion_of(correction.shape_px, number=number, mpp=mpp, nuclei_per_mm2=nuclei_per_mm2)
    return _point(correction, number)


def _point(correction: Correction, number: int) -> Lesion:
    place = correction.shape_px
    assert isinstance(place, shapely.Point)
    return Lesion(
        id=number,
        x=place.x,
        y=place.y,
        probability=None,
        area_mm2=0.0,
        length_mm=0.0,
        detections=0,
        map=None,
        outline_px=shapely.Polygon(),
    )


def review_counts(lesions: Iterable[LesionRow]) -> dict[ReviewState, int]:
    """Return how many lesions there are of each state; none that counts as another is counted."""
    found = Counter(_state(one) for one in lesions if one.review is None or not one.review.counted_as)
    return {state: found[state] for state in (*_TOLD, "unknown")}


def _state(lesion: LesionRow) -> ReviewState:
    return "pending" if lesion.review is None else lesion.review.told


def review_text(lesions: Sequence[LesionRow]) -> str:
    """Return what people said in a line: "1 confirmed, 1 rejected, 8 pending"; empty where nobody said anything."""
    if not any(one.review is not None and one.review.reviewer + one.review.text for one in lesions):
        return ""
    counts = review_counts(lesions)
    told = [f"{counts[state]} {words}" for state, words in _TOLD.items() if counts[state]]
    unclear = sum(one.review is not None and not one.review.is_clear for one in lesions)
    told += [f"{unclear} to be looked at again"] if unclear else []
    return ", ".join(told)


def changed_text(lesions: Sequence[LesionRow]) -> str:
    """Return how people changed what counts: "1 rejected, not counted; 1 added"; empty where they did not."""
    counts = review_counts(lesions)
    if counts["unknown"]:
        return "what people said of the findings cannot be read"
    away = [f"{counts[state]} {state}" for state in ("rejected", "ignored") if counts[state]]
    told = [f"{' and '.join(away)}, not counted"] if away else []
    redrawn = sum(one.review is not None and one.review.is_redrawn and one.counts for one in lesions)
    told += [f"{counts['added']} added"] if counts["added"] else []
    told += [f"{redrawn} redrawn"] if redrawn else []
    return "; ".join(told)


def verdict(slide: str, lesions: Sequence[LesionRow], *, whole: bool, why: str) -> SlideVerdict:
    """Return the verdict on a slide by those of its lesions that count, and what people changed.

    Parameters
    ----------
    slide, whole, why
        As :func:`~napari_metastasis.lesions.slide_verdict` takes them.
    lesions
        All that are listed.
    """
    counted = [one for one in lesions if one.counts]
    points = sum(one.is_point for one in counted)
    lacking = [] if whole else [why]
    lacking += [f"{points} marked by a point, of unknown size"] if points else []
    found = slide_verdict(
        slide, (one.size_class for one in counted), whole=whole and not points, why=", ".join(lacking)
    )
    return replace(found, review=changed_text(lesions))
