"""Points that a person set, each with its class: from ASAP's XML, GeoJSON, MIDOG's JSON and CSV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations.asap import asap_coordinates, asap_root
from napari_metastasis.annotations.geojson import feature_class, features_of, read_document
from napari_metastasis.annotations.midog import is_midog, midog_cells
from napari_metastasis.errors import AnnotationError, first_line
from napari_metastasis.plain_csv import read_csv

__all__ = [
    "MITOSIS",
    "NOT_A_MITOSIS",
    "NO_CLASS",
    "PointSet",
    "is_unreviewed",
    "label_of_point",
    "points_of",
    "read_points",
]

#: The classes of mitoses, and of what looks like one, as they are written.
MITOSIS, NOT_A_MITOSIS = "Mitosis", "Not a mitosis"
#: How they are called in files, without regard to capitals: by us, in MIDOG's and TUPAC16's, and as people say it.
_MITOSES = frozenset({"mitosis", "mitoses", "mitotic figure", "mitotic figures", "mitotic"})
_NO_MITOSES = frozenset(
    {
        "not a mitosis", "no mitosis", "non-mitosis", "non-mitotic figure", "non-mitotic", "hard negative",
        "hard negative look-alike", "hard negative imposter", "imposter", "impostor", "look-alike",
    }
)  # fmt: skip

#: ASAP's annotations that enclose no area: one point, or several.
_ASAP_POINTS = frozenset({"Dot", "PointSet"})
#: What a point is called whose file names no class; ASAP says the same of annotations without a group.
NO_CLASS = "None"
_Point = tuple[tuple[float, float], str]
#: What our tables and GeoJSON say in ``review`` of what a model found, and no person spoke of: nobody set it.
_REVIEW, _UNREVIEWED = "review", frozenset({"pending", "unknown"})
#: How the column of classes may be called.
_CLASS_COLUMNS = ("class", "label", "group")


@dataclass(frozen=True, slots=True, eq=False)
class PointSet:
    """The points of one slide, in their file's order.

    Attributes
    ----------
    xy
        (n, 2) float64, (x, y) in level-0 pixels, read-only.
    classes
        What each point is, n names; ``None`` (the word) where the file does not say.
    unreviewed
        (m, 2) float64, read-only: what the file says that a model found, and nobody reviewed. These are no points that
        a person set, and none of the above.

    Raises
    ------
    AnnotationError
        If there is not one class for each point, or a coordinate is not finite.
    """

    xy: NDArray[np.float64]
    classes: tuple[str, ...]
    unreviewed: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))

    def __post_init__(self) -> None:
        """Check and freeze the coordinates."""
        xy, others = (np.array(each, dtype=np.float64).reshape(-1, 2) for each in (self.xy, self.unreviewed))
        wrong = int((~np.isfinite(np.concatenate([xy, others]))).any(axis=1).sum())
        if wrong or len(xy) != len(self.classes):
            raise AnnotationError(
                f"expected a class and finite coordinates for every point, got {len(self.classes)} classes of "
                f"{len(xy)} points, {wrong} of them not finite; correct the points"
            )
        for name, each in (("xy", xy), ("unreviewed", others)):
            each.flags.writeable = False
            object.__setattr__(self, name, each)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.xy)

    def of(self, *classes: str) -> PointSet:
        """Return the points of some classes, told apart without regard to capitals."""
        wanted = {name.casefold() for name in classes}
        return self._only([name.casefold() in wanted for name in self.classes])

    @property
    def mitoses(self) -> PointSet:
        """Return the points that are mitoses: of their class, or without any class.

        Raises
        ------
        AnnotationError
            If there are points, and all are of classes that are not known.
        """
        labels = [label_of_point(name) for name in self.classes]
        if labels and not any(labels):
            raise AnnotationError(
                f"expected points of class {MITOSIS} or {NOT_A_MITOSIS}, got {first_line(', '.join(self.unknown))}; "
                "rename the class"
            )
        return self._only([label == "mitosis" for label in labels])

    def _only(self, chosen: list[bool]) -> PointSet:
        kept = np.array(chosen, dtype=bool)
        return replace(self, xy=self.xy[kept], classes=tuple(np.array(self.classes, dtype=object)[kept]))

    @property
    def unreviewed_text(self) -> str:
        """Return what was left out, for a person: "31 mitoses that nobody reviewed"; empty where there are none."""
        count = len(self.unreviewed)
        return f"{count} mitos{'is' if count == 1 else 'es'} that nobody reviewed" if count else ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return the classes of which it is not known whether they are mitoses, sorted."""
        return tuple(sorted({name for name in self.classes if label_of_point(name) is None}))


def label_of_point(name: str) -> Literal["mitosis", "not-mitosis"] | None:
    """Return what the class of a point means where mitoses are looked for; ``None`` where that is not known."""
    word = " ".join(name.replace("_", " ").split()).casefold()
    if word in _MITOSES or name == NO_CLASS:
        return "mitosis"
    return "not-mitosis" if word in _NO_MITOSES else None


