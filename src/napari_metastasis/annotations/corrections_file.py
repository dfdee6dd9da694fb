"""Corrections as GeoJSON that QuPath opens, with what it has no word for beside; outlines of other files as such."""

from __future__ import annotations

import math
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, cast

import numpy as np
import shapely

from napari_metastasis.annotations.corrections import (
    LABELS,
    MITOSIS_LABELS,
    Correction,
    Corrections,
    Finding,
    Label,
    now,
)
from napari_metastasis.annotations.editing import area_in
from napari_metastasis.annotations.geojson import (
    areas_of,
    feature_class,
    feature_text,
    geometry_json,
    read_features,
    write_feature_texts,
)
from napari_metastasis.annotations.mitosis_corrections import corrections_of_points
from napari_metastasis.annotations.points import (
    MITOSIS,
    NO_CLASS,
    NOT_A_MITOSIS,
    PointSet,
    is_unreviewed,
    label_of_point,
    points_of,
)
from napari_metastasis.annotations.polygons import Annotation, AnnotationSet
from napari_metastasis.annotations.rasterizer import covered
from napari_metastasis.annotations.reading import Tell, part_of, silent, told
from napari_metastasis.errors import AnnotationError, brief
from napari_metastasis.geometry import Region

__all__ = [
    "CLASSES",
    "READ",
    "CorrectionsFile",
    "FeatureTexts",
    "annotations_of_corrections",
    "corrections_of",
    "read_corrections",
    "write_corrections",
]

#: Classes of QuPath, with the colours that it has for them. One whose name ends in a star is left out of its counts.
CLASSES: Mapping[Label, tuple[str, tuple[int, int, int]]] = {
    "tumour": ("Tumor", (200, 0, 0)),
    "normal": ("Normal", (0, 150, 60)),
    "ignore": ("Ignore*", (180, 180, 180)),
    "undecided": ("Undecided", (240, 180, 0)),
    "mitosis": (MITOSIS, (30, 255, 142)),
    "not-mitosis": (NOT_A_MITOSIS, (110, 110, 110)),
}
#: The member of a feature's properties that only this program writes.
_OWN = "metastasis"
#: Of the keys of outlines that other programs drew. Never change it: the same outline would be there twice.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "corrections.napari-metastasis")
#: To which other programs round.
_PRECISION_PX = 0.01
#: The share of the time that reading outlines takes, before they are corrections.
READ = 0.7


@dataclass(frozen=True, slots=True)
class CorrectionsFile:
    """What a file of corrections holds.

    Attributes
    ----------
    written
        Corrections as they were written here.
    drawn
        The outlines of other programs that are understood.
    others
        Features that are not understood, as they stand in the file: they are written back.
    omitted
        Of each kind of these, as a plural noun, how many.
    """

    written: Corrections
    drawn: Corrections
    others: tuple[dict[str, Any], ...] = ()
    omitted: Mapping[str, int] = field(default_factory=dict)

    @property
    def corrections(self) -> Corrections:
        """Return all of them."""
        return Corrections.of((*self.drawn, *self.written))


class FeatureTexts:
    """What corrections read in the file; each is put into words once, however often the file is written."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Correction, str]] = {}

    def of(self, corrections: Corrections, bounds: Region | None) -> Iterator[str]:
        """Yield the lines of corrections; the bounds of a slide stay the same."""
        before, self._held = self._held, {}
        for one in corrections:
            held = before.get(one.key)
            if held is None or held[0] is not one:
                held = one, feature_text(_feature(one, bounds))
            self._held[one.key] = held
            yield held[1]


def write_corrections(
    path: str | os.PathLike[str],
    corrections: Corrections,
    *,
    bounds: Region | None = None,
    others: Sequence[dict[str, Any]] = (),
    known: FeatureTexts | None = None,
) -> str:
    """Write corrections, in one step: the old file stays whole until the new one is.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    corrections
        In level-0 pixels.
    bounds
        The slide's bounds, if it states any: QuPath counts from their corner.
    others
        Features of other programs, which are written as they are.
    known
        What was written of them before; it learns what is written now.

    Returns
    -------
    The SHA-256 of what was written.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    texts = FeatureTexts() if known is None else known
    return write_feature_texts(path, chain(texts.of(corrections, bounds), map(feature_text, others)))


