"""What a person draws, as corrections: an area painted, erased, cut, joined or filled; a point dropped.

What is drawn last holds where it is drawn: it is taken out of whatever was called something else there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations.corrections import Correction, Corrections, Label, now
from napari_metastasis.annotations.editing import erased, filled, joined, split

__all__ = ["Drawing", "Drawn"]

#: Returns the findings that a geometry touches and of which nobody has spoken, as corrections that confirm them.
FindingsUnder = Callable[[shapely.Geometry], Sequence[Correction]]


def _no_findings(_: shapely.Geometry) -> Sequence[Correction]:
    return ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a person drew.

    Attributes
    ----------
    what
        What was done, as a person says it; empty where it changed nothing.
    corrections
        All of the slide, with it.
    key
        Of the correction that is chosen now; empty where none is.
    """

    what: str
    corrections: Corrections
    key: str = ""


class Drawing:
    """Changes the corrections of a slide as a person draws; every change is a value of its own.

    Parameters
    ----------
    corrections
        All of the slide.
    reviewer
        Who draws.
    chosen
        Key of the correction that is chosen: it goes before others that lie there.
    findings_under
        Finds what a model found where something is drawn.
    """

    def __init__(
        self,
        corrections: Corrections,
        *,
        reviewer: str,
        chosen: str = "",
        findings_under: FindingsUnder = _no_findings,
    ) -> None:
        self._corrections, self._reviewer, self._chosen = corrections, reviewer, chosen
        self._findings_under = findings_under

    def _unchanged(self) -> Drawn:
        return Drawn("", self._corrections, self._chosen)

    def touched(self, geometry: shapely.Geometry, label: Label | None = None) -> tuple[Correction, ...]:
        """Return the areas, of one label or of any, that a geometry touches; the chosen one first."""
        left, top, right, bottom = geometry.bounds
        areas, bounds = self._corrections.areas, self._corrections.bounds_px
        near = np.flatnonzero(
            (bounds[:, 0] <= right) & (bounds[:, 2] >= left) & (bounds[:, 1] <= bottom) & (bounds[:, 3] >= top)
        )
        found = [areas[at] for at in near.tolist() if label in (None, areas[at].label)]
        found = [one for one in found if _touch(one.shape_px, geometry)]
        return tuple(sorted(found, key=lambda one: one.key != self._chosen))

    def paint(self, area: shapely.Geometry | None, label: Label) -> Drawn:
        """Call an area something: what it touches that is called the same grows by it, else it is a new one."""
        if area is None:
            return self._unchanged()
        same = self.touched(area, label)
        if not same and label == "tumour":
            same = tuple(self._findings_under(area))
        if same:
            joined_shape = joined([*(one.shape_px for one in same), area])
            said = self._said(same[0], joined_shape, label)
        else:
            said = Correction(key=Correction.new_key(), label=label, shape_px=area, reviewer=self._reviewer, at=now())
        rest = self._corrections.without(*(one.key for one in same[1:]))
        rest = self._without_others(rest, area, label)
        what = f"Draw {_NOUNS[label]}" if not same else f"Change {_NOUNS[label]}"
        return Drawn(what, rest.with_(said), said.key)

    def erase(self, area: shapely.Geometry | None) -> Drawn:
        """Take an area out of all that it touches; what a model found may be among them.

        A finding of which nothing is left is rejected.
        """
        if area is None:
            return self._unchanged()
        touched = (*self.touched(area), *self._findings_under(area))
        points = self._points_in(area)
        if not touched and not points:
            return self._unchanged()
        kept, gone = [], [one.key for one in points]
        for one in touched:
            left = erased(one.shape_px, area)
            if left is not None:
                kept.append(self._said(one, left, one.label))
            elif one.found is not None:
                kept.append(self._said(one, one.found.outline_px, "normal"))
            else:
                gone.append(one.key)
        key = kept[0].key if kept else ""
        return Drawn("Erase", self._corrections.without(*gone).with_(*kept), key)

    def cut(self, line_px: npt.ArrayLike) -> Drawn:
        """Cut all areas in two that a line crosses, and what a model found."""
        points = np.asarray(line_px, np.float64).reshape(-1, 2)
        if len(points) < 2:
            return self._unchanged()
        line = shapely.LineString(points)
        crossed = (*self.touched(line), *self._findings_under(line))
        made: list[Correction] = []
        for one in crossed:
            pieces = split(one.shape_px, points)
            if len(pieces) > len(shapely.get_parts(one.shape_px)):
                first, *others = pieces
                made.append(self._said(one, first, one.label))
                made += [replace(self._said(one, piece, one.label), key=Correction.new_key()) for piece in others]
        if not made:
            return self._unchanged()
        return Drawn("Split", self._corrections.with_(*made), made[0].key)

    def join(self, line_px: npt.ArrayLike, label: Label) -> Drawn:
        """Join all areas of one label, and what a model found, that a line crosses."""
        points = np.asarray(line_px, np.float64).reshape(-1, 2)
        if len(points) < 2:
            return self._unchanged()
        line = shapely.LineString(points)
        crossed = list(self.touched(line, label))
        if label == "tumour":
            crossed += self._findings_under(line)
        if len(crossed) < 2:
            return self._unchanged()
        said = self._said(crossed[0], joined(one.shape_px for one in crossed), label)
        rest = self._corrections.without(*(one.key for one in crossed[1:]))
        return Drawn("Join", rest.with_(said), said.key)

    def fill(self) -> Drawn:
        """Fill the holes of the chosen correction."""
        one = self._corrections.by_key.get(self._chosen)
        if one is None or shapely.get_num_interior_rings(shapely.get_parts(one.shape_px)).sum() == 0:
            return self._unchanged()
        return Drawn("Fill holes", self._corrections.with_(self._said(one, filled(one.shape_px), one.label)), one.key)

    def reshape(self, one: Correction, area: shapely.Geometry, what: str) -> Drawn:
        """Give a correction another outline; what a model found is confirmed by it.

        Parameters
        ----------
        one
            Need not be among the corrections yet: what a model found, as it would be confirmed.
        area
            What it encloses now.
        what
            What was done, as a person says it.
        """
        label = one.label if one.found is None else "tumour"
        others = [other for other in self.touched(area) if other.key != one.key]
        is_over = any(other.label not in (label, "undecided") for other in others)
        more = erased(area, one.shape_px) if is_over else None
        rest = self._corrections if more is None else self._without_others(self._corrections, more, label)
        return Drawn(what, rest.with_(self._said(one, area, label)), one.key)

    def remove(self) -> Drawn:
        """Take the chosen correction away; what a model found there is to be looked at again."""
        if self._chosen not in self._corrections:
            return self._unchanged()
        return Drawn("Remove", self._corrections.without(self._chosen))

    def drop(self, x: float, y: float, label: Label) -> Drawn:
        """Drop a point."""
        said = Correction(
            key=Correction.new_key(), label=label, shape_px=shapely.Point(x, y), reviewer=self._reviewer, at=now()
        )
        return Drawn(f"Drop a point of {_NOUNS[label]}", self._corrections.with_(said), said.key)

    def _said(self, one: Correction, shape: shapely.Geometry, label: Label) -> Correction:
        return replace(one, shape_px=shape, label=label, reviewer=self._reviewer, at=now())

    def _without_others(self, corrections: Corrections, area: shapely.Geometry, label: Label) -> Corrections:
        """Return corrections, an area taken out of what is called something else."""
        changed, gone = [], []
        for one in self.touched(area):
            if one.label in (label, "undecided") or one.key not in corrections:
                continue
            left = erased(one.shape_px, area)
            if left is None:
                gone.append(one.key)
            else:
                changed.append(replace(one, shape_px=left))
        return corrections.without(*gone).with_(*changed) if changed or gone else corrections

    def _points_in(self, area: shapely.Geometry) -> list[Correction]:
        points, (x, y) = self._corrections.points, self._corrections.places_px.T
        return [points[at] for at in np.flatnonzero(shapely.contains_xy(area, x, y)).tolist()]


#: What a label is called in a step's name.
_NOUNS: dict[Label, str] = {
    "tumour": "tumour",
    "normal": "normal tissue",
    "ignore": "what to ignore",
    "undecided": "undecided",
}


def _touch(area: shapely.Geometry, other: shapely.Geometry) -> bool:
    sound = area if area.is_valid else shapely.make_valid(area)
    return bool(shapely.intersects(sound, other))
