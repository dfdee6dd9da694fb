"""What models of every kind are measured on: slides of a cohort, chosen, looked at, and scanned where they are not."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED
from napari_metastasis.cohorts.checks import CohortProblem, check_split
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, Split
from napari_metastasis.cohorts.survey import SlideSurvey, survey_slides
from napari_metastasis.errors import CohortError, EvaluationError, ScanCancelledError, one_of_many
from napari_metastasis.evaluation import LeftOut
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import SlideSettings
from napari_metastasis.storage import home_path
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.batch import (
    FailedSlide,
    ProgressBar,
    ScannedSlide,
    SlideScanner,
    in_parts,
    scan_cohort,
)
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = [
    "choose_slides",
    "evaluation_output",
    "faults_of",
    "in_order",
    "look_at_slides",
    "nothing_to_score",
    "read_references",
    "report_folder",
    "scanned_slides",
    "split_to_evaluate",
    "stop_if",
]

_Reference = TypeVar("_Reference")


def split_to_evaluate(cohort: Cohort) -> Split:
    """Return the split that a model is measured on unless told otherwise: test slides, or else those of validation."""
    return "test" if cohort.of("test") else "validation"


def evaluation_output(cohort: Path, model: str) -> Path:
    """Return where the scans and the report of an evaluation go unless told otherwise: beside the cohort."""
    # Resolved: "." has a name, too.
    cohort = home_path(cohort).resolve()
    name = cohort.name if os.path.isdir(cohort) else cohort.stem
    return cohort.parent / f"{name}-{model}.evaluation"


def report_folder(folder: Path, job: ScanJob) -> Path:
    """Return where the report goes in the folder of an evaluation: apart for each kind of map that it is read from."""
    made = [find_task(one.task).writes for one in job.passes if one.settings.wanted]
    return folder / "-".join(["report", *made])


def choose_slides(
    cohort: Cohort,
    split: Split,
    *,
    keep_flawed: bool,
    lacking: str = "its tumour is not outlined",
    partly: str = "not all its tumour is outlined",
) -> tuple[list[CohortSlide], list[LeftOut]]:
    """Return the slides of a split that are scored, and those that are left out on purpose.

    Parameters
    ----------
    cohort, split
        Which slides.
    keep_flawed
        Whether those that are known to mislead are scored as well, and those on which not all is annotated.
    lacking, partly
        Why slides are left out that are not annotated, or not in full.

    Raises
    ------
    CohortError
        If the split is empty.
    """
    slides, left_out = list(cohort.of(split)), []
    for one in cohort.left_out:
        if one.slide.split != split:
            continue
        if keep_flawed and one.slide.name.casefold() in CAMELYON16_FLAWED:
            slides.append(one.slide)
        else:
            left_out.append(LeftOut(one.slide.name, one.reason, is_failure=False))
    if not slides:
        raise CohortError(
            f"expected {split} slides in {cohort.origin}, got none of {len(cohort.slides)}; choose another --split"
        )
    kept = []
    for slide in slides:
        lacks_outlines = slide.annotation is None and slide.tumour is True and cohort.may_lack_outlines
        if lacks_outlines or not (slide.exhaustive or keep_flawed):
            why = lacking if lacks_outlines else partly
            left_out.append(LeftOut(slide.name, why, is_failure=False))
        else:
            kept.append(slide)
    return kept, left_out


def look_at_slides(
    cohort: Cohort,
    slides: list[CohortSlide],
    *,
    reads: Callable[[Path], bool],
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> dict[CohortSlide, SlideSurvey]:
    """Look at every slide of the cohort once.

    Parameters
    ----------
    cohort, slides
        All slides, and those that are measured on, which may be among those that the cohort leaves out.
    reads
        Says whether an annotation is read as outlines or a mask.
    bar, should_stop
        As whoever evaluates takes them.

    Raises
    ------
    ScanCancelledError
        If ``should_stop`` said so.
    """
    with bar("Looking at the slides") as progress:

        def report(done: int, total: int) -> None:
            stop_if(should_stop)
            in_parts(progress)(done, total)

        every = [*slides, *cohort.slides]
        return survey_slides(every, threads=SlideSettings().threads, reads=reads, progress=report)


def faults_of(
    cohort: Cohort,
    slides: list[CohortSlide],
    split: Split,
    surveys: Mapping[CohortSlide, SlideSurvey],
    check: Callable[[Cohort, Mapping[CohortSlide, SlideSurvey]], tuple[CohortProblem, ...]],
) -> dict[str, str]:
    """Return the first fault of each slide by its name, before hours are spent on scans."""
    leaks = check_split(cohort, split, surveys)
    problems = check(replace(cohort, slides=tuple(slides)), surveys)
    # Problems of the cohort as a whole concern training.
    names = {slide.name for slide in slides}
    faults: dict[str, str] = {}
    for problem in (*leaks, *problems):
        if problem.slide in names:
            faults.setdefault(problem.slide, problem.message)
    return faults


def read_references(
    slides: Sequence[CohortSlide],
    faults: dict[str, str],
    read: Callable[[CohortSlide], _Reference],
    *,
    title: str,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> dict[str, _Reference]:
    """Return what people said of each slide, by its name; what cannot be read is a fault of the slide.

    Parameters
    ----------
    slides
        Those that are measured on.
    faults
        Why slides are left out, by their names; others are added.
    read
        Returns that of a slide.
    title, bar, should_stop
        Name the step, show it and stop it.

    Raises
    ------
    ScanCancelledError
        If ``should_stop`` said so.
    """
    found: dict[str, _Reference] = {}
    with bar(title) as progress:
        for done, slide in enumerate(slides, 1):
            stop_if(should_stop)
            if slide.name not in faults:
                with one_of_many(partial(faults.__setitem__, slide.name)):
                    found[slide.name] = read(slide)
            in_parts(progress)(done, len(slides))
    return found


def scanned_slides(
    slides: Sequence[CohortSlide],
    job: ScanJob,
    models: ScanModels,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    engines: EngineCache | None,
    scanner: SlideScanner | None,
    leave_out: Callable[[str, str], None],
) -> Generator[ScannedSlide[ScanResult]]:
    """Yield slides as they are scanned, in any order; what was scanned before is not scanned again.

    Parameters
    ----------
    slides, job, models
        What is scanned, how, and with what.
    output, bar, should_stop, engines, scanner
        As whoever evaluates takes them.
    leave_out
        Is told the name of each slide that cannot be scanned, and why.

    Raises
    ------
    CohortError, ScanCancelledError, StorageError, ClusterError
        As :func:`~napari_metastasis.workflows.scan.batch.scan_each` does.
    """
    with ExitStack() as opened:
        progress = opened.enter_context(bar(f"Scanning {len(slides)} slides"))
        held = opened.enter_context(EngineCache(lambda _: models)) if engines is None else engines
        scans = scan_cohort(
            slides, job,
            output=output, engines=held, scanner=scanner, progress=progress, should_stop=should_stop,
        )  # fmt: skip
        for entry in opened.enter_context(closing(scans)):
            if isinstance(entry, FailedSlide):
                leave_out(entry.slide.name, entry.reason)
            else:
                yield entry
            # Its maps are not held while the next slide is scanned.
            del entry


def in_order(slides: Sequence[CohortSlide]) -> Callable[[str], int]:
    """Return a key that puts names of slides in the order of the slides: they are not done in that."""
    numbers = {slide.name: number for number, slide in enumerate(slides)}
    return numbers.__getitem__


def nothing_to_score(cohort: Cohort, split: Split, left_out: Sequence[LeftOut]) -> EvaluationError:
    """Return the error of a cohort of which no slide could be scored."""
    why = f": {left_out[-1].slide}, for one: {left_out[-1].why}" if left_out else "; mark some in the cohort"
    return EvaluationError(f"expected {split} slides to score in {cohort.origin}, got none{why}")


def stop_if(should_stop: Callable[[], bool]) -> None:
    """Raise where somebody wants to stop.

    Raises
    ------
    ScanCancelledError
        If ``should_stop`` says so.
    """
    if should_stop():
        raise ScanCancelledError("expected to measure a model, but was stopped; the same command goes on from there")
