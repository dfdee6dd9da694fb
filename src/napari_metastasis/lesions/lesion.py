"""What a heatmap holds at one threshold: detections and lesions, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Literal, overload

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.lesions.said import LesionReview
from napari_metastasis.lesions.size_classes import SIZE_CLASSES, SizeClass, size_class

#: What decides on the class of a lesion.
ClassedBy = Literal["length", "nuclei_estimated"]

__all__ = ["ClassedBy", "Detection", "Detections", "Findings", "Lesion", "LesionRow", "number_text"]


@dataclass(frozen=True, slots=True)
class Detection:
    """A scored point.

    Attributes
    ----------
    x, y
        Location in level-0 pixels.
    probability
        Its score.
    lesion
        Id of the lesion that it lies in.
    """

    x: float
    y: float
    probability: float
    lesion: int


@dataclass(frozen=True, slots=True, eq=False)
class Detections(Sequence[Detection]):
    """Scored points, strongest first, as columns; also a sequence of :class:`Detection`.

    Attributes
    ----------
    x, y
        (n,) float64, level-0 pixels.
    probability
        (n,) float32.
    lesion
        (n,) int32, ids of lesions.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    probability: NDArray[np.float32]
    lesion: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.x)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> Detections: ...
    def __getitem__(self, index: int | slice) -> Detection | Detections:
        columns = self.x[index], self.y[index], self.probability[index], self.lesion[index]
        if isinstance(index, slice):
            return Detections(*columns)
        return Detection(float(columns[0]), float(columns[1]), float(columns[2]), int(columns[3]))

    def __iter__(self) -> Iterator[Detection]:
        columns = (self.x.tolist(), self.y.tolist(), self.probability.tolist(), self.lesion.tolist())
        return map(Detection, *columns)


def number_text(lesion: int) -> str:
    """Return the number of a lesion for a person, by its id."""
    return f"P{-lesion}" if lesion < 0 else str(lesion)


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRow:
    """What a table says of a lesion: a plain value.

    Attributes
    ----------
    id
        Its label. Kept while the threshold moves: that of its highest peak, small for peaks that stand out most. One
        below zero is that of an outline of a person.
    x, y
        Location of its strongest detection, or of a point in its outline, in level-0 pixels.
    probability
        Highest probability of its cells, before opening (Lin et al. 2019, II-C); ``None`` where no map says one.
    area_mm2
        Its area.
    length_mm
        Longest diameter of its contour, across what lies between foci that were joined.
    detections
        How many detections lie in it; at least one where it was read from a map.
    map
        Name of the map that it was read from; ``None`` for an outline that a person drew.
    cut_by_edge
        Whether it may go on where tissue was not scanned: it is at least as large as it is said to be.
    nuclei
        An estimate of how many it has at most, by its area and the density of dense tumour: none is counted. ``None``
        where that was not asked for.
    review
        What a person said of it; ``None`` where nobody asked.
    """

    id: int
    x: float
    y: float
    probability: float | None
    area_mm2: float
    length_mm: float
    detections: int
    map: str | None
    cut_by_edge: bool = False
    nuclei: int | None = None
    review: LesionReview | None = None

    @property
    def number(self) -> str:
        """Return its number for a person: "3", or "P3" of an outline of a person."""
        return number_text(self.id)

    @property
    def counts(self) -> bool:
        """Return whether it counts in what is said of the slide: not where a person took it away."""
        return self.review is None or self.review.counts

    @property
    def is_point(self) -> bool:
        """Return whether a person marked it by a point, so that its size is not known."""
        return self.id < 0 and not self.area_mm2

    @property
    def size_class(self) -> SizeClass:
        """Return its class (AJCC): "itc" up to 0.2 mm or of fewer than 200 nuclei, "micro" up to 2 mm, "macro" above.

        A lesion that is cut by the edge of what was scanned may be of a larger one: see :attr:`class_text`.
        """
        # Of one that may go on, there are at least so many nuclei: that they are few is not known.
        return size_class(self.length_mm, None if self.cut_by_edge else self.nuclei)

    @property
    def size_class_by(self) -> ClassedBy:
        """Return what decided on its class: its length, or that it has too few nuclei for that, as far as estimated."""
        few = self.size_class == "itc" and size_class(self.length_mm) != "itc"
        return "nuclei_estimated" if few else "length"

    @property
    def class_text(self) -> str:
        """Return its class for a person: "Micro-metastasis", or "Micro or larger, cut by the scanned area".

        Where the nuclei decided: "Isolated tumour cells: about 150 nuclei, estimated from the area".
        """
        if self.is_point:
            return "Marked by a point: size not known"
        style = SIZE_CLASSES[self.size_class]
        if self.size_class_by == "nuclei_estimated" and self.nuclei is not None:
            return f"{style.label}: about {self.nuclei} nuclei, estimated from the area"
        if not self.cut_by_edge:
            return style.label
        return f"{self.class_short if self._may_be_larger else style.label}, cut by the scanned area"

    @property
    def class_short(self) -> str:
        """Return its class where there is little room: "Micro", or "Micro or larger"."""
        if self.is_point:
            return "Point"
        short = SIZE_CLASSES[self.size_class].short
        return f"{short} or larger" if self._may_be_larger else short

    @property
    def name(self) -> str:
        """Return its name in files for other programs: "Lesion 3".

        Where it is cut by the edge, or somebody said something of it, that is part of it.
        """
        told = [self.class_text] if self.cut_by_edge else []
        told += [self.review.text] if self.review is not None and self.review.text else []
        return f"Lesion {self.number}: {'; '.join(told)}" if told else f"Lesion {self.number}"

    @property
    def _may_be_larger(self) -> bool:
        *_, largest = SIZE_CLASSES
        return self.cut_by_edge and self.size_class != largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion(LesionRow):
    """A connected region of tumour: a plain value.

    Attributes
    ----------
    outline_px
        Its border, in level-0 pixels.
    """

    outline_px: shapely.Polygon | shapely.MultiPolygon = field(repr=False)


