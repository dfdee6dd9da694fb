"""What a person says of a slide, of findings and of tissue that no model marked: values."""

from __future__ import annotations

import math
import uuid
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.errors import AnnotationError, brief
from napari_metastasis.storage import holds_control_characters

__all__ = [
    "LABELS",
    "MITOSIS_LABELS",
    "STATES",
    "Correction",
    "Corrections",
    "Finding",
    "Label",
    "State",
    "now",
    "relabelled",
]

#: What lies in a shape: tumour; tissue without; what no model is to learn from; or what nobody has decided yet. Of a
#: point, whether a mitosis lies there.
Label = Literal["tumour", "normal", "ignore", "undecided", "mitosis", "not-mitosis"]
#: Of lesions and tissue, and of mitoses: neither says anything of the other.
LABELS: tuple[Label, ...] = ("tumour", "normal", "ignore", "undecided")
MITOSIS_LABELS: tuple[Label, ...] = ("mitosis", "not-mitosis")
#: What became of a model's finding, or what a person drew without one.
State = Literal["pending", "confirmed", "rejected", "added", "normal", "ignored"]
STATES: tuple[State, ...] = ("pending", "confirmed", "rejected", "added", "normal", "ignored")

#: Characters of a comment or a name.
_LONGEST = 2000
#: Corners lie on a grid of so many lines a pixel: less than the light resolves. A power of two, so that a file that
#: counts from another corner gives back the very same numbers.
_GRID = 256

_OF_FINDING: Mapping[Label, State] = {
    "tumour": "confirmed",
    "normal": "rejected",
    "ignore": "ignored",
    "undecided": "pending",
    "mitosis": "confirmed",
    "not-mitosis": "rejected",
}
_OF_DRAWING: Mapping[Label, State] = {
    "tumour": "added",
    "normal": "normal",
    "ignore": "ignored",
    "undecided": "pending",
    "mitosis": "added",
    "not-mitosis": "rejected",
}


def _check_line(name: str, text: str) -> None:
    if len(text) > _LONGEST or holds_control_characters(text):
        raise AnnotationError(
            f"expected at most {_LONGEST} characters in one line as {name} of a correction, got {brief(text)}; "
            "shorten it"
        )


def _on_grid(shape: shapely.Geometry) -> shapely.Geometry:
    """Return a shape whose corners lie on the grid; the very same one where they do."""
    corners = shapely.get_coordinates(shape)
    if np.array_equal(corners, np.round(corners * _GRID) / _GRID):
        return shape
    return shapely.transform(shape, lambda corners: np.round(corners * _GRID) / _GRID)


def _places(points: Sequence[shapely.Geometry]) -> npt.NDArray[np.float64]:
    return shapely.get_coordinates(points).reshape(-1, 2)


