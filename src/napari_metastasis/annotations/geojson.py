"""GeoJSON as QuPath writes it: a FeatureCollection, a bare array of features, or one feature."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import shapely

from napari_metastasis.annotations.polygons import Annotation, AnnotationSet
from napari_metastasis.annotations.reading import Tell, part_of, silent, told
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region
from napari_metastasis.plain_json import parse_json
from napari_metastasis.storage import atomic_write

__all__ = [
    "areas_of",
    "feature_class",
    "feature_text",
    "features_of",
    "geometry_json",
    "read_document",
    "read_features",
    "read_geojson",
    "write_feature_texts",
    "write_features",
]

_Found = TypeVar("_Found")

#: Text of a file that is read: millions of cells.
_MOST_BYTES = 1 << 30
#: How many times its own size a gzipped file is unpacked to, and what any may unpack to: text packs to a tenth.
_MOST_PACKED, _PLAIN_BYTES = 64, 1 << 26
#: Before the first and after the last of the features that are written here.
_BEGINS, _ENDS = '{"type":"FeatureCollection","features":[\n', "\n]}\n"
_BATCH_BYTES = 200_000
#: The share of the time that parsing takes.
_PARSED = 0.5
_PLURALS = {
    "Point": "points",
    "MultiPoint": "sets of points",
    "LineString": "lines",
    "MultiLineString": "sets of lines",
}


def read_geojson(
    path: str | os.PathLike[str], *, shift: tuple[float, float] = (0.0, 0.0), tell: Tell = silent
) -> AnnotationSet:
    """Read the areas of a GeoJSON file; cut-outs become holes of the areas that they touch.

    Points, lines, and rings of fewer than three corners enclose nothing; they are counted. An area of several polygons
    becomes as many annotations of one name. The class, or where there is none the name, is the group.

    Parameters
    ----------
    path
        A file with coordinates in full-resolution pixels; it may be gzipped.
    shift
        (x, y) to add, in level-0 pixels. QuPath counts from the corner of the slide's bounds, where it states any.
    tell
        Takes the share that is read.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no GeoJSON, or has a coordinate that is no number.
    """
    omitted: Counter[str] = Counter()
    areas = read_features(path, lambda feature: areas_of(feature, shift, omitted), tell=tell)
    return AnnotationSet.of_file(areas, omitted)


def read_features(
    path: str | os.PathLike[str], read: Callable[[dict[str, Any]], Iterable[_Found]], *, tell: Tell = silent
) -> tuple[_Found, ...]:
    """Return what ``read`` finds in each feature of a GeoJSON file, in order; ``tell`` takes the share that is read.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no GeoJSON, or ``read`` fails on a feature.
    """
    document = read_document(path, tell=part_of(tell, 0.0, _PARSED))
    return features_of(document, Path(path), read, tell=part_of(tell, _PARSED, 1.0))


def read_document(path: str | os.PathLike[str], *, tell: Tell = silent) -> Any:
    """Return what a file of JSON holds, gzipped or not, of a size that can be held; ``tell`` as in reading features.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or is no JSON.
    """
    path = Path(path)
    try:
        return _parsed(_text(path), tell)
    except (OSError, EOFError, zlib.error) as error:
        raise AnnotationError(
            f"expected a readable GeoJSON file, got {path} ({getattr(error, 'strerror', None) or error}); "
            "check the path, or copy the file again"
        ) from error
    except ValueError as error:
        raise AnnotationError(
            f"expected a GeoJSON file, got {path}, which does not parse ({error}); export the annotations again"
        ) from error


def features_of(
    document: Any, path: Path, read: Callable[[dict[str, Any]], Iterable[_Found]], *, tell: Tell = silent
) -> tuple[_Found, ...]:
    """Return what ``read`` finds in each feature of a document, in order; see :func:`read_features`."""
    try:
        features = told(_features(document), tell)
        return tuple(one for feature in features for one in read(feature))
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise AnnotationError(
            f"expected GeoJSON features with coordinates, got something else in {path} "
            f"({type(error).__name__}: {error}); export the annotations again"
        ) from error


def _batches(text: bytes, start: int, end: int, tell: Tell) -> Iterator[bytes]:
    """Yield the lines of features, some together; each batch is parsed in a few milliseconds."""
    while start < end:
        tell(start / end)
        cut = text.find(b",\n", start + _BATCH_BYTES, end)
        cut = end if cut < 0 else cut
        yield text[start:cut]
        start = cut + 2


def _features_of(lines: bytes) -> list[Any]:
    found = parse_json(b"[" + lines + b"]", nan_as_null=True)
    assert isinstance(found, list), "brackets hold a list"
    return found


def _parsed(text: bytes, tell: Tell) -> Any:
    """Return the document of a file; one that was written here is parsed line by line."""
    begins, ends = _BEGINS.encode(), _ENDS.encode()
    if text.startswith(begins) and text.endswith(ends):
        try:
            batches = _batches(text, len(begins), len(text) - len(ends), tell)
            return [one for lines in batches for one in _features_of(lines)]
        except ValueError:
            # Another program kept the first line, and writes the others otherwise.
            pass
    # QuPath writes measurements that it could not make as NaN.
    return parse_json(text, nan_as_null=True)


def write_features(path: str | os.PathLike[str], features: list[dict[str, Any]]) -> str:
    """Write a FeatureCollection, in one step: an old file stays whole until the new one is.

    Returns
    -------
    The SHA-256 of what was written.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    return write_feature_texts(path, map(feature_text, features))


