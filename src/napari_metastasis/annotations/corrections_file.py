"""Corrections as GeoJSON that QuPath opens, with what it has no word for beside; outlines of other files as such."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import shapely

from napari_metastasis.annotations.corrections import (
    LABELS,
    Correction,
    Corrections,
    Finding,
    Label,
    now,
)
from napari_metastasis.annotations.editing import area_in
from napari_metastasis.annotations.geojson import feature_class, read_features
from napari_metastasis.annotations.polygons import (
    IGNORED_GROUPS,
    NORMAL_GROUPS,
    Annotation,
    AnnotationSet,
    means_tumour,
)
from napari_metastasis.annotations.rasterizer import covered
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region
from napari_metastasis.storage import atomic_text, holds_control_characters

__all__ = ["annotations_of_corrections", "corrections_of", "read_corrections", "write_corrections"]

#: Classes of QuPath, with the colours that it has for them. One whose name ends in a star is left out of its counts.
_CLASSES: Mapping[Label, tuple[str, tuple[int, int, int]]] = {
    "tumour": ("Tumor", (200, 0, 0)),
    "normal": ("Normal", (0, 150, 60)),
    "ignore": ("Ignore*", (180, 180, 180)),
    "undecided": ("Undecided", (240, 180, 0)),
}
#: The member of a feature's properties that only this program writes.
_OWN = "metastasis"
_LONGEST = 2000


def write_corrections(path: str | os.PathLike[str], corrections: Corrections, *, bounds: Region | None = None) -> None:
    """Write corrections, in one step: the old file stays whole until the new one is.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    corrections
        In level-0 pixels.
    bounds
        The slide's bounds, if it states any: QuPath counts from their corner.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    shift = (0.0, 0.0) if bounds is None else (-bounds.x, -bounds.y)
    document = {"type": "FeatureCollection", "features": [_feature(one, shift) for one in corrections]}
    with atomic_text(path) as file:
        json.dump(document, file, separators=(",", ":"), allow_nan=False)
        file.write("\n")


def read_corrections(
    path: str | os.PathLike[str], *, bounds: Region | None = None, reviewer: str = ""
) -> tuple[Corrections, Mapping[str, int]]:
    """Read corrections that were written here, or annotations of another program as such.

    Parameters
    ----------
    path
        GeoJSON.
    bounds
        The slide's bounds, if it states any.
    reviewer
        Of outlines that do not say whose they are.

    Returns
    -------
    The corrections; and of each kind of thing that was not understood, as a plural noun, how many.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or a correction in it is damaged.
    """
    shift = (0.0, 0.0) if bounds is None else (bounds.x, bounds.y)
    # One time for all of a file that says none.
    at, omitted = now(), Counter[str]()

    def read(feature: dict[str, Any]) -> Iterator[Correction]:
        yield from _corrections(feature, shift, reviewer, at, omitted)

    return Corrections.of(read_features(path, read)), dict(omitted)


def corrections_of(drawn: AnnotationSet, *, reviewer: str) -> tuple[Corrections, Mapping[str, int]]:
    """Return outlines of another program's file as corrections, and how many of which kind are none.

    An outline may cross itself, and is read by the even-odd rule.
    """
    found, omitted, at = [], Counter(drawn.omitted), now()
    for one in drawn:
        label, area = _label_of(one.group), area_in(covered(one))
        if label is None:
            omitted[f"outlines of group {one.group!r}"] += 1
        elif area is not None:
            found.append(Correction(key=Correction.new_key(), label=label, shape_px=area, reviewer=reviewer, at=at))
    return Corrections.of(found), dict(omitted)


