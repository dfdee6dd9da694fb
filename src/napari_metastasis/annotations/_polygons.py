"""Polygons with holes in level-0 pixels, and the names that CAMELYON gives their groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from napari_metastasis.errors import AnnotationError

__all__ = ["EXCLUSION_GROUPS", "TUMOUR_GROUPS", "Annotation", "AnnotationSet", "longest_diameter"]

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

Ring = NDArray[np.float64]


def _ring(points: ArrayLike, what: str) -> Ring:
    """Return ``points`` as a read-only (n, 2) float64 ring of at least three finite, distinct corners."""
    ring = np.array(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise AnnotationError(
            f"expected {what} as at least three finite (x, y) corners, got an array of shape {ring.shape}; "
            "draw the polygon again or remove it"
        )
    if len(ring) > 3 and np.array_equal(ring[0], ring[-1]):
        ring = ring[:-1]
    ring.flags.writeable = False
    return ring


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """One outlined area.

    Attributes
    ----------
    name
        What the annotation is called in its file.
    group
        The group it belongs to: ``_0`` or ``metastases`` for tumour.
    exterior
        (n, 2) float64 corners (x, y) in level-0 pixels, not closed, read-only.
    holes
        Rings of the same kind that do not belong to the area. They may reach past the exterior.

    Raises
    ------
    AnnotationError
        If a ring has fewer than three corners, or corners that are not finite.
    """

    name: str
    group: str
    exterior: Ring
    holes: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        """Check and freeze the rings."""
        object.__setattr__(self, "exterior", _ring(self.exterior, f"the outline of {self.name!r}"))
        holes = tuple(_ring(hole, f"a hole of {self.name!r}") for hole in self.holes)
        object.__setattr__(self, "holes", holes)

    @property
    def is_tumour(self) -> bool:
        """Return whether the group is one of those that mean tumour."""
        return self.group.casefold() in TUMOUR_GROUPS

    @property
    def longest_diameter_px(self) -> float:
        """Return the largest distance between two corners of the exterior, in level-0 pixels."""
        return longest_diameter(self.exterior)


@dataclass(frozen=True, slots=True)
class AnnotationSet:
    """The annotations of one slide, in their file's order."""

    annotations: tuple[Annotation, ...] = field(default=())

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
        """Return the groups that mean neither tumour nor what is cut out of it, sorted."""
        known = TUMOUR_GROUPS | EXCLUSION_GROUPS
        return tuple(group for group in self.groups if group.casefold() not in known)

    def lack_of_tumour(self, origin: object) -> str:
        """Return what to say of outlines from ``origin`` where no group means tumour: expected, received, remedy."""
        return (
            f"expected outlines of a group that means tumour ({', '.join(sorted(TUMOUR_GROUPS))}), got only "
            f"{', '.join(self.groups)} in {origin}; rename the group"
        )

    @property
    def tumour(self) -> AnnotationSet:
        """Return the annotations that mean tumour."""
        return AnnotationSet(tuple(annotation for annotation in self.annotations if annotation.is_tumour))


def longest_diameter(points: ArrayLike) -> float:
    """Return the largest distance between any two of ``points``, an (n, 2) array, in its own unit."""
    ring = np.asarray(points, dtype=np.float64)
    # Points on one line have no hull of positive area; all of them are compared instead.
    with contextlib.suppress(QhullError):
        ring = ring[ConvexHull(ring).vertices]
    return float(pdist(ring).max())
