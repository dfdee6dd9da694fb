"""Reads the lesions of a result folder back, with their outlines."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

import shapely

from napari_metastasis.annotations import read_geojson
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import Region
from napari_metastasis.lesions import SIZE_CLASSES, Lesion, SizeClass
from napari_metastasis.lesions.lesion import ClassedBy
from napari_metastasis.plain_csv import read_csv

__all__ = ["ReportedLesion", "damaged", "number", "read_lesions"]

#: What a lesion's outlines are called in GeoJSON; more may stand behind its number.
_NUMBER = re.compile(r"Lesion (\d+)\b")
#: How the number of an outline of a person begins: what these are now, the corrections say.
_PERSON = "P"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLesion(Lesion):
    """A lesion as ``lesions.csv`` and ``lesions.geojson`` have it; of one without an outline there, that is empty.

    Attributes
    ----------
    stated_class, stated_by
        Its class in the table, and what decided on it: lengths are rounded there, and one at a limit would change it.
    cut_recorded
        Whether the table says which lesions are cut by the edge of what was scanned.
    """

    stated_class: SizeClass
    stated_by: ClassedBy
    cut_recorded: bool

    @property
    def size_class(self) -> SizeClass:
        """Return its class."""
        return self.stated_class

    @property
    def size_class_by(self) -> ClassedBy:
        """Return what decided on it."""
        return self.stated_by

    @classmethod
    def of(cls, lesion: Lesion) -> Self:
        """Return a lesion that was measured just now."""
        values = {one.name: getattr(lesion, one.name) for one in fields(lesion)}
        return cls(**values, stated_class=lesion.size_class, stated_by=lesion.size_class_by, cut_recorded=True)


def damaged(path: Path, error: Exception) -> StorageError:
    """Return the error of a file of a result that does not say what it should."""
    return StorageError(
        f"expected the result of a scan, got damaged data in {path} ({type(error).__name__}: {error}); scan the slide "
        "again, which goes on from what is there"
    )


def number(value: Any) -> float:
    """Return a value of a file as a number.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number should be")
    return float(value)


def read_lesions(folder: Path, bounds: Region | None) -> tuple[ReportedLesion, ...]:
    """Return what a model found, by the table of a result folder, with their outlines.

    Raises
    ------
    StorageError
        If a file is missing or damaged.
    """
    table, outlines = folder / "lesions.csv", _outlines(folder / "lesions.geojson", bounds)
    try:
        columns, *rows = (row.cells for row in read_csv(table))
    except OSError as error:
        raise StorageError(
            f"expected the lesions of a scan in {table}, got none ({error.strerror}); scan the slide again, which goes "
            "on from what is there"
        ) from error
    except (ValueError, csv.Error) as error:
        raise damaged(table, error) from error
    try:
        cells = [dict(zip(columns, row, strict=True)) for row in rows]
        return tuple(_lesion(one, outlines) for one in cells if not one["id"].startswith(_PERSON))
    except (KeyError, ValueError) as error:
        raise damaged(table, error) from error


def _lesion(cells: Mapping[str, str], outlines: Mapping[int, shapely.Polygon | shapely.MultiPolygon]) -> ReportedLesion:
    own, known = int(cells["id"]), cells["size_class"]
    if known not in SIZE_CLASSES:
        raise ValueError(f"a size class {known!r}")
    x, y, area, length = (number(float(cells[name])) for name in ("x", "y", "area_mm2", "length_mm"))
    return ReportedLesion(
        id=own,
        x=x,
        y=y,
        probability=number(float(cells["probability"])) if cells["probability"] else None,
        area_mm2=area,
        length_mm=length,
        detections=int(cells["detections"]),
        map=None,
        cut_by_edge=cells.get("cut_by_edge") == "1",
        cut_recorded="cut_by_edge" in cells,
        nuclei=int(cells["nuclei_estimated"]) if cells.get("nuclei_estimated") else None,
        stated_class=cast("SizeClass", known),
        stated_by="nuclei_estimated" if cells.get("size_class_by") == "nuclei_estimated" else "length",
        outline_px=outlines.get(own, shapely.MultiPolygon()),
    )


def _outlines(path: Path, bounds: Region | None) -> dict[int, shapely.Polygon | shapely.MultiPolygon]:
    """Return the outlines of a result by the lesions' numbers."""
    corner = (0.0, 0.0) if bounds is None else (float(bounds.x), float(bounds.y))
    try:
        areas = read_geojson(path, shift=corner)
    except AnnotationError as error:
        raise StorageError(str(error)) from error
    found: dict[int, list[shapely.Polygon]] = {}
    for area in areas.annotations:
        if (match := _NUMBER.match(area.name)) is not None:
            found.setdefault(int(match[1]), []).append(area.outline_px)
    return {own: parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts) for own, parts in found.items()}
