"""Where a person set mitoses on a slide: the third kind of reference, beside outlines and masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import NOT_A_MITOSIS, PointSet
from napari_metastasis.annotations.points import label_of_point
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Size

__all__ = ["PointOrder", "PointReference", "column_order", "no_points", "point_reference"]

#: What the two columns of a CSV without a first line are.
PointOrder = Literal["xy", "yx"]


@dataclass(frozen=True, slots=True, eq=False)
class PointReference:
    """The points of one slide. Picklable.

    Attributes
    ----------
    mitoses
        (n, 2) float64, (x, y) in level-0 pixels: points of the class of mitoses, or without any.
    look_alikes
        (m, 2): what was said to be none.
    doubts
        What has to be said of the file beside; empty where all was understood.
    """

    mitoses: NDArray[np.float64]
    look_alikes: NDArray[np.float64]
    doubts: str = ""


def no_points() -> PointReference:
    """Return that of a slide without mitoses."""
    return PointReference(np.empty((0, 2)), np.empty((0, 2)))


def column_order(setting: str) -> PointOrder | None:
    """Return the order of columns that :class:`~napari_metastasis.settings.PointScoringSettings` states."""
    return None if setting == "named" else cast("PointOrder", setting)


def point_reference(points: PointSet, *, path: Path, size: Size | None = None) -> PointReference:
    """Return the mitoses among points.

    Parameters
    ----------
    points
        Of the file.
    path
        The file, for messages.
    size
        Of the slide's level 0; ``None`` where it is not known.

    Raises
    ------
    AnnotationError
        If all points are of classes that are not known, nobody reviewed any of them, or some lie off the slide.
    """
    try:
        mitoses = points.mitoses
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    if len(points.unreviewed) and not len(points):
        raise AnnotationError(
            f"expected mitoses that a person set or reviewed, got {points.unreviewed_text} in {path}; review them first"
        )
    outside = 0 if size is None else int((~_is_on(points.xy, size)).sum())
    if size is not None and outside:
        raise AnnotationError(
            f"expected points on the slide of {size.width} x {size.height} px, got {outside} of {len(points)} outside "
            f"in {path}; choose the slide's own points, in level-0 pixels, with their columns in the right order"
        )
    labels = [label_of_point(name) for name in points.classes]
    others = np.array([label == "not-mitosis" for label in labels], np.bool_)
    unknown = labels.count(None)
    left_out = [f"{points.unreviewed_text}, which are no truth; review them first"] if points.unreviewed_text else []
    if unknown:
        named = f"{unknown} points of class {', '.join(points.unknown)}"
        left_out.append(f"{named}; call them Mitosis or {NOT_A_MITOSIS} if they are meant")
    told = f"{path}: left out {', and '.join(left_out)}" if left_out else ""
    return PointReference(mitoses.xy, points.xy[others], told)


def _is_on(xy: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    return np.asarray(((xy >= 0) & (xy <= (size.width, size.height))).all(axis=1))