@dataclass(frozen=True, eq=False)
class Findings:
    """What a heatmap holds at one threshold. It stays as it is while the slider moves on, but for ``labels``.

    Attributes
    ----------
    threshold
        The threshold.
    detections
        At least one in every lesion, strongest first; within a lesion none closer than the radius to another.
    labels
        (rows, columns) int32, 0 outside lesions. ONE array for all thresholds, rewritten in place by each move.
    frame
        Where the cells of ``labels`` lie.
    map
        Name of the map that lesions were read from.
    changed
        Parts of ``labels`` that the move to this threshold touched, as cells of ``labels``.
    slide_score
        Highest probability anywhere, NaN if nothing was scanned.
    """

    threshold: float
    detections: Detections
    labels: NDArray[np.int32] = field(repr=False)
    frame: HeatmapFrame
    map: str
    changed: tuple[Region, ...] = field(repr=False)
    slide_score: float
    measure: Callable[[Detections], tuple[LesionRow, ...]] = field(repr=False)
    draw: Callable[[int], shapely.Polygon | shapely.MultiPolygon] = field(repr=False)

    @cached_property
    def rows(self) -> tuple[LesionRow, ...]:
        """Return a row for every lesion, the most probable first: what a table needs while the slider moves."""
        return self.measure(self.detections)

    @cached_property
    def lesions(self) -> tuple[Lesion, ...]:
        """Return every lesion with its outline, in the order of the rows: what files and pictures need."""
        return tuple(self._outlined(row) for row in self.rows)

    def lesion(self, number: int) -> Lesion:
        """Return one lesion with its outline.

        Raises
        ------
        KeyError
            If no lesion has this id at this threshold.
        """
        for row in self.rows:
            if row.id == number:
                return self._outlined(row)
        raise KeyError(f"expected the id of a lesion at threshold {self.threshold:g}, got {number}; see `rows`")

    def _outlined(self, row: LesionRow) -> Lesion:
        values = {one.name: getattr(row, one.name) for one in fields(row)}
        return Lesion(**values, outline_px=self.draw(row.id))
