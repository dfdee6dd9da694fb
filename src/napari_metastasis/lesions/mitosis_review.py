"""Which mitoses a person has spoken of, at any threshold and after another scan, and what a person says of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

__all__ = ["PointReviews", "decide_mitosis", "review_points"]

Floats = NDArray[np.float64]
_RADIUS_UM, _ = setting_of(PointScoringSettings, "radius_um")


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

    One correction is about one point, the nearest pairs first: what was said of a mitosis never goes over to its
    neighbour, as it could where as many as possible were to be matched. A decision on what a model found once, in the
    radius of a point that another correction is about, is about the same mitosis, and counts no second time.

    Parameters
    ----------
    xy
        (n, 2), points that a model found, (x, y) in level-0 pixels.
    corrections
        All of the slide.
    mpp
        Micrometres per level-0 pixel.
    radius_um
        Largest distance of a correction from the point that it is about.
    """
    said, places = corrections.mitoses, corrections.mitoses_px
    near = _near(xy, places, radius_um / mpp)
    pairs = _nearest_pairs(xy, places, near, said)
    of_found = [LesionReview()] * len(xy)
    for found, one in pairs:
        # Where a model finds a mitosis now, it is confirmed, also if a person had added it.
        of_found[found] = _review(said[one], "confirmed" if said[one].label == "mitosis" else "rejected")
    spoken = {one for _, one in pairs}
    beside = [
        (one, place)
        for number, (one, place) in enumerate(zip(said, places, strict=True))
        if number not in spoken and one.label == "mitosis" and (one.found is None or not near[number])
    ]
    return PointReviews(
        tuple(of_found),
        tuple(_review(one, one.state) for one, _ in beside),
        np.array([place for _, place in beside], np.float64).reshape(-1, 2),
        np.array([_answered(one) for one, _ in beside], np.float32),
    )


def _answered(one: Correction) -> float:
    known = None if one.found is None else one.found.probability
    return np.nan if known is None else known


def _near(xy: Floats, places: Floats, radius_px: float) -> list[list[int]]:
    """Return the points in the radius of each place."""
    if not len(xy) or not len(places):
        return [[] for _ in places]
    return [sorted(found) for found in cKDTree(xy).query_ball_point(places, radius_px)]


def _nearest_pairs(
    xy: Floats, places: Floats, near: Sequence[Sequence[int]], said: Sequence[Correction]
) -> list[tuple[int, int]]:
    """Return pairs of a point and a correction, by their numbers; of equally near ones, what was said last is first."""
    close = [
        (float(np.linalg.norm(xy[found] - places[one])), -said[one].at.timestamp(), found, one)
        for one, around in enumerate(near)
        for found in around
    ]
    taken: dict[int, int] = {}
    spoken: set[int] = set()
    for _, _, found, one in sorted(close):
        if found not in taken and one not in spoken:
            taken[found] = one
            spoken.add(one)
    return sorted(taken.items())


def _review(one: Correction, state: str) -> LesionReview:
    return LesionReview(
        state,  # type: ignore[arg-type]  # one of them
        (one.key,),
        reviewer=one.reviewer,
        at=one.at,
        comment=one.comment,
        found=one.found,
    )


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
