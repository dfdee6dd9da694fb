"""Which mitoses a person has spoken of, at any threshold and after another scan, and what a person says of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_metastasis.annotations import Correction, Corrections, Finding, decide_point
from napari_metastasis.annotations.corrections import Label
from napari_metastasis.lesions.said import LesionReview
from napari_metastasis.settings import PointScoringSettings, setting_of

if TYPE_CHECKING:
    from napari_metastasis.lesions.mitoses import Mitoses

__all__ = ["PointReviews", "decide_mitosis", "new_mitoses", "review_points"]

Floats = NDArray[np.float64]
_RADIUS_UM, _ = setting_of(PointScoringSettings, "radius_um")
#: A point this near to where the decided one was found is that one: tables round to a hundredth of a pixel, and cells
#: of the map are about a micrometre.
_OWN_UM = 1.5
#: A decision whose own point is gone holds for one this near: another model's, or another scan's, of the same nucleus;
#: and what a person set as near to a point is about that one.
#: Points of one map keep the radius of matching apart, so that what is nearer than half of it is no neighbour.
_SAME_UM = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class PointReviews:
    """What people say of points that were found, and what counts beside them.

    Attributes
    ----------
    of_found
        Of each point that was found.
    beside
        Of each mitosis that only people know of: "added", or "confirmed" where a model had found it once.
    beside_xy
        Where these lie, (m, 2) float64, (x, y) in level-0 pixels.
    beside_probability
        (m,) float32: what that model had answered; NaN where none had.
    """

    of_found: tuple[LesionReview, ...]
    beside: tuple[LesionReview, ...]
    beside_xy: Floats
    beside_probability: NDArray[np.float32]


def review_points(xy: Floats, corrections: Corrections, *, mpp: float, radius_um: float = _RADIUS_UM) -> PointReviews:
    """Return what corrections say of points, and which mitoses they know of beside these.

    One correction is about one point, the nearest pairs first, so that it is never about a neighbour, as it could be
    where as many as possible were to be matched. A decision on what a model found is about the point that lies where
    that was found, before anything else is; where it is gone, at another threshold or in another scan, about none that
    lies farther away than 3 µm. Points that a person set reach as far as the radius, but where they lie within 3 µm of
    one that another correction is about, they are about no other.

    Beside these, no mitosis counts twice: one within the radius of a confirmed one, or of one that is listed already,
    is the same one, whoever set it. Two do not lie so near to each other; the halves of one that divides do.

    Parameters
    ----------
    xy
        (n, 2), points that a model found, (x, y) in level-0 pixels.
    corrections
        All of the slide.
    mpp
        Micrometres per level-0 pixel.
    radius_um
        Largest distance of a point that a person set from the one that it is about.
    """
    said, places = corrections.mitoses, corrections.mitoses_px
    close = _close(xy, said, places, mpp=mpp, radius_um=radius_um)
    pairs = _nearest_pairs(close)
    of_found = [LesionReview()] * len(xy)
    for found, one in pairs:
        # Where a model finds a mitosis now, it is confirmed, also if a person had added it.
        of_found[found] = _review(said[one], "confirmed" if said[one].label == "mitosis" else "rejected")
    # A decision as near to a point that another one is about, is about the same mitosis.
    spoken = {one for _, one in pairs} | {each.said for each in close if said[each.said].found is not None}
    confirmed = np.array([one.state == "confirmed" for one in of_found], np.bool_)
    left = [n for n, one in enumerate(said) if n not in spoken and one.label == "mitosis"]
    beside = _apart(left, said, places, xy[confirmed], radius_um / mpp)
    return PointReviews(
        tuple(of_found),
        tuple(_review(said[one], said[one].state) for one in beside),
        places[beside].reshape(-1, 2),
        np.array([_answered(said[one]) for one in beside], np.float32),
    )


def _answered(one: Correction) -> float:
    known = None if one.found is None else one.found.probability
    return np.nan if known is None else known


class _Pair(NamedTuple):
    """A point and a correction that may be about it; sorted, what is surer comes first."""

    is_other: bool
    distance_px: float
    #: Of equally near ones, what was said last is first.
    minus_time: float
    found: int
    said: int


def _close(xy: Floats, said: Sequence[Correction], places: Floats, *, mpp: float, radius_um: float) -> list[_Pair]:
    """Return the points in the reach of each correction, and which are those that it decided on."""
    if not len(xy) or not said:
        return []
    # Where a model found it, also if a person moved it since.
    at = np.array([place if one.found is None else _found_at(one) for one, place in zip(said, places, strict=True)])
    reach_um = [radius_um if one.found is None else min(_SAME_UM, radius_um) for one in said]
    pairs = []
    for one, around in enumerate(cKDTree(xy).query_ball_point(at, np.array(reach_um) / mpp)):
        near = sorted((float(np.linalg.norm(xy[found] - at[one])), found) for found in around)
        # What lies on a point is about no other one, also where another correction is about that.
        is_on_it = bool(near) and near[0][0] * mpp <= min(_SAME_UM, radius_um)
        for distance, found in near[:1] if is_on_it else near:
            is_own = said[one].found is not None and distance * mpp <= _OWN_UM
            pairs.append(_Pair(not is_own, distance, -said[one].at.timestamp(), found, one))
    return pairs


def _found_at(one: Correction) -> list[float]:
    assert one.found is not None
    middle = one.found.outline_px.centroid
    return [middle.x, middle.y]


def _nearest_pairs(close: Sequence[_Pair]) -> list[tuple[int, int]]:
    """Return pairs of a point and a correction, by their numbers, one to one."""
    taken: dict[int, int] = {}
    spoken: set[int] = set()
    for pair in sorted(close):
        if pair.found not in taken and pair.said not in spoken:
            taken[pair.found] = pair.said
            spoken.add(pair.said)
    return sorted(taken.items())


def _apart(
    left: Sequence[int], said: Sequence[Correction], places: Floats, listed: Floats, radius_px: float
) -> list[int]:
    """Return which of some corrections lie within the radius of nothing listed, nor of each other: decisions first."""
    kept: list[int] = []
    known = listed
    for one in sorted(left, key=lambda number: said[number].found is None):
        if not (np.hypot(*(known - places[one]).T) <= radius_px).any():
            kept.append(one)
            known = np.concatenate([known, places[one : one + 1]])
    return sorted(kept)


def _review(one: Correction, state: str) -> LesionReview:
    return LesionReview(
        state,  # type: ignore[arg-type]  # one of them
        (one.key,),
        reviewer=one.reviewer,
        at=one.at,
        comment=one.comment,
        found=one.found,
    )


def new_mitoses(mitoses: Mitoses, corrections: Corrections, more: Iterable[Correction]) -> tuple[Correction, ...]:
    """Return which of some points that a person sets would be listed: none where one is known already.

    One within the radius of a mitosis that is confirmed, or was added, is that one: it would be stored, and seen
    nowhere, or stand in its place.

    Parameters
    ----------
    mitoses
        What a model found.
    corrections
        All of the slide.
    more
        The points, as corrections of their own.
    """
    points = tuple(more)
    before, after = _spoken(mitoses, corrections), _spoken(mitoses, corrections.with_(*points))
    taken_px = np.array([_place(corrections[key]) for key in before - after]).reshape(-1, 2)
    radius_px = _RADIUS_UM / mitoses.mpp

    def is_new(one: Correction) -> bool:
        return one.key in after and not (np.hypot(*(taken_px - _place(one)).T) <= radius_px).any()

    return tuple(filter(is_new, points))


def _place(one: Correction) -> tuple[float, float]:
    middle = one.shape_px.centroid
    return middle.x, middle.y


def _spoken(mitoses: Mitoses, corrections: Corrections) -> frozenset[str]:
    """Return the keys of the corrections that are about a point that is listed."""
    said = review_points(mitoses.xy[: mitoses.of_model], corrections, mpp=mitoses.mpp)
    return frozenset(key for one in (*said.of_found, *said.beside) for key in one.keys)


def decide_mitosis(
    mitoses: Mitoses, row: int, corrections: Corrections, label: Label | None, *, model: str, reviewer: str
) -> tuple[Corrections, str]:
    """Say what a listed mitosis is.

    Parameters
    ----------
    mitoses
        As they are shown, with what these corrections say of them.
    row
        Which of them.
    corrections
        All of the slide.
    label
        "mitosis" or "not-mitosis"; ``None`` takes back what was said, and an added one away.
    model
        Name of the model that found it.
    reviewer
        Who says so.

    Returns
    -------
    The corrections, and the key of the one that speaks of it; empty where none does.

    Raises
    ------
    AnnotationError
        If the label is another one, or the name is no line of text.
    """
    key = next(iter(mitoses.reviews[row].keys), "")
    found = None
    if row < mitoses.of_model:
        found = Finding(
            model=model,
            map="mitoses",
            threshold=mitoses.threshold,
            probability=float(mitoses.probability[row]),
            outline_px=shapely.Point(*mitoses.xy[row].tolist()),
        )
    return decide_point(corrections, label, reviewer=reviewer, key=key, found=found)
