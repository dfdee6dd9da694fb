"""Measures a model on a cohort: scans what is not scanned yet, matches it with the reference, and scores it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.cohorts.annotation_files import is_mask, tumour_value_in
from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED
from napari_metastasis.cohorts.cells import cells_on_tumour
from napari_metastasis.cohorts.checks import check_cohort, check_split
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, Split
from napari_metastasis.cohorts.reference import reference_of
from napari_metastasis.cohorts.survey import SlideSurvey, survey_slides
from napari_metastasis.errors import (
    AnnotationWarning,
    CohortError,
    EvaluationError,
    ScanCancelledError,
    one_of_many,
)
from napari_metastasis.evaluation import (
    CellCounts,
    DetectionReport,
    LeftOut,
    ScoredCells,
    SlideDetections,
    SlideOutcome,
    SlideReference,
    count_cells,
    match_slide,
    score_slides,
)
from napari_metastasis.evaluation.cohort_lesions import slide_reference
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import EvaluationSettings, SlideSettings
from napari_metastasis.storage import home_path
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.batch import FailedSlide, ProgressBar, ScannedSlide, in_parts, scan_cohort
from napari_metastasis.workflows.scan.job_models import answering_contract, answering_task, with_own_settings
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = [
    "CohortEvaluation",
    "evaluate_cohort",
    "evaluation_output",
    "measured_with",
    "report_folder",
    "split_to_evaluate",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortEvaluation:
    """How a cohort is scanned and scored.

    Attributes
    ----------
    job
        How slides are scanned; its slide is not used. Detections are those at its detection threshold.
    scoring
        How they are scored.
    split
        Slides of the cohort that are measured on.
    own_mpp
        Whether each slide's own pixel size turns distances into pixels, or that of ``scoring`` for all, as in the
        challenge.
    """

    job: ScanJob
    scoring: EvaluationSettings
    split: Split = "test"
    own_mpp: bool = True


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


def evaluate_cohort(
    cohort: Cohort,
    models: ScanModels,
    how: CohortEvaluation,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    engines: EngineCache | None = None,
) -> DetectionReport:
    """Scan the slides of a split that are not scanned yet, and score all of them.

    A slide that has a fault, or cannot be scanned, is left out and named. A slide whose tumour is not all outlined is
    left out as well: what is found beside its outlines may be true. One heatmap is held at a time.

    Parameters
    ----------
    cohort, models, how
        What to measure on, what, and how.
    output
        Folder that each slide gets its result folder in; what was scanned there before is not scanned again.
    bar
        Shows the steps.
    should_stop
        Asked several times a second.
    engines
        Holds the engine of ``models``, and is closed by the caller: the report is safe then. By default one that is
        closed here.

    Raises
    ------
    CohortError
        If the split is empty, or two slides share a name.
    EvaluationError
        If no slide can be scored.
    AnnotationError
        If the masks' values do not say which one is tumour.
    ScanCancelledError
        If ``should_stop`` said so; the same call goes on.
    StorageError
        If the disk refuses.
    """
    how = replace(how, job=with_own_settings(how.job, models))
    split = how.split
    slides, left_out = _choose(cohort, split, how.scoring)
    surveys = _surveyed(cohort, slides, how.scoring, bar, should_stop)
    value = how.scoring.tumour_value or tumour_value_in(survey.mask for survey in surveys.values())
    scoring = replace(how.scoring, tumour_value=value)
    faults = _faults(cohort, slides, split, surveys, value)
    references: dict[str, SlideReference] = {}
    with bar("Reading the reference") as progress:
        for done, slide in enumerate(slides, 1):
            _stop_if(should_stop)
            if slide.name not in faults:
                with one_of_many(partial(faults.__setitem__, slide.name)):
                    references[slide.name] = slide_reference(surveys[slide], scoring, own_mpp=how.own_mpp)
            in_parts(progress)(done, len(slides))
    left_out += [LeftOut(name, why, is_failure=True) for name, why in faults.items()]
    readable = [slide for slide in slides if slide.name in references]
    outcomes: list[SlideOutcome] = []
    cells: dict[str, CellCounts] = {}

    def leave_out(name: str, why: str) -> None:
        left_out.append(LeftOut(name, why, is_failure=True))

    with ExitStack() as opened:
        progress = opened.enter_context(bar(f"Scanning {len(readable)} slides"))
        held = opened.enter_context(EngineCache(lambda _: models)) if engines is None else engines
        scans = scan_cohort(readable, how.job, output=output, engines=held, progress=progress, should_stop=should_stop)
        for entry in opened.enter_context(closing(scans)):
            name = entry.slide.name
            if isinstance(entry, FailedSlide):
                leave_out(name, entry.reason)
            else:
                with one_of_many(partial(leave_out, name)):
                    outcome = match_slide(_detections(entry), references[name])
                    cells[name] = _cells(entry, surveys[entry.slide], value)
                    outcomes.append(outcome)
            # Its heatmap is not held while the next slide is scanned.
            del entry
    if not outcomes:
        why = f": {left_out[-1].slide}, for one: {left_out[-1].why}" if left_out else "; mark some in the cohort"
        raise EvaluationError(f"expected {split} slides to score in {cohort.origin}, got none{why}")
    scored = ScoredCells(cells, how.job.detection.threshold, answering_contract(how.job, models).prior)
    notes = [note for slide in readable if (note := surveys[slide].doubts)]
    for note in notes:
        warnings.warn(note, AnnotationWarning, stacklevel=2)
    return score_slides(
        outcomes, scoring, left_out=left_out, measured=measured_with(cohort, models, how), cells=scored, notes=notes
    )


def _choose(cohort: Cohort, split: Split, scoring: EvaluationSettings) -> tuple[list[CohortSlide], list[LeftOut]]:
    """Return the slides of a split that are scored, and those that are left out on purpose."""
    slides, left_out = list(cohort.of(split)), []
    for one in cohort.left_out:
        if one.slide.split != split:
            continue
        if scoring.keep_flawed and one.slide.name.casefold() in CAMELYON16_FLAWED:
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
        if lacks_outlines or not (slide.exhaustive or scoring.keep_flawed):
            why = "its tumour is not outlined" if lacks_outlines else "not all its tumour is outlined"
            left_out.append(LeftOut(slide.name, why, is_failure=False))
        else:
            kept.append(slide)
    return kept, left_out


def _surveyed(
    cohort: Cohort,
    slides: list[CohortSlide],
    scoring: EvaluationSettings,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> dict[CohortSlide, SlideSurvey]:
    """Look at every slide of the cohort once; only those that are measured on need their outlines."""
    own = {slide.annotation for slide in slides}

    def reads(annotation: Path) -> bool:
        # Which value of the masks is tumour follows from the masks of all splits, unless it is stated.
        return annotation in own or (is_mask(annotation) and not scoring.tumour_value)

    with bar("Looking at the slides") as progress:

        def report(done: int, total: int) -> None:
            _stop_if(should_stop)
            in_parts(progress)(done, total)

        every = [*slides, *cohort.slides]
        return survey_slides(every, threads=SlideSettings().threads, reads=reads, progress=report)


def _faults(
    cohort: Cohort,
    slides: list[CohortSlide],
    split: Split,
    surveys: Mapping[CohortSlide, SlideSurvey],
    tumour_value: int,
) -> dict[str, str]:
    """Return the first fault of each slide by its name, before hours are spent on scans."""
    leaks = check_split(cohort, split, surveys)
    problems = check_cohort(replace(cohort, slides=tuple(slides)), surveys, tumour_value=tumour_value)
    # Problems of the cohort as a whole concern training.
    names = {slide.name for slide in slides}
    faults: dict[str, str] = {}
    for problem in (*leaks, *problems):
        if problem.slide in names:
            faults.setdefault(problem.slide, problem.message)
    return faults


def _cells(scanned: ScannedSlide, survey: SlideSurvey, tumour_value: int) -> CellCounts:
    """Return how the cells of a slide stand to its reference."""
    result = scanned.result
    reference = reference_of(survey.annotated(), slide=survey.opened().size, tumour_value=tumour_value)
    with closing(reference):
        on_tumour = cells_on_tumour(reference, result.frame)
    # Chunk by chunk: of a segmented slide's 33 million pixels together it would take more than a gigabyte.
    return CellCounts.joined(
        count_cells(values, on_tumour[cells.slices], cell_um=result.frame.cell_um) for cells, values in result.answered
    )


def _detections(scanned: ScannedSlide) -> SlideDetections:
    found, score = scanned.result.detections, scanned.result.slide_score
    return SlideDetections(
        slide=scanned.slide.name,
        probabilities=found.probability.astype(np.float64),
        points=np.column_stack((found.x, found.y)),
        # A slide without tissue was not scanned, and holds no tumour.
        slide_score=0.0 if score is None else score,
    )


def measured_with(cohort: Cohort, models: ScanModels, how: CohortEvaluation) -> dict[str, Any]:
    """Return what the report of :func:`evaluate_cohort` says about the origin of its figures, as plain values."""
    job, detector = with_own_settings(how.job, models), models.detector
    return {
        "model": detector.name,
        "weights_sha256": detector.weights_sha256,
        "cohort": str(cohort.origin),
        "layout": cohort.layout,
        "split": how.split,
        **_passes_made(job, models),
        "dense_coefficient": job.scan.dense_coefficient,
        "augment_views": job.scan.augment_views,
        "detection_threshold": job.detection.threshold,
        "nms_radius_um": job.detection.nms_radius_um,
        "opening_um": (job.detection.on_pixels() if _reads_pixels(job, models) else job.detection).opening_um,
    }


def _reads_pixels(job: ScanJob, models: ScanModels) -> bool:
    """Return whether lesions are read from a map that stands alone."""
    task = find_task(answering_task(job, models))
    return task.settings is not None and task.settings.stands_alone()


def _passes_made(job: ScanJob, models: ScanModels) -> dict[str, Any]:
    """Return what the report says of the passes: under ``refiner`` and so on."""
    told: dict[str, Any] = {}
    for request in job.passes:
        if request.settings.wanted:
            task, model = find_task(request.task), models.others[request.task]
            told |= {task.noun: model.name, f"{task.noun}_sha256": model.weights_sha256}
            told[f"{task.writes}_share"] = request.settings.share
    return told


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise ScanCancelledError("expected to measure a model, but was stopped; the same command goes on from there")