def read_corrections(
    path: str | os.PathLike[str], *, bounds: Region | None = None, reviewer: str = "", tell: Tell = silent
) -> CorrectionsFile:
    """Read corrections that were written here, and outlines of other programs as such, and their points of mitoses.

    Parameters
    ----------
    path
        GeoJSON.
    bounds
        The slide's bounds, if it states any.
    reviewer
        Of outlines that do not say whose they are.
    tell
        Takes the share that is read.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or a correction in it is damaged.
    """
    shift = (0.0, 0.0) if bounds is None else (float(bounds.x), float(bounds.y))
    omitted: Counter[str] = Counter()
    drawn: list[Annotation] = []
    points: list[tuple[tuple[float, float], str]] = []
    unreviewed: list[tuple[float, float]] = []
    others: list[dict[str, Any]] = []

    def read(feature: dict[str, Any]) -> Iterator[Correction]:
        own = (feature.get("properties") or {}).get(_OWN)
        if isinstance(own, dict):
            yield _own(feature, own, shift)
            return
        set_there = [(xy, name) for xy, name in points_of(feature, shift) if label_of_point(name)]
        if set_there and is_unreviewed(feature):
            # A model found it, and no person said so.
            unreviewed.extend(xy for xy, _ in set_there)
            others.append(feature)
            return
        if set_there and feature_class(feature.get("properties") or {}) != NO_CLASS:
            points.extend(set_there)
            return
        # All of one class.
        areas = list(areas_of(feature, shift, omitted))
        if areas and (areas[0].is_cut_out or _label_of(areas[0]) is not None):
            drawn.extend(areas)
            return
        omitted.update(f"outlines of class {one.group!r}" for one in areas)
        others.append(feature)

    written = Corrections.of(read_features(path, read, tell=part_of(tell, 0.0, READ)))
    outlines, left = corrections_of(
        AnnotationSet.of_file(drawn, omitted), reviewer=reviewer, tell=part_of(tell, READ, 1.0)
    )
    mitoses = PointSet(np.array([xy for xy, _ in points]), tuple(name for _, name in points), np.array(unreviewed))
    said, without = corrections_of_points(mitoses, reviewer=reviewer)
    return CorrectionsFile(written, Corrections.of((*outlines, *said)), tuple(others), {**left, **without})


def corrections_of(
    drawn: AnnotationSet, *, reviewer: str, tell: Tell = silent
) -> tuple[Corrections, Mapping[str, int]]:
    """Return outlines of another program's file as corrections, and how many of which kind are none.

    An outline may cross itself, and is read by the even-odd rule. The same outline has the same key, however often it
    is read.
    """
    found, omitted, at = [], Counter(drawn.omitted), now()
    for one in told(drawn.annotations, tell):
        label, area = _label_of(one), area_in(covered(one))
        if label is None:
            omitted[f"outlines of group {one.group!r}"] += 1
        elif area is not None:
            key = str(uuid.uuid5(_NAMESPACE, f"{label} {shapely.set_precision(area, _PRECISION_PX).normalize().wkt}"))
            found.append(Correction(key=key, label=label, shape_px=area, reviewer=reviewer, at=at))
    return Corrections.of(found), dict(omitted)


def annotations_of_corrections(corrections: Corrections) -> AnnotationSet:
    """Return the areas of corrections, for files of other programs; points and mitoses are counted as omitted."""
    drawn, omitted = [], Counter[str]()
    for number, one in enumerate(corrections, 1):
        if isinstance(one.shape_px, shapely.Point):
            omitted["points of mitoses" if one.is_of_mitosis else "points"] += 1
            continue
        for part in shapely.get_parts(one.shape_px).tolist():
            drawn.append(Annotation(f"{one.state.capitalize()} {number}", CLASSES[one.label][0].casefold(), part))
    return AnnotationSet(tuple(drawn), dict(omitted))


