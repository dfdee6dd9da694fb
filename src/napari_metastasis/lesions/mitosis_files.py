"""Mitoses as files that other programs read; each appears whole, or not at all."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely

from napari_metastasis.annotations.geojson import geometry_json, write_features
from napari_metastasis.geometry import Region
from napari_metastasis.lesions.mitoses import Mitoses
from napari_metastasis.storage import atomic_text

__all__ = ["MITOSIS_CLASS", "write_mitoses_csv", "write_mitoses_geojson"]

#: What a mitosis is called in files, and its colour, which is no lesion's.
MITOSIS_CLASS, _MITOSIS_RGB = "Mitosis", (30, 255, 142)
#: Root of the deterministic ids of features. Never change it: QuPath tells objects apart by them.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "mitoses.napari-metastasis")
_COLUMNS = ("id", "x", "y", "class", "probability", "in_hot_spot")


def write_mitoses_csv(path: str | os.PathLike[str], mitoses: Mitoses) -> None:
    """Write one row a mitosis, the surest first: id, location in level-0 pixels, class, probability.

    ``in_hot_spot`` is 1 where it lies in the area that holds the most. The file reads back with
    :func:`~napari_metastasis.annotations.read_points`.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    with atomic_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        rows = zip(mitoses.xy.tolist(), mitoses.probability, mitoses.in_spot.tolist(), strict=True)
        table.writerows(
            (number, f"{x:.2f}", f"{y:.2f}", MITOSIS_CLASS, np.format_float_positional(sure, trim="0"), int(is_inside))
            for number, ((x, y), sure, is_inside) in enumerate(rows, start=1)
        )


def write_mitoses_geojson(
    path: str | os.PathLike[str], mitoses: Mitoses, *, slide: str, bounds: Region | None = None
) -> None:
    """Write mitoses as point detections that QuPath opens, and the densest area as an annotation.

    Parameters
    ----------
    path
        File to write.
    mitoses
        What was found.
    slide
        What tells the slide from others: with the location it makes a feature's UUID, so that the same point keeps it.
    bounds
        The slide's bounds, if it states any. QuPath crops to them, and counts its pixels from their corner.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    write_features(path, list(_features(mitoses, slide, bounds)))


def _features(mitoses: Mitoses, slide: str, bounds: Region | None) -> Iterator[dict[str, Any]]:
    if mitoses.spot is not None:
        spot = mitoses.spot
        measurements = {"Mitoses": spot.count, "Area mm^2": spot.area_mm2, "Mitoses per mm^2": round(spot.per_mm2, 6)}
        name = f"Densest {spot.area_mm2:g} mm²"
        yield _feature(spot.outline_px, "annotation", name, measurements, slide, bounds)
    for number, ((x, y), sure) in enumerate(zip(mitoses.xy.tolist(), mitoses.probability.tolist(), strict=True), 1):
        name = f"{MITOSIS_CLASS} {number}"
        yield _feature(shapely.Point(x, y), "detection", name, {"Probability": round(sure, 6)}, slide, bounds)


def _feature(
    shape: shapely.Geometry, kind: str, name: str, measurements: dict[str, float], slide: str, bounds: Region | None
) -> dict[str, Any]:
    where = f"{shape.centroid.x:.2f},{shape.centroid.y:.2f}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{slide}/{kind}/{where}")),
        "geometry": geometry_json(shape, bounds),
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {
                "name": MITOSIS_CLASS if kind == "detection" else "Region*",
                "color": list(_MITOSIS_RGB),
            },
            "isLocked": False,
            "measurements": measurements,
        },
    }
