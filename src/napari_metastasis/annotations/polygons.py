"""Polygons with holes in level-0 pixels, and the names that CAMELYON gives their groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from napari_metastasis.errors import AnnotationError

__all__ = ["EXCLUSION_GROUPS", "TUMOUR_GROUPS", "Annotation", "AnnotationSet", "counted", "means_something"]

#: Groups that hold tumour, in lower case: CAMELYON16 (`_0`, `_1`, and `Tumor` of its first release), CAMELYON17
#: (`metastases`), and the classes of this program's own lesions, which somebody may have corrected.
TUMOUR_GROUPS = frozenset(
    {
        "_0",
        "_1",
        "isolated tumour cells",
        "macro-metastasis",
        "metastases",
        "metastasis",
        "micro-metastasis",
        "tumor",
        "tumour",
    }
)
#: Groups whose polygons are cut out of the tumour around them.
EXCLUSION_GROUPS = frozenset({"_2", "exclusion"})
#: Groups that say that there is no tumour.
NORMAL_GROUPS = frozenset({"normal"})
#: Groups that no model learns from; QuPath marks such classes by a star.
IGNORED_GROUPS = frozenset({"ignore", "ignore*"})
#: Corners lie within so many pixels of the slide's corner: no slide is wider, and areas are drawn as pixels.
_FARTHEST_PX = 400_000

#: How cut-outs are called whose file has no other way to say whose they are: "Lesion 3 cut-out 0".
_CUT_OUT_OF = re.compile(r"(.*) cut-out \d+", re.DOTALL)

#: What makes the first word of a kind a plural.
_PLURAL = re.compile(r"(?<=\w)s\b")

Ring = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One outlined area, kept as it was drawn.

    The exterior may cross itself, and then follows the even-odd rule; holes may reach past it. shapely holds such a
    polygon, but calls it invalid: ask :func:`~napari_metastasis.annotations.covered` for areas and comparisons.

    Attributes
    ----------
    name
        What the annotation is called in its file.
    group
        The group it belongs to: ``_0`` or ``metastases`` for tumour.
    outline_px
        The polygon, in level-0 pixels.

    Raises
    ------
    AnnotationError
        If the polygon is empty, or has corners that are not finite.
    """

    name: str
    group: str
    outline_px: shapely.Polygon

    def __post_init__(self) -> None:
        """Refuse what encloses nothing."""
        corners = shapely.get_coordinates(self.outline_px)
        if not len(corners) or not np.isfinite(corners).all():
            raise _refused(f"the outline of {self.name!r}", corners)
        if np.abs(corners).max() > _FARTHEST_PX:
            far = corners[np.abs(corners).max(axis=1).argmax()]
            raise AnnotationError(
                f"expected the outline of {self.name!r} within {_FARTHEST_PX:,} px of the slide's corner, got a corner "
                f"at x {far[0]:.6g}, y {far[1]:.6g}; draw the polygon again or remove it"
            )

    @classmethod
    def of_rings(cls, name: str, group: str, exterior: ArrayLike, holes: Iterable[ArrayLike] = ()) -> Self:
        """Return the annotation of an outer ring and of rings cut out of it, (n, 2) corners each, closed or not.

        Raises
        ------
        AnnotationError
            If a ring has fewer than three corners, or corners that are not finite.
        """
        rings = [_ring(exterior, f"the outline of {name!r}"), *(_ring(hole, f"a hole of {name!r}") for hole in holes)]
        return cls(name, group, shapely.Polygon(rings[0], rings[1:]))

    @property
    def exterior(self) -> Ring:
        """Return (n, 2) float64 corners (x, y) in level-0 pixels, not closed, read-only."""
        return _corners(self.outline_px.exterior)

    @property
    def holes(self) -> tuple[Ring, ...]:
        """Return rings of the same kind that do not belong to the area."""
        return tuple(_corners(hole) for hole in self.outline_px.interiors)

    @property
    def is_tumour(self) -> bool:
        """Return whether the group is one of those that mean tumour, or derived from one (``Tumor: Positive``)."""
        return _means(self.group, TUMOUR_GROUPS)

    @property
    def is_normal(self) -> bool:
        """Return whether the group says that there is no tumour, or is derived from one that does."""
        return _means(self.group, NORMAL_GROUPS)

    @property
    def is_ignored(self) -> bool:
        """Return whether no model learns from the group, or from what it is derived from."""
        return _means(self.group, IGNORED_GROUPS)

    @property
    def is_cut_out(self) -> bool:
        """Return whether the group is cut out of the tumour around it."""
        return _means(self.group, EXCLUSION_GROUPS)

    def moved(self, x: float, y: float) -> Self:
        """Return the annotation moved by (x, y) level-0 pixels."""
        return replace(self, outline_px=shapely.transform(self.outline_px, lambda corners: corners + np.array([x, y])))


def means_something(group: str) -> bool:
    """Return whether a group's own name says what its outlines are."""
    return _means(group, TUMOUR_GROUPS | EXCLUSION_GROUPS | NORMAL_GROUPS | IGNORED_GROUPS)


def _means(group: str, known: frozenset[str]) -> bool:
    """Return whether a group is one of those known; a derived class of QuPath's is its base class."""
    name = group.casefold()
    return name in known or name.partition(":")[0].strip() in known


def _refused(what: str, corners: NDArray[np.float64]) -> AnnotationError:
    return AnnotationError(
        f"expected {what} as at least three finite (x, y) corners, got an array of shape {corners.shape}; "
        "draw the polygon again or remove it"
    )