def read_points(
    path: str | os.PathLike[str],
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    slide: str | None = None,
    order: Literal["xy", "yx"] | None = None,
) -> PointSet:
    """Read the points of a slide; areas in the same file are left out.

    What our own files call pending, or unknown, in ``review`` is what a model found and no person set: it is in
    ``unreviewed`` of what is returned.

    Parameters
    ----------
    path
        ASAP's XML (dots and point sets, whose group is the class), GeoJSON (points and multi-points), MIDOG's JSON
        (centres of boxes, whose category is the class), or CSV with the columns ``x``, ``y`` and, if wanted, ``class``.
        All but GeoJSON are in level-0 pixels.
    shift
        (x, y) to add to GeoJSON's coordinates, in level-0 pixels. QuPath counts from the corner of the slide's bounds.
    slide
        Name of the slide's file where a file speaks of several, as MIDOG's does.
    order
        What the two columns of a CSV without a first line are: those of TUPAC16 are ``yx``. Nothing in such a file
        tells, so that it is refused where this is ``None``.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is none of these, or has a point without finite coordinates.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    unreviewed: list[tuple[float, float]] = []
    if suffix == ".xml":
        found = list(_of_asap(path))
    elif suffix in {".geojson", ".json"}:
        found = _of_json(path, shift, slide, unreviewed)
    elif suffix == ".csv":
        found = list(_of_csv(path, order, unreviewed))
    else:
        raise AnnotationError(
            f"expected points as ASAP XML, GeoJSON, MIDOG JSON or CSV, got {path}; export them as one of these"
        )
    try:
        return PointSet(np.array([xy for xy, _ in found]), tuple(name for _, name in found), np.array(unreviewed))
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def _of_asap(path: Path) -> Iterator[_Point]:
    for element in asap_root(path).iterfind("Annotations/Annotation"):
        if element.get("Type") in _ASAP_POINTS:
            name = element.get("PartOfGroup", NO_CLASS)
            yield from (((x, y), name) for x, y in asap_coordinates(element, path).tolist())


def points_of(feature: dict[str, Any], shift: tuple[float, float]) -> Iterator[_Point]:
    """Yield the points of a feature of GeoJSON, (x, y) in level-0 pixels, each with its class."""
    geometry = feature.get("geometry") or {}
    if geometry.get("type") in {"Point", "MultiPoint"}:
        # A single point is a list of numbers, which may carry a height.
        points = np.array(geometry["coordinates"], dtype=np.float64)
        points = points.reshape(-1, points.shape[-1])[:, :2] + shift
        name = feature_class(feature.get("properties") or {})
        yield from (((x, y), name) for x, y in points.tolist())


def is_unreviewed(feature: dict[str, Any]) -> bool:
    """Return whether a feature of GeoJSON says of itself that a model found it, and nobody spoke of it."""
    review = (feature.get("properties") or {}).get(_REVIEW)
    return isinstance(review, dict) and str(review.get("state")) in _UNREVIEWED


def _of_json(
    path: Path, shift: tuple[float, float], slide: str | None, unreviewed: list[tuple[float, float]]
) -> list[_Point]:
    def read(feature: dict[str, Any]) -> list[_Point]:
        found = list(points_of(feature, shift))
        if not is_unreviewed(feature):
            return found
        unreviewed.extend(xy for xy, _ in found)
        return []

    document = read_document(path)
    if is_midog(document):
        return list(midog_cells(document, path, slide=slide))
    return list(features_of(document, path, read))


def _of_csv(path: Path, order: Literal["xy", "yx"] | None, unreviewed: list[tuple[float, float]]) -> Iterator[_Point]:
    remedy = "write a first line x,y,class, and a line for each point"
    try:
        rows = read_csv(path)
    except OSError as error:
        raise AnnotationError(
            f"expected a readable file of points, got {path} ({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        raise AnnotationError(f"expected points as CSV, got {path}, which is no text ({error}); {remedy}") from error
    header = [name.strip().casefold() for name in rows[0].cells] if rows else []
    lines = rows[1:]
    if order is not None and (not rows or _is_pair(header)):
        header, lines = list(order), rows
    if header.count("x") != 1 or header.count("y") != 1:
        got = first_line(", ".join(header)) if header else "none"
        raise AnnotationError(f"expected columns x and y in {path}, got {got}; {remedy}")
    x, y = header.index("x"), header.index("y")
    kind = next((header.index(name) for name in _CLASS_COLUMNS if name in header), None)
    review = header.index(_REVIEW) if _REVIEW in header else None
    for row in (each.cells for each in lines):
        try:
            name = "" if kind is None else row[kind].strip()
            state = "" if review is None else row[review].strip().casefold()
            place = float(row[x]), float(row[y])
            if state in _UNREVIEWED:
                unreviewed.append(place)
            else:
                yield place, name or NO_CLASS
        except (ValueError, IndexError) as error:
            raise AnnotationError(
                f"expected numbers as x and y of every point in {path}, got {','.join(row)[:60]!r}; correct the line"
            ) from error


def _is_pair(cells: list[str]) -> bool:
    """Return whether a line is two numbers, and no names of columns."""
    try:
        return len([float(cell) for cell in cells]) == 2
    except ValueError:
        return False
