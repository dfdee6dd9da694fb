"""What is wrong with a cohort, found before hours are spent on it: headers and outlines are read, no slide is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_metastasis.annotations import MaskFile, mask_value
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, Split
from napari_metastasis.cohorts.reference import (
    MaskReference,
    OutlineReference,
    TumourReference,
    is_mask,
    open_reference,
    read_outlines,
    tumour_value_of,
)
from napari_metastasis.errors import AnnotationError, MetastasisError, MissingPixelSizeError
from napari_metastasis.geometry import Size
from napari_metastasis.slides import open_slide

__all__ = ["CohortProblem", "check_cohort", "check_split"]

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
    messages: tuple[str, ...]
    fingerprint: str | None = None
    tumour: bool = False


def check_cohort(
    cohort: Cohort, *, threads: int, tumour_value: int = 0, progress: Callable[[int, int], None] | None = None
) -> tuple[CohortProblem, ...]:
    """Return everything that is wrong with a cohort, each with its slide and its remedy; empty where nothing is.

    Parameters
    ----------
    cohort
        From :func:`~napari_metastasis.cohorts.cohort.read_cohort`.
    threads
        Slides that are opened side by side.
    tumour_value
        The class that means tumour in masks of small numbers; 0 detects it.
    progress
        Called with (slides checked, slides in all).
    """
    annotated = [slide for slide in cohort.slides if slide.annotation and slide.annotation.is_file()]
    value, unclear = (tumour_value, {}) if tumour_value else _detected(annotated)
    reports: list[_Report] = []
    with ThreadPoolExecutor(threads) as pool:
        for report in pool.map(lambda slide: _check_slide(slide, cohort, value, unclear), cohort.slides):
            reports.append(report)
            if progress is not None:
                progress(len(reports), len(cohort.slides))
    of_slides = (CohortProblem(one.slide.name, message, of_files=True) for one in reports for message in one.messages)
    return (*of_slides, *_repeated(reports), *_shared_patients(cohort.slides), *_empty_classes(cohort, reports))


def check_split(
    cohort: Cohort, split: Split, *, threads: int, progress: Callable[[int, int], None] | None = None
) -> tuple[CohortProblem, ...]:
    """Return the slides of a split that another split holds, too, or a slide of the same patient.

    Figures measured on them are too good. Slides that cannot be opened are told apart by their paths.

    Parameters
    ----------
    cohort
        All of its splits.
    split
        What is to be measured on.
    threads
        Slides that are opened side by side.
    progress
        Called with (slides opened, slides in all).
    """

    def fingerprint(slide: CohortSlide) -> str:
        try:
            with open_slide(slide.path, slide.mpp) as opened:
                return opened.fingerprint
        except MetastasisError:
            return str(slide.path.resolve())

    prints: dict[CohortSlide, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        for slide, found in zip(cohort.slides, pool.map(fingerprint, cohort.slides), strict=True):
            prints[slide] = found
            if progress is not None:
                progress(len(prints), len(cohort.slides))
    elsewhere = [slide for slide in cohort.slides if slide.split != split]
    same = {prints[slide]: slide for slide in elsewhere}
    patients = {slide.patient: slide for slide in elsewhere}
    problems = []
    for slide in cohort.of(split):
        twin = same.get(prints[slide])
        kin = None if slide.patient is None else patients.get(slide.patient)
        if twin is not None:
            message = f"expected a slide of no other split, got the same one in {twin.split} ({twin.path}); keep one"
            problems.append(CohortProblem(slide.name, message))
        elif kin is not None:
            message = (
                f"expected all slides of patient {slide.patient} in one split, got {kin.name} in {kin.split}; "
                "move them together"
            )
            problems.append(CohortProblem(slide.name, message))
    return tuple(problems)


def _detected(annotated: Sequence[CohortSlide]) -> tuple[int, Mapping[Path, str]]:
    """Return the value that means tumour in the masks, and what is wrong with those that allow of none."""
    try:
        return tumour_value_of(annotated), {}
    except AnnotationError:
        # It names one mask at most; whoever mends a cohort wants to hear of all, and of its other faults.
        unclear = {slide.annotation: fault for slide in annotated if slide.annotation and (fault := _fault(slide))}
        return tumour_value_of([slide for slide in annotated if slide.annotation not in unclear]), unclear


def _fault(slide: CohortSlide) -> str:
    """Return why nothing can be told from the values of a slide's mask; empty where something can, or it has none."""
    assert slide.annotation is not None
    if not is_mask(slide.annotation):
        return ""
    try:
        with MaskFile(slide.annotation) as mask:
            mask_value(mask.values(), str(slide.annotation))
    except AnnotationError as error:
        return str(error)
    return ""