def now() -> datetime:
    """Return the time, to the second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a model found where a person corrects it: kept beside what the person made of it.

    Corners are moved to the nearest 1/256 of a pixel, so that what is read back equals what was written.

    Attributes
    ----------
    model, map
        Names of the model and of the map that it was read from.
    threshold
        Probability from which tissue counted as tumour.
    probability
        The highest in it; ``None`` where no map says one.
    outline_px
        Its border, in level-0 pixels; of a mitosis the point where it was found.
    """

    model: str
    map: str
    threshold: float
    probability: float | None
    outline_px: shapely.Polygon | shapely.MultiPolygon | shapely.Point = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what no file can hold.

        Raises
        ------
        AnnotationError
            If a number is not finite, or a name is no line of text.
        """
        for name in ("threshold", "probability"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise AnnotationError(f"expected a finite {name} of a finding, got {value}; leave it out")
            # Maps hold float32, which JSON does not know.
            object.__setattr__(self, name, None if value is None else float(value))
        object.__setattr__(self, "outline_px", _on_grid(self.outline_px))
        _check_line("model", self.model)
        _check_line("map", self.map)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a person says of one place.

    Corners are moved to the nearest 1/256 of a pixel, so that what is read back equals what was written.

    Attributes
    ----------
    key
        UUID, the same in every file.
    label
        What lies there.
    shape_px
        An area, or a point, in level-0 pixels.
    found
        What a model found there; ``None`` where the person began with an empty place.
    reviewer
        Who said so; may be empty.
    at
        When it was said last.
    comment
        One line; may be empty.
    """

    key: str
    label: Label
    shape_px: shapely.Polygon | shapely.MultiPolygon | shapely.Point = field(repr=False)
    found: Finding | None = None
    reviewer: str = ""
    at: datetime = field(default_factory=now)
    comment: str = ""

    def __post_init__(self) -> None:
        """Refuse what no file can hold.

        Raises
        ------
        AnnotationError
            If the reviewer or the comment is no line of text, or a mitosis is no point.
        """
        if self.is_of_mitosis and not isinstance(self.shape_px, shapely.Point):
            raise AnnotationError(
                f"expected a point as {self.label}, got a {self.shape_px.geom_type}; set a point for each mitosis"
            )
        shape = _on_grid(self.shape_px)
        if self.found is not None and self.found.outline_px.equals_exact(shape):
            # One object: whether an outline was redrawn is asked of thousands of them, at every step.
            shape = self.found.outline_px
        object.__setattr__(self, "shape_px", shape)
        _check_line("reviewer", self.reviewer)
        _check_line("comment", self.comment)

    @property
    def is_of_mitosis(self) -> bool:
        """Return whether it says something of a mitosis, and nothing of lesions and tissue."""
        return self.label in MITOSIS_LABELS

    @property
    def state(self) -> State:
        """Return what became of the finding, or what was drawn without one."""
        return (_OF_DRAWING if self.found is None else _OF_FINDING)[self.label]

    @property
    def is_redrawn(self) -> bool:
        """Return whether a person changed the outline of the finding."""
        if self.found is None or self.found.outline_px is self.shape_px:
            return False
        return not self.found.outline_px.equals(self.shape_px)

    @staticmethod
    def new_key() -> str:
        """Return a key that no other correction has."""
        return str(uuid.uuid4())


