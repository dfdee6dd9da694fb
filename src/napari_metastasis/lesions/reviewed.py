"""Which lesions a person has spoken of, at any threshold and after another scan: matched by what they overlap."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations import Annotation, Correction, Corrections, rasterize
from napari_metastasis.annotations.corrections import State
from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.lesions.lesion import LesionRow
from napari_metastasis.lesions.said import LesionReview

__all__ = [
    "SHARE",
    "Cells",
    "CorrectionCells",
    "LesionReview",
    "Overlap",
    "Reviewed",
    "cells_under",
    "match_corrections",
]

BoolArray = npt.NDArray[np.bool_]

#: A correction is about a lesion where they share this much of the smaller one, and takes it away where it covers as
#: much of the lesion itself.
SHARE = 0.5
#: What shares less than this is a neighbour.
_TOUCH = 0.1

#: Of more changes than this, all is matched anew.
_MANY = 500
#: What is called something else may cover less of a confirmed lesion than this: a benign island in it.
_AGAINST = 0.25


class Labelled(Protocol):
    """Lesions, and the cells that they lie on."""

    @property
    def rows(self) -> tuple[LesionRow, ...]:
        """Return the lesions."""

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Return the id of the lesion of each cell, (rows, columns), 0 outside."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much a correction and a lesion share.

    Attributes
    ----------
    lesion
        Its id.
    of_correction, of_lesion
        The share of each that lies in the other.
    """

    lesion: int
    of_correction: float
    of_lesion: float


@dataclass(frozen=True)
class Reviewed:
    """What a person has said of the lesions at one threshold.

    Attributes
    ----------
    of_lesion
        By the lesions' ids; those of which nothing was said are not there.
    alone
        Keys of the corrections that no lesion overlaps: what was drawn, and findings that are not shown any more.
    overlaps
        Of the other corrections, by their keys, with which lesions.
    """

    of_lesion: Mapping[int, LesionReview] = field(default_factory=dict)
    alone: tuple[str, ...] = ()
    overlaps: Mapping[str, tuple[Overlap, ...]] = field(default_factory=dict)

    def review(self, lesion: int) -> LesionReview:
        """Return what was said of a lesion."""
        return self.of_lesion.get(lesion, LesionReview())

    @cached_property
    def decided(self) -> int:
        """Return how many lesions were decided on."""
        return sum(one.state != "pending" for one in self.of_lesion.values())

    @cached_property
    def has_taken_away(self) -> bool:
        """Return whether a lesion was rejected, or is ignored."""
        return any(one.state in ("rejected", "ignored") for one in self.of_lesion.values())

    def pending(self, lesions: Iterable[int]) -> tuple[int, ...]:
        """Return those that are still to be looked at, in their order."""
        return tuple(one for one in lesions if self.review(one).state == "pending")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of a map: those of a window that are marked."""

    window: Region
    mask: BoolArray

    def __len__(self) -> int:
        return int(np.count_nonzero(self.mask))

    def under(self, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return the labels of the cells, in reading order."""
        return labels[self.window.slices][self.mask]

    def by_label(self, labels: npt.NDArray[np.int32]) -> dict[int, npt.NDArray[np.int64]]:
        """Return, of each label, the numbers of the cells in the map that have it.

        A region may be as large as the slide, with thousands of lesions, which are little of it.
        """
        part = labels[self.window.slices]
        rows, columns = np.nonzero(self.mask & (part != 0))
        numbers = (rows + self.window.y).astype(np.int64) * labels.shape[1] + columns + self.window.x
        own = part[rows, columns]
        order = np.argsort(own, kind="stable")
        names, first = np.unique(own[order], return_index=True)
        return dict(zip(names.tolist(), np.split(numbers[order], first[1:]), strict=True)) if len(names) else {}


