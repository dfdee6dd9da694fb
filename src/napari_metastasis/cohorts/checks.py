"""What is wrong with a cohort, found before hours are spent on it: from its slides' headers and annotations."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_metastasis.annotations import AnnotationSet, mask_value
from napari_metastasis.cohorts.annotation_files import tumour_value_in
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, Split
from napari_metastasis.cohorts.reference import OutlineReference, TumourReference
from napari_metastasis.cohorts.survey import SlideHeader, SlideSurvey
from napari_metastasis.errors import AnnotationError, MetastasisError, MissingPixelSizeError, one_of_many
from napari_metastasis.slide_address import real_place

__all__ = ["CohortProblem", "check_cohort", "check_points", "check_split"]

#: Outlines may run over a slide's edge by this share of its side: a hand slips, but coordinates of another slide or
#: level do not stay so close.
_EDGE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class CohortProblem:
    """Something that has to be put right first.

    Attributes
    ----------
    slide
        Name of the slide; empty where the cohort as a whole is meant.
    message
        One line: what was expected, what came, what to do.
    of_files
        Whether the slide's own files are at fault, alone: a run that has begun can pass the slide over.
    """

    slide: str
    message: str
    of_files: bool = False

    def __str__(self) -> str:
        """Return slide and message, for a list."""
        return f"{self.slide}: {self.message}" if self.slide else self.message


@dataclass(frozen=True, slots=True)
class _Report:
    """What was seen of one slide."""

    slide: CohortSlide
    opened: bool
    messages: tuple[str, ...]
    tumour: bool = False
    normal: bool = False


def check_cohort(
    cohort: Cohort, surveys: Mapping[CohortSlide, SlideSurvey], *, tumour_value: int = 0
) -> tuple[CohortProblem, ...]:
    """Return everything that is wrong with a cohort, each with its slide and its remedy; empty where nothing is.

    Parameters
    ----------
    cohort
        From :func:`~napari_metastasis.cohorts.cohort.read_cohort`.
    surveys
        Of all its slides, with their annotations, from :func:`~napari_metastasis.cohorts.survey.survey_slides`.
    tumour_value
        The class that means tumour in masks of small numbers; 0 detects it.
    """
    own = [surveys[slide] for slide in cohort.slides]
    unclear = {} if tumour_value else {one.slide: fault for one in own if (fault := _unclear(one))}
    value = tumour_value or tumour_value_in(one.mask for one in own if one.slide not in unclear)
    reports = [_check_slide(one, cohort, value, unclear.get(one.slide, "")) for one in own]
    of_slides = (CohortProblem(one.slide.name, message, of_files=True) for one in reports for message in one.messages)
    return (*of_slides, *_repeated(own), *_shared_patients(cohort.slides), *_empty_classes(cohort, reports))


def check_points(cohort: Cohort, surveys: Mapping[CohortSlide, SlideSurvey]) -> tuple[CohortProblem, ...]:
    """Return what is wrong with a cohort whose annotations are points, before these are read; see :func:`check_cohort`.

    Parameters
    ----------
    cohort
        From :func:`~napari_metastasis.cohorts.cohort.read_cohort`.
    surveys
        Of all its slides; their annotations do not count.
    """
    own = [surveys[slide] for slide in cohort.slides]
    of_slides = ((one.slide.name, message) for one in own for message in _faults_of_files(one))
    of_files = (CohortProblem(name, message, of_files=True) for name, message in of_slides)
    return (*of_files, *_repeated(own), *_shared_patients(cohort.slides))


def check_split(cohort: Cohort, split: Split, surveys: Mapping[CohortSlide, SlideSurvey]) -> tuple[CohortProblem, ...]:
    """Return the slides of a split that another split holds, too, or a slide of the same patient.

    Figures measured on them are too good. Slides that cannot be opened are told apart by their paths.

    Parameters
    ----------
    cohort
        All of its splits.
    split
        What is to be measured on.
    surveys
        Of all slides of the cohort; their annotations do not count.
    """
    prints = {slide: _identity(surveys[slide]) for slide in cohort.slides}
    elsewhere = [slide for slide in cohort.slides if slide.split != split]
    same = {prints[slide]: slide for slide in elsewhere}
    patients = {slide.patient: slide for slide in elsewhere}
    problems = []
    for slide in cohort.of(split):
        twin = same.get(prints[slide])
        same_patient = None if slide.patient is None else patients.get(slide.patient)
        if twin is not None:
            message = f"expected a slide of no other split, got the same one in {twin.split} ({twin.path}); keep one"
            problems.append(CohortProblem(slide.name, message))
        elif same_patient is not None:
            message = (
                f"expected all slides of patient {slide.patient} in one split, got {same_patient.name} in "
                f"{same_patient.split}; move them together"
            )
            problems.append(CohortProblem(slide.name, message))
    return tuple(problems)


def _identity(survey: SlideSurvey) -> str:
    """Return what no other slide has: its fingerprint, or its path where it cannot be opened."""
    header = survey.header
    return header.fingerprint if isinstance(header, SlideHeader) else real_place(survey.slide.path)


def _unclear(survey: SlideSurvey) -> str:
    """Return why nothing can be told from the values of a slide's mask; empty where something can, or it has none."""
    if survey.mask is None:
        return ""
    try:
        mask_value(survey.mask.values(), str(survey.mask.path))
    except AnnotationError as error:
        return str(error)
    return ""