@dataclass(frozen=True)
class Corrections:
    """All that is said of one slide, in the order in which places came up; a value, so that earlier ones can be kept.

    Attributes
    ----------
    by_key
        Not to be changed.
    """

    by_key: Mapping[str, Correction] = field(default_factory=dict)

    @classmethod
    def of(cls, corrections: Iterable[Correction]) -> Self:
        """Return corrections by their keys; of several with one key, the last."""
        return cls({one.key: one for one in corrections})

    def __iter__(self) -> Iterator[Correction]:
        return iter(self.by_key.values())

    def __len__(self) -> int:
        return len(self.by_key)

    def __contains__(self, key: object) -> bool:
        return key in self.by_key

    def __getitem__(self, key: str) -> Correction:
        return self.by_key[key]

    @cached_property
    def areas(self) -> tuple[Correction, ...]:
        """Return those that are areas."""
        point = shapely.Point
        return tuple([one for one in self.by_key.values() if type(one.shape_px) is not point])

    @cached_property
    def bounds_px(self) -> npt.NDArray[np.float64]:
        """Return the left, top, right and bottom of each area, (n, 4)."""
        return shapely.bounds(np.array([one.shape_px for one in self.areas], dtype=object)).reshape(-1, 4)

    @cached_property
    def points(self) -> tuple[Correction, ...]:
        """Return those that are points of lesions or tissue."""
        found = [one for one in self.by_key.values() if isinstance(one.shape_px, shapely.Point)]
        return tuple(one for one in found if not one.is_of_mitosis)

    @cached_property
    def places_px(self) -> npt.NDArray[np.float64]:
        """Return where these points lie, (n, 2) of (x, y)."""
        return _places([one.shape_px for one in self.points])

    @cached_property
    def mitoses(self) -> tuple[Correction, ...]:
        """Return those that say something of mitoses, which are points."""
        return tuple(one for one in self.by_key.values() if one.is_of_mitosis)

    @cached_property
    def mitoses_px(self) -> npt.NDArray[np.float64]:
        """Return where these lie, (n, 2) of (x, y)."""
        return _places([one.shape_px for one in self.mitoses])

    @cached_property
    def of_lesions(self) -> tuple[Correction, ...]:
        """Return those that say something of lesions and tissue."""
        return tuple(one for one in self.by_key.values() if not one.is_of_mitosis)

    @cached_property
    def states(self) -> Mapping[State, int]:
        """Return how many there are of each state that there is, of lesions and tissue."""
        # Of thousands, at every step: counted by what decides on them.
        labels = [one.label for one in self.of_lesions if one.found is None]
        of_findings = [one.label for one in self.of_lesions if one.found is not None]
        states: Counter[State] = Counter()
        for table, found in ((_OF_DRAWING, Counter(labels)), (_OF_FINDING, Counter(of_findings))):
            for label, count in found.items():
                states[table[label]] += count
        return states

    @cached_property
    def drawn(self) -> frozenset[Label]:
        """Return the labels of what was drawn where no model found anything, of lesions and tissue."""
        return frozenset(one.label for one in self.of_lesions if one.found is None)

    def with_(self, *corrections: Correction) -> Corrections:
        """Return these with others in the place of those of the same keys."""
        return Corrections({**self.by_key, **{one.key: one for one in corrections}})

    def without(self, *keys: str) -> Corrections:
        """Return these without some; a key that is not there is passed over."""
        left = dict(self.by_key)
        for key in keys:
            left.pop(key, None)
        return Corrections(left)

    def changes_to(self, other: Corrections) -> Mapping[str, Correction | None]:
        """Return what is another there: by its key, the correction as it is there, or ``None`` where it is gone."""
        # Several ask the same after every step.
        known = other.__dict__.get("_changes_since")
        if known is not None and known[0]() is self:
            found: Mapping[str, Correction | None] = known[1]
            return found
        mine, theirs = self.by_key, other.by_key
        changed: dict[str, Correction | None] = {
            key: one for key, one in theirs.items() if (held := mine.get(key)) is not one and held != one
        }
        changed.update((key, None) for key in mine if key not in theirs)
        other.__dict__["_changes_since"] = weakref.ref(self), changed
        return changed

    def rebased(self, base: Corrections, changes: Mapping[str, Correction | None]) -> Corrections:
        """Return these with changes that somebody made to ``base``; what is another here stays as it is."""
        taken = {key: one for key, one in changes.items() if self.by_key.get(key) == base.by_key.get(key)}
        gone = {key for key, one in taken.items() if one is None}
        kept = {key: one for key, one in self.by_key.items() if key not in gone}
        return Corrections({**kept, **{key: one for key, one in taken.items() if one is not None}})

    def merged(self, theirs: Corrections, base: Corrections) -> tuple[Corrections, tuple[str, ...]]:
        """Return what two people made of the same corrections, put together.

        Parameters
        ----------
        theirs
            What the other made of them.
        base
            What both began with.

        Returns
        -------
        All that either changed; of what both changed otherwise, the later one, and before a removal what was kept. Then
        the keys of these.
        """
        together: dict[str, Correction] = {}
        disputed: list[str] = []
        for key in dict.fromkeys((*theirs.by_key, *self.by_key)):
            mine, other, before = self.by_key.get(key), theirs.by_key.get(key), base.by_key.get(key)
            if mine == other or other == before:
                chosen = mine
            elif mine == before:
                chosen = other
            else:
                disputed.append(key)
                kept = [one for one in (other, mine) if one is not None]
                chosen = max(kept, key=lambda one: one.at)
            if chosen is not None:
                together[key] = chosen
        return Corrections(together), tuple(disputed)


def relabelled(correction: Correction, label: Label, *, reviewer: str) -> Correction:
    """Return what a person says of a place now."""
    return replace(correction, label=label, reviewer=reviewer, at=now())