def feature_text(feature: dict[str, Any]) -> str:
    """Return a feature as one line of JSON."""
    return json.dumps(feature, separators=(",", ":"), allow_nan=False)


def write_feature_texts(path: str | os.PathLike[str], texts: Iterable[str]) -> str:
    """Write a FeatureCollection of features that are lines of JSON; see :func:`write_features`.

    A feature is a line, so that a large file is read one after the other: parsed at once, it would stop a window that
    is open meanwhile.
    """
    lines = ",\n".join(texts)
    whole = f"{_BEGINS}{lines}{_ENDS}".encode()
    with atomic_write(path) as file:
        file.write(whole)
    return hashlib.sha256(whole).hexdigest()


def geometry_json(geometry: shapely.Geometry, bounds: Region | None) -> dict[str, Any]:
    """Return a geometry in level-0 pixels as QuPath takes it, which counts from the corner of a slide's bounds."""
    if bounds is not None:
        geometry = shapely.transform(geometry, lambda corners: corners - (bounds.x, bounds.y))
    return cast("dict[str, Any]", shapely.geometry.mapping(geometry))


def _features(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        found = document["features"] if document.get("type") == "FeatureCollection" else [document]
    else:
        found = document
    features = list(found)
    if not all(isinstance(feature, dict) and feature.get("type") == "Feature" for feature in features):
        raise AnnotationError("expected features, got another kind of object; export the annotations again")
    return features


def _text(path: Path) -> bytes:
    """Return the text of a file, gzipped or not, of a size that can be held."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        with gzip.open(stream) if packed else nullcontext(stream) as file:
            most = min(_MOST_BYTES, max(_PLAIN_BYTES, _MOST_PACKED * path.stat().st_size)) if packed else _MOST_BYTES
            data = file.read(most + 1)
    if len(data) > most:
        raise AnnotationError(
            f"expected at most {most >> 20} MiB of GeoJSON, got more in {path}; export fewer annotations"
        )
    return data


def areas_of(feature: dict[str, Any], shift: tuple[float, float], omitted: Counter[str]) -> Iterator[Annotation]:
    """Yield the polygons of a feature; count what else it holds."""
    properties = feature.get("properties") or {}
    name = str(properties.get("name") or feature.get("id") or "")
    for rings in _polygons(feature.get("geometry") or {}, omitted):
        # Coordinates may carry a height.
        corners = [np.array([corner[:2] for corner in ring], dtype=np.float64).reshape(-1, 2) for ring in rings]
        if not corners or len(np.unique(corners[0], axis=0)) < 3:
            omitted["outlines of fewer than three corners"] += 1
            continue
        exterior, *holes = (ring + shift for ring in corners)
        yield Annotation.of_rings(name, feature_class(properties), exterior, [hole for hole in holes if len(hole) >= 3])


def _polygons(geometry: dict[str, Any], omitted: Counter[str]) -> Iterator[Any]:
    """Yield the rings of each polygon of a geometry; count what else it holds."""
    kind = geometry.get("type")
    if kind == "Polygon":
        yield geometry["coordinates"]
    elif kind == "MultiPolygon":
        yield from geometry["coordinates"]
    elif kind == "GeometryCollection":
        for each in geometry["geometries"]:
            yield from _polygons(each, omitted)
    else:
        omitted[_PLURALS.get(str(kind), "features without a geometry")] += 1


def feature_class(properties: dict[str, Any]) -> str:
    """Return the class: a string, an object with a ``name``, or one with ``names``, the most general first."""
    found = properties.get("classification")
    if isinstance(found, dict):
        found = found.get("name") or next(iter(found.get("names") or ()), None)
    return str(found or properties.get("name") or "None")
