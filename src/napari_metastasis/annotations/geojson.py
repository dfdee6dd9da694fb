"""GeoJSON as QuPath writes it: a FeatureCollection, a bare array of features, or one feature."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_metastasis.annotations.polygons import Annotation, AnnotationSet
from napari_metastasis.errors import AnnotationError

__all__ = ["feature_class", "read_features", "read_geojson"]

_Found = TypeVar("_Found")


def read_geojson(path: str | os.PathLike[str], *, shift: tuple[float, float] = (0.0, 0.0)) -> AnnotationSet:
    """Read the areas of a GeoJSON file; points and lines enclose none and are left out.

    An area of several polygons becomes as many annotations of one name. The class, or where there is none the name, is
    the group.

    Parameters
    ----------
    path
        A file with coordinates in full-resolution pixels.
    shift
        (x, y) to add, in level-0 pixels. QuPath counts from the corner of the slide's bounds, where it states any.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no GeoJSON, or has an area without three corners.
    """
    return AnnotationSet(read_features(path, lambda feature: _areas(feature, shift)))


def read_features(
    path: str | os.PathLike[str], read: Callable[[dict[str, Any]], Iterable[_Found]]
) -> tuple[_Found, ...]:
    """Return what ``read`` finds in each feature of a GeoJSON file, in order.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no GeoJSON, or ``read`` fails on a feature.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AnnotationError(
            f"expected a readable GeoJSON file, got {path} ({error.strerror}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"expected a GeoJSON file, got {path}, which does not parse ({error}); export the annotations again"
        ) from error
    try:
        return tuple(one for feature in _features(document) for one in read(feature))
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise AnnotationError(
            f"expected GeoJSON features with coordinates, got something else in {path} "
            f"({type(error).__name__}: {error}); export the annotations again"
        ) from error


def _features(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        found = document["features"] if document.get("type") == "FeatureCollection" else [document]
    else:
        found = document
    features = list(found)
    if not all(isinstance(feature, dict) and feature.get("type") == "Feature" for feature in features):
        raise AnnotationError("expected features, got another kind of object; export the annotations again")
    return features


def _areas(feature: dict[str, Any], shift: tuple[float, float]) -> Iterator[Annotation]:
    """Yield the polygons of a feature."""
    geometry = feature.get("geometry") or {}
    if geometry.get("type") == "Polygon":
        polygons = [geometry["coordinates"]]
    elif geometry.get("type") == "MultiPolygon":
        polygons = geometry["coordinates"]
    else:
        return
    properties = feature.get("properties") or {}
    name = str(properties.get("name") or feature.get("id") or "")
    for rings in polygons:
        # Coordinates may carry a height.
        exterior, *holes = (np.array([corner[:2] for corner in ring], dtype=np.float64) + shift for ring in rings)
        yield Annotation.of_rings(name, feature_class(properties), exterior, holes)


def feature_class(properties: dict[str, Any]) -> str:
    """Return the class: a string, an object with a ``name``, or one with ``names``, the most general first."""
    found = properties.get("classification")
    if isinstance(found, dict):
        found = found.get("name") or next(iter(found.get("names") or ()), None)
    return str(found or properties.get("name") or "None")
