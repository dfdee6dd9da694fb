"""Detections and lesions as files that other programs read; each appears whole, or not at all."""

from __future__ import annotations

import csv
import io
import os
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely

from napari_metastasis.annotations.geojson import geometry_json, write_features
from napari_metastasis.geometry import Region
from napari_metastasis.lesions.annotated import class_in_files
from napari_metastasis.lesions.lesion import Detection, Lesion, LesionRow, number_text
from napari_metastasis.lesions.said import LesionReview
from napari_metastasis.storage import atomic_text, plain_cell

__all__ = [
    "DETECTIONS_HEADER",
    "lesions_table",
    "write_detections_csv",
    "write_lesions_csv",
    "write_lesions_geojson",
]

#: What the columns of ``detections.csv`` are called where it has a header.
DETECTIONS_HEADER = ("p", "x", "y")
#: Root of the deterministic ids of features. Never change it: QuPath tells objects apart by them.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "lesions.napari-metastasis")

_COLUMNS = (
    "id", "x", "y", "probability", "area_mm2", "length_mm", "size_class", "detections", "cut_by_edge",
    "nuclei_estimated", "size_class_by", "review", "look_again", "reviewer", "reviewed_at", "comment", "counted",
    "counted_as", "found_by", "found_from", "found_probability",
)  # fmt: skip


def _probability(value: float | None) -> str:
    """Return the shortest decimal that reads back as the same float32; nothing where no map says one."""
    return "" if value is None else np.format_float_positional(np.float32(value), trim="0")


def write_detections_csv(
    path: str | os.PathLike[str], detections: Iterable[Detection], *, header: bool = False
) -> None:
    """Write detections as CAMELYON16 takes them: ``probability,x,y`` in level-0 pixels.

    Parameters
    ----------
    path
        File to write; the challenge wants it to bear the slide's name.
    detections
        Written in the order given.
    header
        Whether to begin with ``p,x,y``, which a later script of the same group expects.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    with atomic_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        if header:
            table.writerow(DETECTIONS_HEADER)
        table.writerows(
            (_probability(detection.probability), f"{detection.x:.2f}", f"{detection.y:.2f}")
            for detection in detections
        )


def write_lesions_csv(path: str | os.PathLike[str], lesions: Iterable[LesionRow]) -> None:
    """Write one row a lesion: id, location in level-0 pixels, probability, area, length, class, number of detections.

    ``cut_by_edge`` is 1 where the lesion is cut by the edge of what was scanned: its area, length, class and nuclei are
    then the smallest that they can be. ``nuclei_estimated`` is the area times the setting ``nuclei_per_mm2``, and empty
    where that is 0; ``size_class_by`` says which of the two decided on the class: ``length``, or ``nuclei_estimated``.

    ``review`` is what a person made of it, and ``look_again`` 1 where that is not clear. ``counted`` is 0 where it does
    not count in the verdict on the slide: it was taken away, or counts as the lesions of ``counted_as``. Outlines of
    people have ids that begin with P; what a model had found there stands in the last three columns.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    with atomic_text(path) as file:
        file.write(lesions_table(lesions))


def lesions_table(lesions: Iterable[LesionRow]) -> str:
    """Return what :func:`write_lesions_csv` writes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(
        (
            lesion.number,
            f"{lesion.x:.2f}",
            f"{lesion.y:.2f}",
            _probability(lesion.probability),
            f"{lesion.area_mm2:.6f}",
            f"{lesion.length_mm:.4f}",
            lesion.size_class,
            lesion.detections,
            int(lesion.cut_by_edge),
            "" if lesion.nuclei is None else lesion.nuclei,
            lesion.size_class_by,
            *_review_cells(lesion),
        )
        for lesion in lesions
    )
    return text.getvalue()


def _review_cells(lesion: LesionRow) -> tuple[object, ...]:
    review = lesion.review
    if review is None:
        return ("",) * 10
    found = review.found
    return (
        review.told,
        int(not review.is_clear),
        plain_cell(review.reviewer),
        "" if review.at is None else review.at.isoformat(),
        plain_cell(review.comment),
        int(review.counts),
        " ".join(map(number_text, review.counted_as)),
        "" if found is None else plain_cell(found.model),
        "" if found is None else found.threshold,
        "" if found is None else _probability(found.probability),
    )


def write_lesions_geojson(
    path: str | os.PathLike[str], lesions: Iterable[Lesion], *, slide: str, bounds: Region | None = None
) -> None:
    """Write lesions as annotations that QuPath opens.

    Parameters
    ----------
    path
        File to write.
    lesions
        Written in the order given.
    slide
        What tells the slide from others, such as its fingerprint or name: with the lesion's id it makes a feature's
        UUID, so that the same lesion keeps it.
    bounds
        The slide's bounds, if it states any. QuPath crops to them, and counts its pixels from their corner.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    write_features(path, [_feature(lesion, slide=slide, bounds=bounds) for lesion in lesions])


def _feature(lesion: Lesion, *, slide: str, bounds: Region | None) -> dict[str, Any]:
    name, rgb = class_in_files(lesion)
    shape = shapely.Point(lesion.x, lesion.y) if lesion.is_point else lesion.outline_px
    review = {} if lesion.review is None else {"review": _review_json(lesion.review, bounds)}
    # An outline of a person is the same one in the file of corrections.
    own = lesion.review.keys[0] if lesion.id < 0 and lesion.review is not None else ""
    return {
        "type": "Feature",
        "id": own or str(uuid.uuid5(_NAMESPACE, f"{slide}/{lesion.id}")),
        "geometry": geometry_json(shape, bounds),
        "properties": {
            "objectType": "annotation",
            "name": lesion.name,
            "classification": {"name": name, "color": list(rgb)},
            "isLocked": False,
            "measurements": {
                **({} if lesion.probability is None else {"Probability": round(lesion.probability, 6)}),
                "Area mm^2": round(lesion.area_mm2, 6),
                "Length mm": round(lesion.length_mm, 4),
                "Detections": lesion.detections,
                "Cut by edge": int(lesion.cut_by_edge),
                **({} if lesion.nuclei is None else {"Nuclei (estimated)": lesion.nuclei}),
                "Class by estimated nuclei": int(lesion.size_class_by == "nuclei_estimated"),
            },
            **review,
        },
    }


def _review_json(review: LesionReview, bounds: Region | None) -> dict[str, Any]:
    """Return what a person said as plain values; of what a model had found, also its outline."""
    found = review.found
    return {
        "state": review.told,
        "look_again": not review.is_clear,
        "reviewer": review.reviewer,
        "at": None if review.at is None else review.at.isoformat(),
        "comment": review.comment,
        "counted": review.counts,
        "counted_as": [number_text(one) for one in review.counted_as],
        "found": None
        if found is None
        else {
            "model": found.model,
            "map": found.map,
            "threshold": found.threshold,
            "probability": found.probability,
            "geometry": geometry_json(found.outline_px, bounds),
        },
    }
