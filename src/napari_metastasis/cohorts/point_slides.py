"""Crops of a cohort's slides around the points that a person set on them, and of their other tissue."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from napari_metastasis.annotations import PointSet, read_points
from napari_metastasis.cohorts.annotation_files import geojson_corner
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.point_crops import PointCrops
from napari_metastasis.errors import CohortError
from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import Slide, open_slide, tissue_mask

__all__ = ["SlideCrops", "crops_of_slides", "numbered_crops", "places_in_tissue"]

_LOG = logging.getLogger(__name__)

#: Crops lie anywhere, and share no tiles.
_CACHE_MIB, _OPEN_SLIDES = 4, 32
#: Crops of a slide's other tissue for each of its points.
_OTHERS = 2

FloatArray = npt.NDArray[np.float64]


def crops_of_slides(
    slides: Sequence[CohortSlide], *, mpp: float, side_px: int, classes: Iterable[str], others: int, seed: int
) -> PointCrops:
    """Return crops around all points of slides, and twice as many of their other tissue, which are read when asked for.

    Points of other classes, such as what was taken for a mitosis, are middles of crops that show no point there. Around
    what a model found and nobody reviewed, nothing is known, and a log line says of how many.

    Parameters
    ----------
    slides
        Of a cohort; a slide without an annotation shows what holds no point.
    mpp
        µm per pixel of the crops.
    side_px
        Side of a crop.
    classes
        Of points, without regard to capitals.
    others
        Crops of its other tissue that each slide gives at least.
    seed
        Of the places in other tissue.

    Raises
    ------
    CohortError
        If points were set on slides, but none of these classes, or there is a slide on which not all were set.
    AnnotationError
        If points cannot be read.
    SlideError
        If a slide cannot be opened.
    """
    wanted = tuple(classes)
    names, middles, places, points, unreviewed, known = [], [], [], {}, {}, set[str]()
    for number, slide in enumerate(slides):
        if not slide.exhaustive:
            raise CohortError(
                f"expected slides on which every point was set, got {slide.name}, which is none; cut out what was "
                "seen, or leave the slide out"
            )
        with _open(slide) as opened:
            frame = opened.frame(mpp)
            found = _points_of(slide, opened)
            generator = np.random.default_rng([seed, number])
            count = max(others, _OTHERS * len(found))
            around = np.concatenate([found.xy / frame.scale, places_in_tissue(opened, frame, count, generator)])
        points[slide.name] = found.of(*wanted).xy / frame.scale
        unreviewed[slide.name] = found.unreviewed / frame.scale
        if found.unreviewed_text:
            _LOG.warning("%s: left out %s; review them first", slide.annotation, found.unreviewed_text)
        known |= set(found.classes)
        names += [slide.name] * len(around)
        middles.append(around)
        places += [(number, x, y) for x, y in np.rint(around - side_px / 2).astype(np.int64).tolist()]
    if known and not any(map(len, points.values())):
        raise CohortError(
            f"expected points of class {', '.join(wanted)}, got {', '.join(sorted(known))}; name theirs with "
            "--point-classes"
        )
    pictures = SlideCrops(tuple(slides), tuple(places), mpp, side_px)
    # Where a crop really lies: its pixels are whole ones.
    xy = np.array([[x, y] for _, x, y in places], np.float64).reshape(-1, 2) + side_px / 2
    return PointCrops(pictures, tuple(names), xy, mpp, side_px, points, unreviewed)


def _open(slide: CohortSlide) -> Slide:
    settings = replace(SlideSettings(), cache_mib=_CACHE_MIB, threads=1)
    return open_slide(slide.path, slide.mpp, settings, swap_red_blue=slide.swap_red_blue)


def _points_of(slide: CohortSlide, opened: Slide) -> PointSet:
    if slide.annotation is None:
        return PointSet(np.empty((0, 2)), ())
    return read_points(slide.annotation, shift=geojson_corner(opened.bounds), slide=slide.path.name)


def places_in_tissue(opened: Slide, frame: ModelFrame, count: int, generator: np.random.Generator) -> FloatArray:
    """Return places that are drawn from a slide's tissue, (n, 2) of (x, y) in pixels of ``frame``.

    Parameters
    ----------
    opened, frame
        The slide, and its pixels.
    count
        How many; none are returned where there is no tissue.
    generator
        Draws them.
    """
    tissue = tissue_mask(opened, threads=1)
    rows, columns = np.nonzero(tissue.mask)
    if not len(rows):
        return np.empty((0, 2))
    drawn = generator.integers(0, len(rows), count)
    within = generator.random((count, 2))
    return (np.stack([columns[drawn], rows[drawn]], axis=1) + within) * (tissue.frame.downsample / frame.scale)


@dataclass(eq=False)
class SlideCrops:
    """Crops that are read from slides, which stay open. Pickles small, with nothing open.

    Attributes
    ----------
    slides
        Which are read.
    places
        Of each crop: the slide's number, and x and y of its corner in pixels of the crops.
    mpp, side_px
        µm per pixel, and the side of a crop.
    """

    slides: tuple[CohortSlide, ...]
    places: tuple[tuple[int, int, int], ...]
    mpp: float
    side_px: int
    _opened: OrderedDict[int, Slide] = field(default_factory=OrderedDict)
    _process: int = field(default_factory=os.getpid)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the class of every crop: 1."""
        return np.ones(len(self.places), np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Return slide and corner of every crop."""
        return tuple(f"{self.slides[number].name} {x} {y}" for number, x, y in self.places)

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.places)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return a crop, (side, side, 3) uint8; white where it reaches past the slide."""
        number, x, y = self.places[index]
        slide = self._slide(number)
        return slide.read(slide.frame(self.mpp), Region(x, y, self.side_px, self.side_px))

    def _slide(self, number: int) -> Slide:
        if self._process != os.getpid():
            # Files that another process opened share their position with it.
            self._opened, self._process = OrderedDict(), os.getpid()
        if number not in self._opened:
            self._opened[number] = _open(self.slides[number])
            if len(self._opened) > _OPEN_SLIDES:
                self._opened.popitem(last=False)[1].close()
        self._opened.move_to_end(number)
        return self._opened[number]

    def close(self) -> None:
        """Close the slides; the next crop opens its own again."""
        for slide in self._opened.values():
            slide.close()
        self._opened.clear()

    def __getstate__(self) -> dict[str, object]:
        """Return what is pickled."""
        return {**self.__dict__, "_opened": OrderedDict()}


def numbered_crops(pictures: SlideCrops, points: Sequence[FloatArray], unreviewed: Sequence[FloatArray]) -> PointCrops:
    """Return crops of slides, which are told apart by their numbers: two may bear one name.

    Parameters
    ----------
    pictures
        The crops.
    points, unreviewed
        For each slide, (n, 2) of (x, y) in pixels of the crops: its points, and around what nothing is known.
    """
    names = [f"{number} {slide.name}" for number, slide in enumerate(pictures.slides)]
    corners = np.array([[x, y] for _, x, y in pictures.places], np.float64).reshape(-1, 2)
    return PointCrops(
        pictures,
        tuple(names[number] for number, *_ in pictures.places),
        corners + pictures.side_px / 2,
        pictures.mpp,
        pictures.side_px,
        dict(zip(names, points, strict=True)),
        dict(zip(names, unreviewed, strict=True)),
    )
