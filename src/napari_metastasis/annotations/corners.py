"""The corners of an outline, to be moved, added and removed one at a time.

An outline may have far more corners than a screen shows apart. Of these, those are shown that give it its shape; where
one is moved, those between it and the next ones that are shown go along, and where one is removed, the outline runs
straight between these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations.editing import area_in
from napari_metastasis.errors import AnnotationError

__all__ = ["Corners", "Edge", "Reshaped", "reshaped"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

#: A border has at least so many corners.
_FEWEST = 3


class Edge(NamedTuple):
    """The place of an outline that is nearest to another place.

    Attributes
    ----------
    corner
        Where the edge begins that it lies on.
    x, y
        In level-0 pixels.
    away_px
        How far away it is.
    """

    corner: int
    x: float
    y: float
    away_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """The corners of an area, ring after ring; a value.

    Attributes
    ----------
    places_px
        (n, 2) of (x, y), in level-0 pixels, each once: a ring ends where it begins.
    starts
        Where each ring begins, and the end of the last one.
    rings_of_parts
        How many rings each part has: its border, and then its holes.
    """

    places_px: FloatArray
    starts: IndexArray
    rings_of_parts: tuple[int, ...]
    _next: IndexArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find which corner follows on which."""
        following = np.arange(1, len(self.places_px) + 1)
        following[self.starts[1:] - 1] = self.starts[:-1]
        object.__setattr__(self, "_next", following)

    @classmethod
    def of(cls, area: shapely.Polygon | shapely.MultiPolygon) -> Corners:
        """Return the corners of an area."""
        parts = [part for part in shapely.get_parts(area).tolist() if not part.is_empty]
        rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
        corners, owner = shapely.get_coordinates(rings, return_index=True)
        # The last of each ring is its first once more.
        is_last = np.append(owner[1:] != owner[:-1], True)
        counts = np.bincount(owner[~is_last], minlength=len(rings))
        return cls(
            np.ascontiguousarray(corners[~is_last]),
            np.concatenate(([0], np.cumsum(counts))).astype(np.intp),
            tuple(1 + len(part.interiors) for part in parts),
        )

    def __len__(self) -> int:
        return len(self.places_px)

    @property
    def area(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the area that they enclose; it may cross itself."""
        rings = [self.places_px[start:end] for start, end in zip(self.starts, self.starts[1:], strict=False)]
        parts, first = [], 0
        for count in self.rings_of_parts:
            parts.append(shapely.Polygon(rings[first], rings[first + 1 : first + count]))
            first += count
        return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)

    @property
    def ends_px(self) -> FloatArray:
        """Return both ends of each edge, (n, 2, 2), the first of each being the corner of its number."""
        return np.stack((self.places_px, self.places_px[self._next]), axis=1)

    # -- what is shown -------------------------------------------------------------------------------------------

    def shown(self, tolerance_px: float, *, apart_px: float) -> BoolArray:
        """Return which corners are worth showing.

        Parameters
        ----------
        tolerance_px
            The outline through those that are shown lies this near to the outline (Douglas & Peucker 1973).
        apart_px
            A corner that is farther than this from both its neighbours is always shown.
        """
        edge = np.hypot(*(self.places_px[self._next] - self.places_px).T)
        before = np.empty_like(edge)
        before[self._next] = edge
        is_apart = (edge >= apart_px) & (before >= apart_px)
        found = np.zeros(len(self), np.bool_)
        for start, end in zip(self.starts.tolist(), self.starts[1:].tolist(), strict=False):
            places = np.concatenate((self.places_px[start:end], self.places_px[start : start + 1]))
            # The third coordinate is carried along, and says which of them are kept.
            numbered = np.column_stack((places, np.append(np.arange(start, end), start)))
            kept = shapely.simplify(shapely.LinearRing(numbered), tolerance_px, preserve_topology=False)
            numbers = np.unique(shapely.get_coordinates(kept, include_z=True)[:, 2].astype(np.intp))
            # What is no area at this zoom is a dot: nobody can take hold of it.
            if len(numbers) >= _FEWEST:
                found[numbers] = True
        return found | is_apart

    def stretch(self, corner: int, shown: BoolArray) -> IndexArray:
        """Return the corners from the shown one before a corner to the shown one after it, in their order."""
        ring = int(np.searchsorted(self.starts, corner, side="right")) - 1
        start, end = int(self.starts[ring]), int(self.starts[ring + 1])
        own = np.flatnonzero(shown[start:end])
        own = own[own != corner - start]
        size, at = end - start, corner - start
        if not len(own):
            return start + (at + np.arange(size + 1)) % size
        back, on = int(((at - own) % size).min()), int(((own - at) % size).min())
        return start + (at + np.arange(-back, on + 1)) % size

    # -- what is near --------------------------------------------------------------------------------------------

    def nearest(self, x: float, y: float, among: BoolArray) -> tuple[int, float]:
        """Return which of some corners is nearest to a place, and how far away it is; -1 where there is none."""
        numbers = np.flatnonzero(among)
        if not len(numbers):
            return -1, np.inf
        away = np.hypot(*(self.places_px[numbers] - (x, y)).T)
        best = int(away.argmin())
        return int(numbers[best]), float(away[best])

    def nearest_edge(self, x: float, y: float) -> Edge:
        """Return the place of the outline that is nearest to another place."""
        start, end = self.ends_px[:, 0], self.ends_px[:, 1]
        way = end - start
        length = (way**2).sum(axis=1)
        along = ((np.array([x, y]) - start) * way).sum(axis=1) / np.where(length > 0, length, 1)
        places = start + along.clip(0, 1)[:, None] * way
        away = np.hypot(*(places - (x, y)).T)
        best = int(away.argmin())
        return Edge(best, float(places[best, 0]), float(places[best, 1]), float(away[best]))

    # -- what is done --------------------------------------------------------------------------------------------

    def moved(self, corner: int, x: float, y: float, shown: BoolArray) -> Corners:
        """Return them with one corner at another place; those between it and its shown neighbours go along.

        Each of these by the share of the way, along the outline, that it lies from the neighbour.
        """
        numbers, move = self.stretch(corner, shown), np.array([x, y]) - self.places_px[corner]
        share = np.ones(len(numbers))
        # All round, where no other is shown, the whole ring goes along.
        if numbers[0] != corner:
            at = int(np.flatnonzero(numbers == corner)[0])
            steps = np.hypot(*np.diff(self.places_px[numbers], axis=0).T)
            way = np.concatenate(([0.0], np.cumsum(steps)))
            share = np.interp(way, (0.0, way[at], way[-1]), (0.0, 1.0, 0.0))
            share[[0, at, -1]] = 0.0, 1.0, 0.0
        there = self.places_px.copy()
        there[numbers] += share[:, None] * move
        there[corner] = x, y
        return Corners(there, self.starts, self.rings_of_parts)

    def added(self, edge: Edge) -> tuple[Corners, int]:
        """Return them with a corner more, on an edge, and which it is."""
        at = edge.corner + 1
        there = np.insert(self.places_px, at, (edge.x, edge.y), axis=0)
        return Corners(there, self.starts + (self.starts >= at), self.rings_of_parts), at

    def removed(self, corner: int, shown: BoolArray) -> Corners:
        """Return them without a corner, nor those between it and its shown neighbours: straight between these.

        Raises
        ------
        AnnotationError
            If too few were left for a border.
        """
        gone = self.stretch(corner, shown)[1:-1]
        ring = int(np.searchsorted(self.starts, corner, side="right")) - 1
        if self.starts[ring + 1] - self.starts[ring] - len(gone) < _FEWEST:
            raise AnnotationError(
                f"expected at least {_FEWEST} corners of a border, got {_FEWEST - 1} without this one; "
                "remove the whole outline instead"
            ).in_window(f"A border needs at least {_FEWEST} corners. “Remove” takes the whole outline away.")
        later = np.arange(len(self.starts)) > ring
        there = np.delete(self.places_px, gone, axis=0)
        return Corners(there, self.starts - len(gone) * later, self.rings_of_parts)


class Reshaped(NamedTuple):
    """An outline whose corners were changed.

    Attributes
    ----------
    area
        What it encloses now.
    is_mended
        Whether it crossed itself, before and after, and was taken apart where it does.
    """

    area: shapely.Polygon | shapely.MultiPolygon
    is_mended: bool


def reshaped(before: shapely.Geometry, corners: Corners) -> Reshaped:
    """Return what corners enclose.

    Parameters
    ----------
    before
        The area that they were those of.
    corners
        As they are now.

    Raises
    ------
    AnnotationError
        If the outline crosses itself now and did not before, or encloses nothing.
    """
    area = corners.area
    if area.is_valid and area.area > 0:
        return Reshaped(area, is_mended=False)
    # Outlines drawn by hand cross themselves: they may be changed all the same.
    mended = None if before.is_valid else area_in(shapely.make_valid(area))
    if mended is None:
        raise AnnotationError(
            "expected an outline that does not cross itself, got one that does; move the corner elsewhere"
        ).in_window("The outline would cross itself: it stays as it was.")
    return Reshaped(mended, is_mended=True)
