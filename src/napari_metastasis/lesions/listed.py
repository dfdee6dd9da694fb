"""The lesions that files list: a model's, with what people said of them, and the outlines of people beside them.

Nothing counts twice. An outline that a person drew counts in place of the lesions that it covers by half or more; one
that lies within a larger confirmed lesion, or a larger outline, counts as a part of it. What a person confirmed, and no
lesion shows any more, at another threshold or after another scan, counts as it was when it was confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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

__all__ = ["ListedLesions", "changed_text", "list_lesions", "review_counts", "review_text", "unread_lesions", "verdict"]

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
    frame = _grid(size, mpp)
    reviewed = _matched(lesions, corrections, frame)
    numbered = {-number: one for number, one in enumerate(corrections, 1)}
    places = {own: place for own, one in numbered.items() if (place := _place(one, reviewed)) is not None}
    nested = _nested({own: numbered[own].shape_px for own in places}, frame)
    drawn: list[Lesion] = []
    instead: dict[int, list[int]] = {}
    for own, place in places.items():
        correction = numbered[own]
        review = LesionReview(
            correction.state,
            (correction.key,),
            reviewer=correction.reviewer,
            at=correction.at,
            comment=correction.comment,
            found=correction.found,
            is_redrawn=correction.is_redrawn,
            counted_as=nested.get(own, place.within),
        )
        drawn.append(replace(_measured(correction, own, mpp, nuclei_per_mm2), review=review))
        for lesion in place.takes:
            instead.setdefault(lesion, []).append(own)
    found = (
        replace(one, review=replace(reviewed.review(one.id), counted_as=tuple(instead.get(one.id, ()))))
        for one in lesions
    )
    gone = Counter(
        one.state
        for one in (corrections[key] for key in reviewed.alone)
        if one.found is not None and one.label in ("normal", "ignore")
    )
    return ListedLesions(tuple(found), tuple(drawn), dict(gone))


def _grid(size: Size, mpp: float) -> HeatmapFrame:
    """Return the cells on which outlines are compared."""
    stride = max(1, round(_CELL_UM / mpp))
    return HeatmapFrame(ModelFrame(scale=1.0, mpp=mpp, size=size), patch_px=stride, stride_px=stride)


def _nested(shapes: Mapping[int, shapely.Geometry], frame: HeatmapFrame) -> dict[int, tuple[int]]:
    """Return which outlines of people are part of a larger one, or the same: two may draw one lesion."""
    cells = {own: cells_under(shape, frame) for own, shape in shapes.items()}
    whole, inside = sparse_zeros(frame.cells.shape, np.int32), {}
    # The largest first; of one size, the earlier.
    for own in sorted(cells, key=lambda one: (-len(cells[one]), -one)):
        beneath = cells[own].by_label(whole)
        around = max(beneath, key=lambda one: len(beneath[one]), default=None)
        if around is not None and len(beneath[around]) >= SHARE * len(cells[own]):
            inside[own] = (around,)
            continue
        part = whole[cells[own].window.slices]
        part[cells[own].mask & (part == 0)] = own
    return inside


def _matched(lesions: Sequence[Lesion], corrections: Corrections, frame: HeatmapFrame) -> Reviewed:
    """Return what corrections say of lesions, compared on a grid."""
    if not corrections:
        return Reviewed()
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
    return match_corrections(_OnGrid(tuple(rows), labels), corrections, CorrectionCells(frame))


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
    return Lesion(
        id=number,
        x=correction.shape_px.x,
        y=correction.shape_px.y,
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