def _check_slide(survey: SlideSurvey, cohort: Cohort, tumour_value: int, unclear: str) -> _Report:
    """Return what is wrong with a slide, and whether tumour is annotated on it."""
    slide, opened, messages = survey.slide, isinstance(survey.header, SlideHeader), _faults_of_files(survey)
    if slide.annotation is None:
        if not cohort.may_lack_outlines and (slide.tumour or cohort.layout == "images-and-masks"):
            what = "an annotation of a tumour slide" if slide.tumour else f"a mask named like {slide.path.name}"
            messages.insert(0, f"expected {what}, got none in {cohort.origin}; add it, or take the slide away")
    elif unclear and os.path.isfile(slide.annotation):
        messages.insert(0, unclear)
    if messages or slide.annotation is None:
        return _Report(slide, opened, tuple(messages))
    faults: list[str] = []
    with one_of_many(faults.append):
        reference = survey.reference(tumour_value)
        doubts = tuple(_doubts(survey, reference))
        return _Report(slide, opened, doubts, tumour=not reference.none, normal=not reference.normal.empty)
    return _Report(slide, opened, tuple(faults))


def _faults_of_files(survey: SlideSurvey) -> list[str]:
    """Return what is wrong with the files of a slide, whatever they are annotated with."""
    slide, messages = survey.slide, []
    if slide.annotation is not None and not os.path.isfile(slide.annotation):
        messages.append(f"expected an annotation at {slide.annotation}, got no such file; correct the path")
    if isinstance(survey.header, MissingPixelSizeError):
        # The error's own remedy is that of a single slide.
        messages.append(
            f"expected {slide.path.name} to state its pixel size, got none; add a column mpp, or give --cohort-mpp"
        )
    elif isinstance(survey.header, MetastasisError):
        messages.append(str(survey.header))
    return messages


def _doubts(survey: SlideSurvey, reference: TumourReference) -> Iterator[str]:
    """Yield what in an annotation cannot be meant."""
    slide, size = survey.slide, survey.opened().size
    if isinstance(reference, OutlineReference) and not reference.none:
        low, high = reference.index.bounds()
        slack = _EDGE_SHARE * max(size.width, size.height)
        outside = ((low < -slack) | (high > np.array([size.width, size.height]) + slack)).any(axis=1)
        if outside.any():
            (left, top), (right, bottom) = low.min(axis=0), high.max(axis=0)
            yield (
                f"expected outlines on the slide of {size.width} x {size.height} px, got {int(outside.sum())} outside "
                f"(x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}) in {slide.annotation}; choose the slide's "
                "own annotation, in level-0 pixels"
            )
    if reference.none and isinstance(survey.areas, AnnotationSet) and survey.areas.lacks_tumour:
        yield survey.areas.lack_of_tumour(slide.annotation)
    elif reference.none and slide.tumour:
        yield f"expected tumour on a tumour slide, got none in {slide.annotation}; choose the slide's own annotation"
    if slide.tumour is False and not reference.none:
        yield f"expected no tumour on a normal slide, got some in {slide.annotation}; mark the slide as tumour"


def _repeated(surveys: Sequence[SlideSurvey]) -> Iterator[CohortProblem]:
    """Yield slides that are there twice: in two splits they would make every figure too good."""
    same: dict[str, list[CohortSlide]] = defaultdict(list)
    names: dict[str, list[CohortSlide]] = defaultdict(list)
    for survey in surveys:
        same[_identity(survey)].append(survey.slide)
        names[survey.slide.name].append(survey.slide)
    for slides in same.values():
        if len(slides) > 1:
            listing = ", ".join(f"{slide.path} ({slide.split})" for slide in slides)
            yield CohortProblem(slides[0].name, f"expected every slide once, got the same one as {listing}; keep one")
    for name, slides in names.items():
        paths = {real_place(slide.path) for slide in slides}
        if len(paths) > 1:
            listing = ", ".join(str(slide.path) for slide in slides)
            yield CohortProblem(name, f"expected every slide to have its own name, got {listing}; rename all but one")


def _shared_patients(slides: Iterable[CohortSlide]) -> Iterator[CohortProblem]:
    """Yield patients whose slides lie on both sides of a split."""
    of_patient: dict[str, dict[Split, list[str]]] = defaultdict(lambda: defaultdict(list))
    for slide in slides:
        if slide.patient is not None:
            of_patient[slide.patient][slide.split].append(slide.name)
    for patient, splits in of_patient.items():
        if len(splits) > 1:
            listing = "; ".join(f"{split}: {', '.join(names)}" for split, names in splits.items())
            first = next(iter(splits.values()))[0]
            yield CohortProblem(
                first, f"expected all slides of patient {patient} in one split, got {listing}; move them together"
            )


def _empty_classes(cohort: Cohort, reports: list[_Report]) -> Iterator[CohortProblem]:
    """Yield classes that a split has no patches of."""
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        of_split = [report for report in reports if report.slide.split == split]
        if not of_split and split == "validation":
            continue
        tumour = sum(report.tumour for report in of_split)
        normal = sum(report.opened and (report.slide.shows_normal or report.normal) for report in of_split)
        benign = "add one without tumour, one that is annotated exhaustively, or outlines of a group normal"
        for count, what, remedy in (
            (tumour, "with annotated tumour", "add one with its annotation"),
            (normal, "with tissue known to be normal", benign),
        ):
            if not count:
                yield CohortProblem(
                    "", f"expected a {split} slide {what} in {cohort.origin}, got none of {len(of_split)}; {remedy}"
                )
