"""What a person says of mitoses: points that are confirmed, rejected, added and taken away, among the corrections."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from napari_metastasis.annotations.corrections import (
    MITOSIS_LABELS,
    Correction,
    Corrections,
    Finding,
    Label,
    now,
    relabelled,
)
from napari_metastasis.annotations.points import PointSet, label_of_point
from napari_metastasis.errors import AnnotationError

__all__ = ["MitosisPoints", "add_points", "corrections_of_points", "decide_point", "mitosis_points"]

#: Of the keys of points. Never change it: the same point would be there twice.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "mitoses.corrections.napari-metastasis")


@dataclass(frozen=True, slots=True, eq=False)
class MitosisPoints:
    """What is said of mitoses, as arrays, in the order of the corrections.

    Attributes
    ----------
    keys
        Of the corrections, n.
    xy
        (n, 2) float64, (x, y) in level-0 pixels.
    is_mitosis
        (n,) bool: whether one lies there, or nothing but what looks like one.
    """

    keys: tuple[str, ...]
    xy: NDArray[np.float64]
    is_mitosis: NDArray[np.bool_]


def mitosis_points(corrections: Corrections) -> MitosisPoints:
    """Return what corrections say of mitoses."""
    said = corrections.mitoses
    is_mitosis = np.array([one.label == "mitosis" for one in said], np.bool_)
    return MitosisPoints(tuple(one.key for one in said), corrections.mitoses_px, is_mitosis)


def add_points(
    corrections: Corrections, xy: ArrayLike, label: Label = "mitosis", *, reviewer: str
) -> tuple[Corrections, tuple[str, ...]]:
    """Add points where no model found anything.

    Parameters
    ----------
    corrections
        All of the slide.
    xy
        (n, 2), (x, y) in level-0 pixels; a single point may be (2,).
    label
        "mitosis" or "not-mitosis".
    reviewer
        Who says so.

    Returns
    -------
    The corrections with the points, and the keys of these.

    Raises
    ------
    AnnotationError
        If a coordinate is not finite, or the label is another one.
    """
    _check_label(label)
    points = PointSet(np.asarray(xy, np.float64).reshape(-1, 2), ("",) * (np.size(xy) // 2))
    at = now()
    said = [
        Correction(key=Correction.new_key(), label=label, shape_px=point, reviewer=reviewer, at=at)
        for point in shapely.points(points.xy).tolist()
    ]
    return corrections.with_(*said), tuple(one.key for one in said)


def decide_point(
    corrections: Corrections,
    label: Label | None,
    *,
    reviewer: str,
    key: str = "",
    found: Finding | None = None,
) -> tuple[Corrections, str]:
    """Say what a point is: one that was spoken of, or one that a model found.

    Parameters
    ----------
    corrections
        All of the slide.
    label
        "mitosis" or "not-mitosis"; ``None`` takes back what was said.
    reviewer
        Who says so.
    key
        Of the correction that spoke of it; empty, or of one that is gone, where nobody did.
    found
        What a model found there, whose outline is the point; needed where nobody spoke of it. Two windows that decide
        on the same one speak of it in one correction.

    Returns
    -------
    The corrections, and the key of the one that speaks of the point; empty where none does.

    Raises
    ------
    AnnotationError
        If the label is another one, or nothing says which point is meant.
    """
    if label is None:
        return corrections.without(key), ""
    _check_label(label)
    before = corrections.by_key.get(key)
    if before is not None:
        return corrections.with_(relabelled(before, label, reviewer=reviewer)), key
    if found is None or not isinstance(found.outline_px, shapely.Point):
        raise AnnotationError("expected a point that a model found, or one that was spoken of, got neither; add it")
    place = found.outline_px
    key = _point_key(place.x, place.y, "found")
    said = Correction(key=key, label=label, shape_px=place, found=found, reviewer=reviewer, at=now())
    return corrections.with_(said), key


def corrections_of_points(points: PointSet, *, reviewer: str) -> tuple[Corrections, Mapping[str, int]]:
    """Return points of another program's file as corrections of mitoses, and how many of which kind are none.

    What nobody reviewed is none, and is counted. The same point has the same key, however often it is read.
    """
    found, at, omitted = [], now(), Counter[str]()
    if count := len(points.unreviewed):
        omitted["mitoses that nobody reviewed"] = count
    for (x, y), name in zip(points.xy.tolist(), points.classes, strict=True):
        label = label_of_point(name)
        if label is None:
            omitted[f"points of class {name!r}"] += 1
            continue
        key, place = _point_key(x, y, label), shapely.Point(x, y)
        found.append(Correction(key=key, label=label, shape_px=place, reviewer=reviewer, at=at))
    return Corrections.of(found), dict(omitted)


def _point_key(x: float, y: float, what: str) -> str:
    """Return the key of a point that a model found, or that another program wrote: the same for the same point."""
    return str(uuid.uuid5(_NAMESPACE, f"{what} {x:.2f},{y:.2f}"))


def _check_label(label: Label, of: Sequence[Label] = MITOSIS_LABELS) -> None:
    if label not in of:
        raise AnnotationError(f"expected one of {', '.join(of)} of a point, got {label}; choose one of them")
