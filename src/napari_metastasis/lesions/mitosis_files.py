"""Mitoses as files that other programs read; each appears whole, or not at all."""

from __future__ import annotations

import csv
import io
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.annotations import MITOSIS, NOT_A_MITOSIS
from napari_metastasis.annotations.corrections_file import CLASSES
from napari_metastasis.annotations.geojson import geometry_json, write_features
from napari_metastasis.errors import StorageError, first_line
from napari_metastasis.geometry import Region
from napari_metastasis.lesions.mitoses import Mitoses
from napari_metastasis.plain_csv import read_csv
from napari_metastasis.storage import atomic_text, plain_cell

__all__ = ["ListedMitoses", "mitoses_table", "read_listed_mitoses", "write_mitoses_csv", "write_mitoses_geojson"]

#: Root of the deterministic ids of features. Never change it: QuPath tells objects apart by them.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "mitoses.napari-metastasis")
_COLUMNS = ("id", "x", "y", "class", "probability", "in_hot_spot", "review", "reviewer", "looked_at")
#: How the ids of mitoses begin that only people know of.
_OF_PEOPLE = "P"


def write_mitoses_csv(path: str | os.PathLike[str], mitoses: Mitoses) -> None:
    """Write one row a mitosis: id, location in level-0 pixels, class, probability, and what people said of it.

    Those that a model found come first, the surest first; then those that only people know of, whose ids begin with P,
    without a probability where no model ever found one. ``class`` is "Not a mitosis" of what was rejected.
    ``in_hot_spot`` is 1 where one lies in the area that holds the most, and ``looked_at`` 0 where one lies outside of
    what was looked at, and counts in no rate. The file reads back with
    :func:`~napari_metastasis.annotations.read_points`.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    with atomic_text(path) as file:
        file.write(mitoses_table(mitoses))


def mitoses_table(mitoses: Mitoses) -> str:
    """Return what ``mitoses.csv`` holds; see :func:`write_mitoses_csv`."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(_COLUMNS)
    places = mitoses.xy.tolist(), mitoses.in_spot.tolist(), mitoses.inside.tolist()
    rows = zip(*places, mitoses.probability, mitoses.reviews, strict=True)
    for number, ((x, y), in_spot, looked_at, sure, review) in enumerate(rows, start=1):
        beside = number - mitoses.of_model
        name = MITOSIS if review.counts else NOT_A_MITOSIS
        answered = "" if np.isnan(sure) else np.format_float_positional(sure, trim="0")
        own = f"{_OF_PEOPLE}{beside}" if beside > 0 else number
        said = review.told, plain_cell(review.reviewer)
        table.writerow((own, f"{x:.2f}", f"{y:.2f}", name, answered, int(in_spot), *said, int(looked_at)))
    return file.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class ListedMitoses:
    """What ``mitoses.csv`` says, of which reviews are read elsewhere.

    Attributes
    ----------
    xy
        (n, 2) float64 of (x, y) in level-0 pixels: what a model found.
    probability
        (n,) float32.
    beside_xy
        (m, 2) float64: what only people knew of. None in a file of an earlier version, which does not say of them
        whether they lie in what was looked at.
    looked_at
        (m,) bool: which of these do.
    """

    xy: NDArray[np.float64]
    probability: NDArray[np.float32]
    beside_xy: NDArray[np.float64]
    looked_at: NDArray[np.bool_]


def read_listed_mitoses(path: Path) -> ListedMitoses:
    """Return what ``mitoses.csv`` says.

    Raises
    ------
    StorageError
        If the file cannot be read, or is none.
    """
    try:
        head, *rows = read_csv(path)
        names = [name.strip() for name in head.cells]
        at = {name: names.index(name) for name in ("id", "x", "y", "probability")}
        of_people = [row.cells[at["id"]].startswith(_OF_PEOPLE) for row in rows]
        found = [row.cells for row, said in zip(rows, of_people, strict=True) if not said]
        beside = [row.cells for row, said in zip(rows, of_people, strict=True) if said]
        values = np.array([[row[at[name]] for name in ("x", "y", "probability")] for row in found], np.float64)
        places = np.array([[row[at[name]] for name in ("x", "y")] for row in beside], np.float64).reshape(-1, 2)
        if not np.isfinite(values).all() or not np.isfinite(places).all():
            raise ValueError("a number that is not finite")
        column = names.index("looked_at") if "looked_at" in names else None
        places = places if column is not None else places[:0]
        looked_at = np.array([row[column].strip() != "0" for row in beside] if column is not None else [], np.bool_)
    except (OSError, ValueError, IndexError) as error:
        raise StorageError(
            f"expected the mitoses of a scan in {path}, got something else ({first_line(error)}); scan the slide again"
        ) from error
    values = values.reshape(-1, 3)
    return ListedMitoses(values[:, :2], values[:, 2].astype(np.float32), places, looked_at)


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
        kind = ("Region*", CLASSES["mitosis"][1])
        yield _feature(spot.outline_px, "annotation", name, measurements, slide, bounds, kind)
    rows = zip(mitoses.xy.tolist(), mitoses.probability.tolist(), mitoses.reviews, mitoses.inside.tolist(), strict=True)
    for number, ((x, y), sure, review, looked_at) in enumerate(rows, start=1):
        kind = CLASSES["mitosis" if review.counts else "not-mitosis"]
        own = {} if np.isnan(sure) else {"Probability": round(sure, 6)}
        made = _feature(shapely.Point(x, y), "detection", f"{kind[0]} {number}", own, slide, bounds, kind)
        made["properties"]["review"] = {"state": review.told, "reviewer": review.reviewer}
        if not looked_at:
            made["properties"]["looked_at"] = False
        yield made


def _feature(
    shape: shapely.Geometry,
    kind: str,
    name: str,
    measurements: dict[str, float],
    slide: str,
    bounds: Region | None,
    class_: tuple[str, tuple[int, int, int]],
) -> dict[str, Any]:
    where = f"{shape.centroid.x:.2f},{shape.centroid.y:.2f}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{slide}/{kind}/{where}")),
        "geometry": geometry_json(shape, bounds),
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {"name": class_[0], "color": list(class_[1])},
            "isLocked": False,
            "measurements": measurements,
        },
    }
