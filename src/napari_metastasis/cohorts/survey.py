"""What is read of a cohort's slides before their pixels are: headers and annotations, once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_metastasis.annotations import MaskFile, PointSet, read_points
from napari_metastasis.cohorts.annotation_files import Areas, doubts, geojson_corner, read_areas
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.point_reference import PointOrder, PointReference, no_points, point_reference
from napari_metastasis.cohorts.reference import TumourReference, reference_of
from napari_metastasis.errors import AnnotationError, MetastasisError, SlideError, in_one_line
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide

__all__ = ["SlideHeader", "SlideSurvey", "survey_slide", "survey_slides"]


@dataclass(frozen=True, slots=True)
class SlideHeader:
    """What a slide's file says of it.

    Attributes
    ----------
    fingerprint
        Differs from that of any other slide, wherever the file lies.
    size
        Of level 0.
    bounds
        The part of level 0 that was scanned; ``None`` where all of it was.
    mpp
        µm per level-0 pixel.
    """

    fingerprint: str
    size: Size
    bounds: Region | None
    mpp: float


@dataclass(frozen=True, slots=True, eq=False)
class SlideSurvey:
    """One slide of a cohort, looked at once: what its checks and its reference are made from. Picklable.

    Attributes
    ----------
    slide
        As the cohort has it.
    header
        Of its file, or why that could not be read.
    areas
        Its outlines or its closed mask, or why they could not be read; ``None`` where it has no annotation, or only
        the header was asked for.
    """

    slide: CohortSlide
    header: SlideHeader | MetastasisError
    areas: Areas | AnnotationError | None = None

    @property
    def mask(self) -> MaskFile | None:
        """Return the mask that it is annotated with, if any."""
        return self.areas if isinstance(self.areas, MaskFile) else None

    @property
    def doubts(self) -> str:
        """Return what has to be said of its annotation beside what was understood; nothing where all was."""
        return doubts(self.areas, self.slide.annotation)

    def opened(self) -> SlideHeader:
        """Return the header, or raise what was raised when it was read."""
        if isinstance(self.header, MetastasisError):
            raise self.header
        return self.header

    def annotated(self) -> Areas | None:
        """Return the areas, ``None`` for a slide without annotation, or raise what was raised when they were read."""
        if isinstance(self.areas, AnnotationError):
            raise self.areas
        if self.areas is None and self.slide.annotation is not None:
            raise AnnotationError(
                f"expected {self.slide.annotation} to be read, got a look at {self.slide.path.name} alone; survey the "
                "slide with its annotation"
            )
        return self.areas

    def reference(self, tumour_value: int) -> TumourReference:
        """Return where its tumour is.

        Parameters
        ----------
        tumour_value
            The class that means tumour in masks of small numbers.

        Raises
        ------
        MetastasisError
            If the slide or its annotation could not be read, or the mask is of another slide.
        """
        return reference_of(self.annotated(), slide=self.opened().size, tumour_value=tumour_value)

    def points(self, order: PointOrder | None = None) -> PointSet:
        """Return the points that it is annotated with, which are read now: none where it has no annotation.

        Parameters
        ----------
        order
            Of the columns of a CSV without a first line; see :func:`~napari_metastasis.annotations.read_points`.

        Raises
        ------
        MetastasisError
            If the slide could not be read, or its annotation is no file of points.
        """
        if self.slide.annotation is None:
            return PointSet(np.empty((0, 2)), ())
        corner = geojson_corner(self.opened().bounds)
        # MIDOG's JSON knows slides by their files' names.
        return read_points(self.slide.annotation, shift=corner, slide=self.slide.path.name, order=order)

    def point_reference(self, order: PointOrder | None = None) -> PointReference:
        """Return the mitoses among them; see :meth:`points` and :func:`~.point_reference.point_reference`."""
        if self.slide.annotation is None:
            return no_points()
        return point_reference(self.points(order), path=self.slide.annotation, size=self.opened().size)


def survey_slide(slide: CohortSlide, *, reads: Callable[[Path], bool] | None = None) -> SlideSurvey:
    """Look at a slide; what fails is kept in the survey.

    Parameters
    ----------
    slide
        Of a cohort.
    reads
        Says whether an annotation file is read; all are by default.
    """
    header: SlideHeader | MetastasisError
    try:
        with open_slide(slide.path, slide.mpp, swap_red_blue=slide.swap_red_blue) as opened:
            header = SlideHeader(opened.fingerprint, opened.size, opened.bounds, opened.mpp)
    except MetastasisError as error:
        header = error
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes its reader raise
        header = SlideError(in_one_line(error))
    if slide.annotation is None or (reads is not None and not reads(slide.annotation)):
        return SlideSurvey(slide, header)
    corner = geojson_corner(header.bounds if isinstance(header, SlideHeader) else None)
    try:
        areas = read_areas(slide.annotation, corner=corner)
        if isinstance(areas, MaskFile):
            # Its values are remembered; more masks than a process should hold would be open else.
            with areas:
                areas.values()
    except AnnotationError as error:
        return SlideSurvey(slide, header, error)
    except Exception as error:  # noqa: BLE001 - as above
        return SlideSurvey(slide, header, AnnotationError(in_one_line(error)))
    return SlideSurvey(slide, header, areas)


def survey_slides(
    slides: Iterable[CohortSlide],
    *,
    threads: int,
    reads: Callable[[Path], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[CohortSlide, SlideSurvey]:
    """Look at slides, each once.

    Parameters
    ----------
    slides, reads
        See :func:`survey_slide`.
    threads
        Slides that are looked at side by side.
    progress
        Called with (slides done, slides in all).
    """
    different = list(dict.fromkeys(slides))
    surveys: dict[CohortSlide, SlideSurvey] = {}
    with ThreadPoolExecutor(threads) as pool:
        for survey in pool.map(lambda slide: survey_slide(slide, reads=reads), different):
            surveys[survey.slide] = survey
            if progress is not None:
                progress(len(surveys), len(different))
    return surveys