def _check_slide(slide: CohortSlide, cohort: Cohort, tumour_value: int, unclear: Mapping[Path, str]) -> _Report:
    """Open a slide and its annotation."""
    messages = []
    if slide.annotation is None and (slide.tumour or cohort.layout == "images-and-masks"):
        # A cohort file says so on purpose, and CAMELYON17 outlines only some of its slides.
        if cohort.layout not in ("file", "camelyon17"):
            what = "an annotation of a tumour slide" if slide.tumour else f"a mask named like {slide.path.name}"
            messages.append(f"expected {what}, got none in {cohort.origin}; add it, or take the slide away")
    elif slide.annotation is not None and not slide.annotation.is_file():
        messages.append(f"expected an annotation at {slide.annotation}, got no such file; correct the path")
    elif slide.annotation is not None and slide.annotation in unclear:
        messages.append(unclear[slide.annotation])
    try:
        with open_slide(slide.path, slide.mpp) as opened:
            fingerprint, size, bounds = opened.fingerprint, opened.size, opened.bounds
    except MissingPixelSizeError:
        # The error's own remedy is that of a single slide.
        missing = (
            f"expected {slide.path.name} to state its pixel size, got none; add a column mpp, or give --cohort-mpp"
        )
        return _Report(slide, (*messages, missing))
    except MetastasisError as error:
        return _Report(slide, (*messages, str(error)))
    if messages or slide.annotation is None:
        return _Report(slide, tuple(messages), fingerprint)
    try:
        truth = open_reference(slide.annotation, slide=size, bounds=bounds, tumour_value=tumour_value)
        messages.extend(_doubts(slide, truth, size))
    except MetastasisError as error:
        return _Report(slide, (str(error),), fingerprint)
    return _Report(slide, tuple(messages), fingerprint, tumour=not truth.none)


def _doubts(slide: CohortSlide, truth: TumourReference, size: Size) -> Iterator[str]:
    """Yield what in an annotation cannot be meant."""
    assert slide.annotation is not None
    if isinstance(truth, OutlineReference) and not truth.none:
        low, high = truth.index.bounds()
        slack = _EDGE_SHARE * max(size.width, size.height)
        outside = ((low < -slack) | (high > np.array([size.width, size.height]) + slack)).any(axis=1)
        if outside.any():
            (left, top), (right, bottom) = low.min(axis=0), high.max(axis=0)
            yield (
                f"expected outlines on the slide of {size.width} x {size.height} px, got {int(outside.sum())} outside "
                f"(x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}) in {slide.annotation}; choose the slide's "
                "own annotation, in level-0 pixels"
            )
    if truth.none and not isinstance(truth, MaskReference) and not is_mask(slide.annotation):
        outlines = read_outlines(slide.annotation, shift=(0.0, 0.0))
        if len(outlines):
            yield outlines.lack_of_tumour(slide.annotation)
            return
    if truth.none and slide.tumour:
        yield f"expected tumour on a tumour slide, got none in {slide.annotation}; choose the slide's own annotation"
    if slide.tumour is False and not truth.none:
        yield f"expected no tumour on a normal slide, got some in {slide.annotation}; mark the slide as tumour"


def _repeated(reports: list[_Report]) -> Iterator[CohortProblem]:
    """Yield slides that are there twice: in two splits they would make every figure too good."""
    same: dict[str, list[CohortSlide]] = defaultdict(list)
    names: dict[str, list[CohortSlide]] = defaultdict(list)
    for report in reports:
        same[report.fingerprint or str(report.slide.path.resolve())].append(report.slide)
        names[report.slide.name].append(report.slide)
    for slides in same.values():
        if len(slides) > 1:
            listing = ", ".join(f"{slide.path} ({slide.split})" for slide in slides)
            yield CohortProblem(slides[0].name, f"expected every slide once, got the same one as {listing}; keep one")
    for name, slides in names.items():
        paths = {slide.path.resolve() for slide in slides}
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
        normal = sum(report.fingerprint is not None and report.slide.shows_normal for report in of_split)
        for count, what, remedy in (
            (tumour, "with annotated tumour", "add one with its annotation"),
            (normal, "with tissue known to be normal", "add one without tumour, or one that is annotated exhaustively"),
        ):
            if not count:
                yield CohortProblem(
                    "", f"expected a {split} slide {what} in {cohort.origin}, got none of {len(of_split)}; {remedy}"
                )
