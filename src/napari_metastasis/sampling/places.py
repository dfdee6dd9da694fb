"""Crops of the places that a person corrected: as many of each, however large it is."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.errors import TrainingError
from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.crops import ABSENT, UNKNOWN
from napari_metastasis.sampling.slide_index import open_indexed
from napari_metastasis.slides import Slide

__all__ = ["CorrectedSlide", "Place", "PlaceCrops"]

#: Points that are drawn in the box around a place for each that has to lie in it.
_DRAWS = 64
_OPEN_SLIDES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What a person said of one place.

    Attributes
    ----------
    key
        Of the correction.
    slide
        Number of the slide that it lies on.
    label
        0 normal, 1 tumour.
    area_px
        In level-0 pixels.
    """

    key: str
    slide: int
    label: int
    area_px: shapely.Polygon | shapely.MultiPolygon = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedSlide:
    """A slide with what is to be learnt of it, or measured on it.

    Attributes
    ----------
    slide
        Not outlined completely: only what a person corrected is known.
    fingerprint
        Of the slide.
    reference
        The corrections that count.
    known_sha256
        Of these.
    """

    slide: CohortSlide
    fingerprint: str
    reference: TumourReference
    known_sha256: str = ""


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class PlaceCrops:
    """Crops of places, class by class in turn, and of each class place by place: a source of batches.

    Attributes
    ----------
    slides, places
        What was corrected.
    spec
        The detector.
    cells
        Native cells along a side of a crop.
    count
        Crops in all. Each class has half of them, where both were corrected.
    batch_size
        Crops of a batch; the last one of an epoch begins again with the first crops.
    seed
        Of where in its place each crop lies.
    """

    slides: tuple[CorrectedSlide, ...]
    places: tuple[Place, ...]
    spec: ModelSpec
    cells: int
    count: int
    batch_size: int
    seed: int
    _open: OrderedDict[int, Slide] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse nothing to crop.

        Raises
        ------
        TrainingError
            If there are no places.
        """
        if not self.places:
            raise TrainingError(
                "expected corrected places, got none; confirm or reject findings, or draw what is missed"
            )

    @property
    def side_px(self) -> int:
        """Return the side of a crop, in model pixels."""
        return self.spec.field_px + (self.cells - 1) * self.spec.stride_px

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Return the number of the place of every crop."""
        of_class = [[number for number, one in enumerate(self.places) if one.label == label] for label in (0, 1)]
        present = [numbers for numbers in of_class if numbers]
        return tuple(
            present[k % len(present)][k // len(present) % len(present[k % len(present)])] for k in range(self.count)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over slides, places and how they are cropped."""
        digest = hashlib.sha256(f"{self.spec.mpp} {self.count} {self.batch_size} {self.seed}".encode())
        digest.update(
            f"{self.cells} {self.side_px} {[(one.fingerprint, one.known_sha256) for one in self.slides]}".encode()
        )
        for place in self.places:
            digest.update(f"{place.key} {place.slide} {place.label}".encode(errors="backslashreplace"))
            digest.update(shapely.to_wkb(place.area_px))
        return digest.hexdigest()

    @property
    def batches_per_epoch(self) -> int:
        """Return how many batches all crops take."""
        return -(-self.count // self.batch_size)

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``, the same in every epoch.

        Raises
        ------
        SlideError
            If a slide cannot be read.
        """
        first = number % self.batches_per_epoch * self.batch_size
        rows = [row % self.count for row in range(first, first + self.batch_size)]
        crops = [self._take(row) for row in rows]
        return PatchBatch.labelled(np.stack([image for image, _ in crops]), np.stack([labels for _, labels in crops]))

    def close(self) -> None:
        """Close the slides; the next batch opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def _take(self, row: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return a crop in which any of the cells lies on a random point of its place, and the label of each cell.

        A cell is what was said of its middle: of tissue that is outlined by hand, or by a model, no more is known. The
        one on the point is what was said of the place, however narrow that is.
        """
        place = self.places[self.order[row]]
        slide = self._slide(place.slide)
        frame = slide.frame(self.spec.mpp)
        generator = np.random.default_rng([self.seed, row])
        x, y = _point_in(place.area_px, generator)
        across, down = (generator.integers(self.cells, size=2) * self.spec.stride_px).tolist()
        half, reach = self.spec.field_px // 2, (self.cells - 1) * self.spec.stride_px
        middles = Region(int(x / frame.scale) - across, int(y / frame.scale) - down, reach + 1, reach + 1)
        image = slide.read(frame, Region(middles.x - half, middles.y - half, self.side_px, self.side_px))
        labels = self._labels(self.slides[place.slide].reference, frame, middles)
        own = down // self.spec.stride_px, across // self.spec.stride_px
        if labels[own] == UNKNOWN:
            labels[own] = place.label
        return image, labels

    def _labels(self, reference: TumourReference, frame: ModelFrame, middles: Region) -> npt.NDArray[np.int64]:
        labels = np.full((self.cells, self.cells), UNKNOWN, np.int64)
        every = slice(None, None, self.spec.stride_px)
        labels[reference.normal.over(frame, middles)[every, every]] = 0
        labels[reference.over(frame, middles)[every, every]] = 1
        labels[reference.ignored.over(frame, middles)[every, every]] = UNKNOWN
        steps = np.arange(self.cells) * self.spec.stride_px
        rows, columns = middles.y + steps, middles.x + steps
        labels[(rows < 0) | (rows >= frame.size.height), :] = ABSENT
        labels[:, (columns < 0) | (columns >= frame.size.width)] = ABSENT
        return labels

    def _slide(self, number: int) -> Slide:
        """Return a slide, opened unless it is open; of too many, the one used longest ago is closed."""
        slide = self._open.pop(number, None)
        if slide is None:
            if len(self._open) >= _OPEN_SLIDES:
                self._open.popitem(last=False)[1].close()
            slide = open_indexed(self.slides[number].slide)
        self._open[number] = slide
        return slide

    def __del__(self) -> None:
        # They end with whoever holds them; the attribute is missing where nothing was made.
        if getattr(self, "_open", None):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Open files belong to their process.
        return {**self.__dict__, "_open": OrderedDict()}


def _point_in(area: shapely.Polygon | shapely.MultiPolygon, generator: np.random.Generator) -> tuple[float, float]:
    """Return a random point of an area; of one too thin to hit, its middle."""
    left, top, right, bottom = area.bounds
    drawn = generator.uniform((left, top), (right, bottom), (_DRAWS, 2))
    inside = drawn[shapely.contains_xy(area, drawn)]
    point = inside[0] if len(inside) else shapely.get_coordinates(area.point_on_surface())[0]
    return float(point[0]), float(point[1])
