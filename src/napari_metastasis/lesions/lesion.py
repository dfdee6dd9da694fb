"""What is found on a heatmap at one threshold: detections and lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.geometry import Region
from napari_metastasis.lesions.measure import SizeClass

__all__ = ["Detection", "Detections", "Findings", "Lesion"]


@dataclass(frozen=True, slots=True)
class Detection:
    """A scored point.

    Attributes
    ----------
    x, y
        Place in level-0 pixels.
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


@dataclass(frozen=True, slots=True)
class Lesion:
    """A connected region of tumour.

    Attributes
    ----------
    id
        Its label. Kept while the threshold moves: that of its highest peak, small for peaks that stand out most.
    x, y
        Place of its strongest detection, in level-0 pixels.
    probability
        Highest probability of its cells, before opening (Lin et al. 2019, II-C).
    area_mm2
        Area of its cells.
    length_mm
        Longest diameter, between the outermost corners of its cells.
    size_class
        By length (AJCC): "itc" up to 0.2 mm, "micro" up to 2 mm, "macro" above.
    detections
        How many detections lie in it; at least one.
    """

    id: int
    x: float
    y: float
    probability: float
    area_mm2: float
    length_mm: float
    size_class: SizeClass
    detections: int
    found: Findings = field(repr=False, compare=False)

    @property
    def outline(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Return its border in level-0 pixels, worked out when first asked for."""
        return self.found.outline(self.id)


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
    changed
        Parts of ``labels`` that the move to this threshold touched, as cells of ``labels``.
    slide_score
        Highest probability anywhere, NaN if nothing was scanned.
    """

    threshold: float
    detections: Detections
    labels: NDArray[np.int32] = field(repr=False)
    changed: tuple[Region, ...] = field(repr=False)
    slide_score: float
    measure: Callable[[Findings], tuple[Lesion, ...]] = field(repr=False)
    draw: Callable[[int], shapely.Polygon | shapely.MultiPolygon] = field(repr=False)
    _outlines: dict[int, shapely.Polygon | shapely.MultiPolygon] = field(repr=False, default_factory=dict)

    @cached_property
    def lesions(self) -> tuple[Lesion, ...]:
        """Return every lesion, the most probable first; lengths are measured when first asked for."""
        return self.measure(self)

    def outline(self, lesion: int) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the border of a lesion in level-0 pixels.

        Raises
        ------
        KeyError
            If no lesion has this id at this threshold.
        """
        if lesion not in self._outlines:
            self._outlines[lesion] = self.draw(lesion)
        return self._outlines[lesion]
