"""Annotations of the Digital Slide Archive as JSON (https://girder.github.io/large_image/annotations.html)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations.polygons import Annotation, AnnotationSet
from napari_metastasis.annotations.reading import Tell, part_of, silent, told
from napari_metastasis.errors import AnnotationError
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text

__all__ = ["read_dsa_json", "write_dsa_json"]

#: Bytes of a file that is read: millions of corners.
_MOST_BYTES = 1 << 28
#: The share of the time that parsing takes.
_PARSED = 0.5
#: Corners that a circle or an ellipse is drawn with: it is a thousandth smaller than the curve.
_ROUND = 96
_PLURALS = {"point": "points", "arrow": "arrows", "rectanglegrid": "grids", "heatmap": "heatmaps", "image": "pictures"}
_LINE, _FILL = "rgb(244, 250, 88)", "rgba(244, 250, 88, 0.25)"


def read_dsa_json(path: str | os.PathLike[str], *, tell: Tell = silent) -> AnnotationSet:
    """Read the areas of an annotation, or of a list of such, as the archive exports them.

    Closed lines, rectangles, circles and ellipses enclose areas; whatever else there is, is counted. The group of an
    element, or where there is none its label, or the name of the annotation, is the group.

    Parameters
    ----------
    path
        A JSON file with coordinates in level-0 pixels.
    tell
        Takes the share that is read.

    Raises
    ------
    AnnotationError
        If the file cannot be read, holds no annotation, or has a coordinate that is no number.
    """
    path = Path(path)
    remedy = "export the annotation again from the Digital Slide Archive"
    try:
        document = read_json(path, nan_as_null=True, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise AnnotationError(
            f"expected a readable annotation as JSON, got {path} ({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        raise AnnotationError(
            f"expected an annotation as JSON, got {path}, which does not parse ({error}); {remedy}"
        ) from error
    omitted: Counter[str] = Counter()
    try:
        elements = [
            (element, str(one.get("name") or "")) for one in _annotations(document) for element in one["elements"]
        ]
        areas = [
            area
            for element, name in told(elements, part_of(tell, _PARSED, 1.0))
            for area in _areas(element, name, omitted)
        ]
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise AnnotationError(
            f"expected elements with coordinates, got something else in {path} ({type(error).__name__}: {error}); "
            f"{remedy}"
        ) from error
    return AnnotationSet.of_file(areas, omitted)


def _annotations(document: Any) -> list[dict[str, Any]]:
    """Return the annotations of a document: one, one within its database record, or a list of either."""
    found = [one.get("annotation", one) for one in (document if isinstance(document, list) else [document])]
    if not all(isinstance(one["elements"], list) for one in found):
        raise TypeError("elements that are no list")
    return found


def _areas(element: dict[str, Any], annotation: str, omitted: Counter[str]) -> Iterator[Annotation]:
    """Yield what an element encloses; count what encloses nothing."""
    kind = str(element.get("type"))
    if kind == "polyline" and not element.get("closed"):
        omitted["lines"] += 1
        return
    if kind == "polyline":
        rings = [_ring(points) for points in (element["points"], *(element.get("holes") or ()))]
    elif kind in {"rectangle", "circle", "ellipse"}:
        rings = [_drawn(kind, element)]
    else:
        omitted[_PLURALS.get(kind, f"elements of type {kind!r}")] += 1
        return
    if len(np.unique(rings[0], axis=0)) < 3:
        omitted["outlines of fewer than three corners"] += 1
        return
    label = element.get("label")
    label = label.get("value") if isinstance(label, dict) else label
    name = str(label or annotation)
    group = str(element.get("group") or label or annotation or "None")
    yield Annotation.of_rings(name, group, rings[0], [hole for hole in rings[1:] if len(hole) >= 3])


def _ring(points: list[Any]) -> NDArray[np.float64]:
    """Return corners (n, 2); heights are left out."""
    return np.array([point[:2] for point in points], dtype=np.float64).reshape(-1, 2)


def _drawn(kind: str, element: dict[str, Any]) -> NDArray[np.float64]:
    """Return the corners of a rectangle, a circle or an ellipse, turned as it says (in radians, clockwise)."""
    if kind == "circle":
        half = np.array([element["radius"]] * 2, dtype=np.float64)
    else:
        half = np.array([element["width"], element["height"]], dtype=np.float64) / 2
    if kind == "rectangle":
        unit = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    else:
        angle = np.arange(_ROUND) * (2 * np.pi / _ROUND)
        unit = np.column_stack((np.cos(angle), np.sin(angle)))
    turn = float(element.get("rotation") or 0)
    # With y downwards, this turns clockwise.
    matrix = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    corners: NDArray[np.float64] = (unit * half) @ matrix + np.array(element["center"][:2], dtype=np.float64)
    return corners


def write_dsa_json(path: str | os.PathLike[str], annotations: AnnotationSet, *, name: str) -> None:
    """Write one annotation that the archive takes, in one step: the old file stays whole until the new one is.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    annotations
        Areas in level-0 pixels, each a closed line with holes.
    name
        What the annotation is called.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    document = {
        "name": name,
        "description": "",
        "attributes": {},
        "elements": [_element(annotation) for annotation in annotations],
    }
    with atomic_text(path) as file:
        json.dump(document, file, separators=(",", ":"), allow_nan=False)
        file.write("\n")


def _element(annotation: Annotation) -> dict[str, Any]:
    holes = {"holes": [_points(hole) for hole in annotation.holes]} if annotation.holes else {}
    return {
        "type": "polyline",
        "points": _points(annotation.exterior),
        "closed": True,
        **holes,
        "group": annotation.group,
        "label": {"value": annotation.name},
        "lineColor": _LINE,
        "fillColor": _FILL,
        "lineWidth": 2,
    }


def _points(ring: NDArray[np.float64]) -> list[list[float]]:
    """Return corners as the archive has them: of three coordinates, the last of which is 0."""
    return [[x, y, 0] for x, y in ring.tolist()]