def _ring(points: ArrayLike, what: str) -> Ring:
    """Return ``points`` as a closed (n + 1, 2) float64 ring of at least three finite corners."""
    ring = np.array(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise _refused(what, ring)
    if len(ring) > 3 and np.array_equal(ring[0], ring[-1]):
        return ring
    # Closed even where three corners already begin and end alike, so that no corner of a file is lost.
    return np.concatenate((ring, ring[:1]))


def _corners(ring: shapely.LinearRing) -> Ring:
    """Return the corners of a ring, without the last, which is the first again; read-only."""
    corners = shapely.get_coordinates(ring)[:-1]
    corners.flags.writeable = False
    return corners


@dataclass(frozen=True, slots=True)
class AnnotationSet:
    """The annotations of one slide, in their file's order.

    Attributes
    ----------
    annotations
        The areas.
    omitted
        What else the file holds: of each kind, as a plural noun, how many.
    """

    annotations: tuple[Annotation, ...] = field(default=())
    omitted: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_file(cls, drawn: Sequence[Annotation], omitted: Mapping[str, int]) -> Self:
        """Return the areas of a file: those drawn, less what is cut out of them, which becomes their holes."""
        areas = _with_holes(drawn)
        # Cut out of nothing, they say that something is missing.
        alone = 0 if areas else len(drawn)
        return cls(areas, {**omitted, **({"cut-outs of no outline": alone} if alone else {})})

    def __iter__(self) -> Iterator[Annotation]:
        """Yield the annotations in order."""
        return iter(self.annotations)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.annotations)

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the names of the groups in use, sorted."""
        return tuple(sorted({annotation.group for annotation in self.annotations}))

    @property
    def unknown_groups(self) -> tuple[str, ...]:
        """Return the groups that mean neither tumour, nor what is cut out of it, nor normal or ignored, sorted."""
        return tuple(group for group in self.groups if not means_something(group))

    @property
    def lacks_tumour(self) -> bool:
        """Return whether the file holds something, and no outline of tumour: too little to call the slide normal."""
        return not len(self.tumour) and bool(self.unknown_groups or self.omitted)

    def lack_of_tumour(self, origin: object) -> str:
        """Return what to say of outlines from ``origin`` where no group means tumour: expected, received, remedy."""
        found = [*self.groups, *counted(self.omitted)]
        return (
            f"expected outlines of a group that means tumour ({', '.join(sorted(TUMOUR_GROUPS))}), got only "
            f"{', '.join(found)} in {origin}; rename the group, or draw outlines"
        )

    def doubts(self, origin: object) -> str:
        """Return what has to be said of what ``origin`` holds beside the areas that were understood; or nothing."""
        unknown = {
            f"outlines of group {group!r}": sum(one.group == group for one in self) for group in self.unknown_groups
        }
        left_out = [*counted(unknown), *counted(self.omitted)]
        if not left_out:
            return ""
        return (
            f"expected outlines of tumour or of what is cut out of it in {origin}, got also {', '.join(left_out)}; "
            "they are left out"
        )

    @property
    def tumour(self) -> AnnotationSet:
        """Return the annotations that mean tumour."""
        return AnnotationSet(tuple(annotation for annotation in self.annotations if annotation.is_tumour))

    @property
    def normal(self) -> AnnotationSet:
        """Return the annotations that say that there is no tumour."""
        return AnnotationSet(tuple(annotation for annotation in self.annotations if annotation.is_normal))

    @property
    def ignored(self) -> AnnotationSet:
        """Return the annotations that no model learns from."""
        return AnnotationSet(tuple(annotation for annotation in self.annotations if annotation.is_ignored))


def counted(kinds: Mapping[str, int]) -> list[str]:
    """Return how many there are of each kind, which is a plural noun: "2 points", "1 outline of group 'x'"."""
    return [
        f"{count} {_PLURAL.sub('', kind, count=1) if count == 1 else kind}" for kind, count in kinds.items() if count
    ]


def _with_holes(annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """Return the annotations, cut-outs taken away and made holes of the areas that they touch.

    An area that lies within a cut-out is an island of tumour in it and keeps its place. A cut-out that is called after
    an area, as we write them, is cut out of areas of that name alone.
    """
    drawn = [one for one in annotations if one.is_cut_out]
    cut_outs = [one.outline_px for one in drawn]
    areas = [one for one in annotations if not one.is_cut_out]
    names = {area.name for area in areas}
    owners = [match[1] if (match := _CUT_OUT_OF.fullmatch(one.name)) and match[1] in names else None for one in drawn]
    if not cut_outs or not areas:
        return tuple(areas)
    # Outlines drawn by hand cross themselves; made valid, they can be compared.
    shapes, cuts = (
        shapely.make_valid(np.array(outlines, dtype=object), method="structure", keep_collapsed=False)
        for outlines in ([area.outline_px for area in areas], cut_outs)
    )
    holes: list[list[shapely.LinearRing]] = [[] for _ in areas]
    # In the order of the file.
    for cut, index in sorted(shapely.STRtree(shapes).query(cuts, predicate="intersects").T.tolist()):
        if owners[cut] in (None, areas[index].name) and not cuts[cut].contains(shapes[index]):
            holes[index].append(cut_outs[cut].exterior)
    return tuple(
        replace(area, outline_px=shapely.Polygon(area.outline_px.exterior, [*area.outline_px.interiors, *mine]))
        for area, mine in zip(areas, holes, strict=True)
    )