def annotations_of_corrections(corrections: Corrections) -> AnnotationSet:
    """Return the areas of corrections, for files of other programs; points are counted as omitted."""
    drawn, points = [], 0
    for number, one in enumerate(corrections, 1):
        if isinstance(one.shape_px, shapely.Point):
            points += 1
            continue
        for part in shapely.get_parts(one.shape_px).tolist():
            drawn.append(Annotation(f"{one.state.capitalize()} {number}", _CLASSES[one.label][0].casefold(), part))
    return AnnotationSet(tuple(drawn), {"points": points} if points else {})


def _label_of(group: str) -> Label | None:
    """Return what a group, or class, of another program means; ``None`` where that is not known."""
    name = group.casefold()
    if name in IGNORED_GROUPS:
        return "ignore"
    if name in NORMAL_GROUPS:
        return "normal"
    if name == "undecided":
        return "undecided"
    return "tumour" if means_tumour(group) else None


def _feature(correction: Correction, shift: tuple[float, float]) -> dict[str, Any]:
    name, colour = _CLASSES[correction.label]
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
            "geometry": _mapping(found.outline_px, shift),
        }
    return {
        "type": "Feature",
        "id": correction.key,
        "geometry": _mapping(correction.shape_px, shift),
        "properties": {
            "objectType": "annotation",
            "name": correction.comment or correction.state.capitalize(),
            "classification": {"name": name, "color": list(colour)},
            "isLocked": False,
            _OWN: own,
        },
    }


def _mapping(geometry: shapely.Geometry, shift: tuple[float, float]) -> dict[str, Any]:
    moved = geometry if shift == (0.0, 0.0) else shapely.transform(geometry, lambda corners: corners + shift)
    return cast("dict[str, Any]", shapely.geometry.mapping(moved))


def _corrections(
    feature: dict[str, Any], shift: tuple[float, float], reviewer: str, at: datetime, omitted: Counter[str]
) -> Iterator[Correction]:
    properties = feature.get("properties") or {}
    shape = _shape(feature.get("geometry") or {}, shift)
    if shape is None:
        omitted["features without an area or a point"] += 1
        return
    own = properties.get(_OWN)
    if isinstance(own, dict):
        yield _own(feature, own, shape, shift)
        return
    group = feature_class(properties)
    label = _label_of(group)
    if label is None:
        omitted[f"outlines of class {group!r}"] += 1
        return
    key = str(feature.get("id") or Correction.new_key())
    yield Correction(key=key, label=label, shape_px=shape, reviewer=reviewer, at=at)


def _own(
    feature: dict[str, Any],
    own: dict[str, Any],
    shape: shapely.Geometry,
    shift: tuple[float, float],
) -> Correction:
    """Return a correction as it was written.

    Raises
    ------
    AnnotationError
        If a member is missing, or is nothing that is written there.
    """
    label = own["label"]
    if label not in LABELS:
        raise AnnotationError(f"expected one of {', '.join(LABELS)} as label, got {label!r}; correct it")
    texts = {name: str(own[name]) for name in ("reviewer", "comment")}
    for name, text in texts.items():
        if len(text) > _LONGEST or holds_control_characters(text):
            raise AnnotationError(f"expected one line as {name} of a correction, got {text[:40]!r}…; correct it")
    found = own.get("found")
    return Correction(
        key=str(feature["id"]),
        label=cast("Label", label),
        shape_px=shape,
        found=None if found is None else _finding(found, shift),
        at=datetime.fromisoformat(own["at"]).astimezone(UTC),
        **texts,
    )


def _finding(found: dict[str, Any], shift: tuple[float, float]) -> Finding:
    outline = _shape(found["geometry"], shift)
    if outline is None or isinstance(outline, shapely.Point):
        raise AnnotationError("expected the outline of what a model found, got none; correct it")
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
    # Coordinates may carry a height.
    shape = shapely.force_2d(shapely.geometry.shape(geometry))
    corners = shapely.get_coordinates(shape)
    if not len(corners) or not np.isfinite(corners).all():
        return None
    return shape if shift == (0.0, 0.0) else shapely.transform(shape, lambda corners: corners + shift)