class CorrectionCells:
    """The cells of a map that corrections lie on; those of each, and what lies under them, are found once.

    Parameters
    ----------
    frame
        Where the cells lie.
    """

    def __init__(self, frame: HeatmapFrame) -> None:
        self.frame = frame
        self._found: dict[str, tuple[Correction, Cells]] = {}
        #: What was said of the lesions of one threshold when it was last asked for.
        self._matched: _Matched | None = None

    def of(self, correction: Correction) -> Cells:
        """Return the cells of a correction, see :func:`cells_under`."""
        held = self._found.get(correction.key)
        if held is None or held[0].shape_px is not correction.shape_px:
            held = correction, cells_under(correction.shape_px, self.frame)
            self._found[correction.key] = held
        return held[1]

    def lacking(self, corrections: Corrections) -> tuple[Correction, ...]:
        """Return the areas whose cells were not found yet: it takes long where there are many, or large ones."""
        held, before = self._found, self._matched
        # Those of what was matched last are there.
        asked = corrections.by_key if before is None else before.corrections.changes_to(corrections)
        return tuple(
            one
            for one in asked.values()
            if one is not None
            and not isinstance(one.shape_px, shapely.Point)
            and ((known := held.get(one.key)) is None or known[0].shape_px is not one.shape_px)
        )

    def with_cells_of(self, corrections: Iterable[Correction]) -> CorrectionCells:
        """Return these with the cells of more; it may be asked for in another thread, and changes nothing here."""
        more = CorrectionCells(self.frame)
        more._found = dict(self._found)
        for one in corrections:
            more.of(one)
        return more

    def shares(self, correction: Correction, lesions: Labelled) -> Mapping[int, npt.NDArray[np.int64]]:
        """Return which of its cells, by their numbers, lie on which lesions, by their labels."""
        return self.of(correction).by_label(lesions.labels)

    def under_points(
        self, corrections: Corrections, lesions: Labelled
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the label under each point, 0 where there is none, and the number of its cell: of many at once."""
        rows, columns = self.frame.cells.shape
        x, y = corrections.places_px.T
        at = self.frame.cell_at(Point(x, y))
        across, down = np.rint(at.x).astype(np.int64), np.rint(at.y).astype(np.int64)
        inside = (across >= 0) & (across < columns) & (down >= 0) & (down < rows)
        labels = np.zeros(len(x), np.int64)
        labels[inside] = lesions.labels[down[inside], across[inside]]
        return labels, down * columns + across

    def under(self, shape: shapely.Geometry, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return the labels of the cells that a shape lies on."""
        return cells_under(shape, self.frame).under(labels)

    def match(self, found: Labelled, corrections: Corrections) -> Reviewed:
        """Return which lesions the corrections speak of; only what is another since the last time is looked at."""
        before = self._matched
        changes: Mapping[str, Correction | None] = {}
        if before is not None and before.found is found:
            changes = before.corrections.changes_to(corrections)
        if before is None or before.found is not found or len(changes) > _MANY:
            for key in [key for key in self._found if key not in corrections]:
                del self._found[key]
            self._matched = matched = _Matched(found, self)
            matched.add_all(corrections)
        else:
            matched = before
            matched.change(corrections, changes)
        return matched.reviewed()

    def forget(self, key: str) -> None:
        """Forget the cells of a correction that is gone."""
        self._found.pop(key, None)


def cells_under(shape: shapely.Geometry, frame: HeatmapFrame) -> Cells:
    """Return the cells of a shape in level-0 pixels: at least that of its middle, unless it is off the slide."""
    rows, columns = frame.cells.shape
    if not isinstance(shape, shapely.Point):
        left, top = (math.floor(side) for side in shape.bounds[:2])
        right, bottom = (math.ceil(side) for side in shape.bounds[2:])
        # Off the slide there are none.
        with suppress(RegionError):
            window = frame.cells_over(Region(left, top, max(1, right - left), max(1, bottom - top)))
            areas = [Annotation("", "", part) for part in shapely.get_parts(shape).tolist()]
            mask = rasterize(areas, frame, window)
            if mask.any():
                return Cells(window, mask)
    middle = frame.cell_at(Point(*shapely.get_coordinates(shapely.point_on_surface(shape))[0].tolist()))
    column, row = round(middle.x), round(middle.y)
    if not (0 <= column < columns and 0 <= row < rows):
        return Cells(Region(0, 0, 1, 1), np.zeros((1, 1), np.bool_))
    return Cells(Region(column, row, 1, 1), np.ones((1, 1), np.bool_))


@dataclass(frozen=True, slots=True)
class _Said:
    """What one correction says of a lesion: how much of the smaller of both it shares, and which cells of the map."""

    correction: Correction
    of_smaller: float
    numbers: npt.NDArray[np.int64]


def match_corrections(found: Labelled, corrections: Corrections, cells: CorrectionCells) -> Reviewed:
    """Return which lesions the corrections speak of.

    A lesion is confirmed where it shares half of the smaller of both with tumour that a person saw, and less than a
    quarter of it is covered by what was called something else. It is rejected, or ignored, where half of the lesion
    itself is covered by what a person called normal, or asked to ignore, and nothing else speaks of it. Where both
    hold, or an overlap is too small for either, what was said does not clearly apply to it.

    Parameters
    ----------
    found
        The lesions.
    corrections
        All of the slide.
    cells
        Of the map that the lesions were read from.
    """
    return cells.match(found, corrections)


class _Matched:
    """What corrections say of the lesions of one threshold; it follows them as they change.

    Parameters
    ----------
    found
        The lesions.
    cells
        Of the map that they were read from.
    """

    def __init__(self, found: Labelled, cells: CorrectionCells) -> None:
        self.found, self.corrections = found, Corrections()
        self._cells = cells
        cell_mm2 = (cells.frame.cell_um / 1000) ** 2
        self._size_of = {row.id: max(1.0, row.area_mm2 / cell_mm2) for row in found.rows}
        #: By lesion and correction; and how much each correction shares with which lesions.
        self._said: dict[int, dict[str, _Said]] = defaultdict(dict)
        self._overlaps: dict[str, tuple[Overlap, ...]] = {}
        self._reviews: dict[int, LesionReview] = {}

    def add_all(self, corrections: Corrections) -> None:
        """Begin with corrections."""
        self.corrections = corrections
        for one in corrections.areas:
            self._add(one)
        labels, numbers = self._cells.under_points(corrections, self.found)
        for at in np.flatnonzero(labels).tolist():
            self._take(corrections.points[at], {int(labels[at]): numbers[at : at + 1]}, size=1)
        self._judge(list(self._said))

    def change(self, corrections: Corrections, changes: Mapping[str, Correction | None]) -> None:
        """Follow corrections that are others now."""
        self.corrections = corrections
        touched: set[int] = set()
        for key, one in changes.items():
            for overlap in self._overlaps.pop(key, ()):
                touched.add(overlap.lesion)
                del self._said[overlap.lesion][key]
            if one is None:
                self._cells.forget(key)
            elif not one.is_of_mitosis:
                self._add(one)
                touched.update(overlap.lesion for overlap in self._overlaps.get(key, ()))
        self._judge(touched)

    def reviewed(self) -> Reviewed:
        """Return what they say."""
        overlaps = self._overlaps
        alone = tuple(one.key for one in self.corrections.of_lesions if one.key not in overlaps)
        return Reviewed(dict(self._reviews), alone, dict(self._overlaps))

    def _add(self, one: Correction) -> None:
        shares = self._cells.shares(one, self.found)
        self._take(one, shares, size=len(self._cells.of(one)) if shares else 0)

    def _take(self, one: Correction, shares: Mapping[int, npt.NDArray[np.int64]], *, size: int) -> None:
        about = {label: numbers for label, numbers in shares.items() if label in self._size_of}
        for label, numbers in about.items():
            self._said[label][one.key] = _Said(one, len(numbers) / min(size, self._size_of[label]), numbers)
        if about:
            self._overlaps[one.key] = tuple(
                Overlap(label, len(numbers) / size, min(1.0, len(numbers) / self._size_of[label]))
                for label, numbers in about.items()
            )

    def _judge(self, labels: Iterable[int]) -> None:
        for label in labels:
            # In the order of the corrections: of equals, the first is the first.
            said = list(self._said[label].values())
            if said:
                self._reviews[label] = _review(said, self._size_of[label])
            else:
                self._reviews.pop(label, None)


def _review(said: list[_Said], size: float) -> LesionReview:
    """Return what corrections say of a lesion of so many cells."""
    said = sorted(said, key=lambda one: -one.of_smaller)
    keys = tuple(one.correction.key for one in said)
    halves = tuple(one.correction.key for one in said if one.of_smaller >= SHARE)
    decided = [one for one in said if one.correction.label != "undecided"]
    about = {one.correction.label for one in decided if one.of_smaller >= SHARE}
    covered = {
        label: _distinct([one.numbers for one in decided if one.correction.label == label]) / size
        for label in {one.correction.label for one in decided}
    }
    others = sum(share for label, share in covered.items() if label != "tumour")
    if "tumour" in about:
        if others < _AGAINST:
            return _said_by(next(one for one in said if one.correction.label == "tumour"), "confirmed", keys, halves)
    elif len(about) == 1 and covered[label := next(iter(about))] >= SHARE:
        first = next(one for one in said if one.correction.label == label)
        return _said_by(first, "rejected" if label == "normal" else "ignored", keys, halves)
    # Of neighbours that barely touch it, none speaks of it.
    near = next((one for one in said if one.of_smaller >= _TOUCH), None)
    if near is None:
        return LesionReview(keys=keys, about=halves)
    is_clear = not any(one.of_smaller >= _TOUCH for one in decided)
    return _said_by(near, "pending", keys, halves, is_clear=is_clear)


def _said_by(
    said: _Said, state: State, keys: tuple[str, ...], about: tuple[str, ...], *, is_clear: bool = True
) -> LesionReview:
    one = said.correction
    return LesionReview(state, keys, is_clear, about, reviewer=one.reviewer, at=one.at, comment=one.comment)


def _distinct(numbers: list[npt.NDArray[np.int64]]) -> int:
    """Return how many cells there are in several groups of them, none of which names one twice."""
    return len(numbers[0]) if len(numbers) == 1 else len(np.unique(np.concatenate(numbers)))