def _label_of(outline: Annotation) -> Label | None:
    """Return what the group, or class, of an outline means; ``None`` where that is not known."""
    if outline.is_ignored:
        return "ignore"
    if outline.is_normal:
        return "normal"
    if outline.group.casefold() == "undecided":
        return "undecided"
    return "tumour" if outline.is_tumour else None


def _feature(correction: Correction, bounds: Region | None) -> dict[str, Any]:
    name, colour = CLASSES[correction.label]
    own: dict[str, Any] = {
        "state": correction.state,
        "label": correction.label,
        "reviewer": correction.reviewer,
        "at": correction.at.isoformat(),
        "comment": correction.comment,
    }
    if correction.found is not None:
        found = correction.found
        own["found"] = {
            "model": found.model,
            "map": found.map,
            "threshold": found.threshold,
            "probability": found.probability,
            "geometry": geometry_json(found.outline_px, bounds),
        }
    return {
        "type": "Feature",
        "id": correction.key,
        "geometry": geometry_json(correction.shape_px, bounds),
        "properties": {
            "objectType": "annotation",
            "name": correction.comment or correction.state.capitalize(),
            "classification": {"name": name, "color": list(colour)},
            "isLocked": False,
            _OWN: own,
        },
    }


def _own(feature: dict[str, Any], own: dict[str, Any], shift: tuple[float, float]) -> Correction:
    """Return a correction as it was written.

    Raises
    ------
    AnnotationError
        If a member is missing, or is nothing that is written there.
    """
    label, shape, found = own["label"], _shape(feature.get("geometry") or {}, shift), own.get("found")
    if label not in LABELS + MITOSIS_LABELS:
        raise AnnotationError(
            f"expected one of {', '.join(LABELS + MITOSIS_LABELS)} as label, got {brief(label)}; correct it"
        )
    if shape is None:
        raise AnnotationError("expected an area or a point of a correction, got neither; correct it")
    return Correction(
        key=str(feature["id"]),
        label=cast("Label", label),
        shape_px=shape,
        found=None if found is None else _finding(found, shift, is_point=label in MITOSIS_LABELS),
        reviewer=str(own["reviewer"]),
        at=datetime.fromisoformat(own["at"]).astimezone(UTC),
        comment=str(own["comment"]),
    )


def _finding(found: dict[str, Any], shift: tuple[float, float], *, is_point: bool) -> Finding:
    outline = _shape(found["geometry"], shift)
    if outline is None or isinstance(outline, shapely.Point) is not is_point:
        what = "point" if is_point else "outline"
        raise AnnotationError(f"expected the {what} of what a model found, got none; correct it")
    probability = found["probability"]
    return Finding(
        model=str(found["model"]),
        map=str(found["map"]),
        threshold=float(found["threshold"]),
        probability=None if probability is None else float(probability),
        outline_px=outline,
    )


def _shape(geometry: dict[str, Any], shift: tuple[float, float]) -> shapely.Geometry | None:
    """Return a geometry of GeoJSON as an area or a point; ``None`` where it is neither."""
    if geometry.get("type") not in {"Polygon", "MultiPolygon", "Point"}:
        return None
    if geometry["type"] == "Point" and geometry["coordinates"]:
        # There may be a hundred thousand of them.
        x, y = map(float, geometry["coordinates"][:2])
        at_all = math.isfinite(x) and math.isfinite(y)
        return shapely.Point(x + shift[0], y + shift[1]) if at_all else None
    # Coordinates may carry a height.
    shape = shapely.force_2d(shapely.geometry.shape(geometry))
    corners = shapely.get_coordinates(shape)
    if not len(corners) or not np.isfinite(corners).all():
        return None
    return shape if shift == (0.0, 0.0) else shapely.transform(shape, lambda corners: corners + shift)
