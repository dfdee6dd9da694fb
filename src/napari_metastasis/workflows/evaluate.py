"""Measures a model on a cohort: scans what is not scanned yet, matches it with the reference, and scores it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.cohorts.annotation_files import is_mask, tumour_value_in
from napari_metastasis.cohorts.cells import cells_on_tumour
from napari_metastasis.cohorts.checks import check_cohort
from napari_metastasis.cohorts.cohort import Cohort, Split
from napari_metastasis.cohorts.reference import reference_of
from napari_metastasis.cohorts.survey import SlideSurvey
from napari_metastasis.errors import AnnotationWarning, one_of_many
from napari_metastasis.evaluation import (
    CellCounts,
    DetectionReport,
    LeftOut,
    ScoredCells,
    SlideDetections,
    SlideOutcome,
    count_cells,
    match_slide,
    score_slides,
)
from napari_metastasis.evaluation.cohort_lesions import slide_reference
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import EvaluationSettings
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.evaluated_slides import (
    choose_slides,
    faults_of,
    in_order,
    look_at_slides,
    nothing_to_score,
    read_references,
    scanned_slides,
)
from napari_metastasis.workflows.scan.batch import ProgressBar, ScannedSlide, SlideScanner
from napari_metastasis.workflows.scan.job_models import answering_contract, answering_task, with_own_settings
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["CohortEvaluation", "evaluate_cohort", "measured_with", "passes_made"]


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


def evaluate_cohort(
    cohort: Cohort,
    models: ScanModels,
    how: CohortEvaluation,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    engines: EngineCache | None = None,
    scanner: SlideScanner | None = None,
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
    scanner
        What scans, where that is not this process.

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
    slides, left_out = choose_slides(cohort, split, keep_flawed=how.scoring.keep_flawed)
    # Which value of the masks is tumour follows from the masks of all splits, unless it is stated.
    masks = not how.scoring.tumour_value
    own = {slide.annotation for slide in slides}
    surveys = look_at_slides(
        cohort, slides, reads=lambda path: path in own or (masks and is_mask(path)), bar=bar, should_stop=should_stop
    )
    value = how.scoring.tumour_value or tumour_value_in(survey.mask for survey in surveys.values())
    scoring = replace(how.scoring, tumour_value=value)
    faults = faults_of(cohort, slides, split, surveys, partial(check_cohort, tumour_value=value))
    references = read_references(
        slides,
        faults,
        lambda slide: slide_reference(surveys[slide], scoring, own_mpp=how.own_mpp),
        title="Reading the reference",
        bar=bar,
        should_stop=should_stop,
    )
    left_out += [LeftOut(name, why, is_failure=True) for name, why in faults.items()]
    readable = [slide for slide in slides if slide.name in references]
    outcomes: dict[str, SlideOutcome] = {}
    cells: dict[str, CellCounts] = {}

    failed: dict[str, str] = {}

    scans = scanned_slides(
        readable, how.job, models,
        output=output, bar=bar, should_stop=should_stop, engines=engines, scanner=scanner, leave_out=failed.__setitem__,
    )  # fmt: skip
    with closing(scans):
        for entry in scans:
            name = entry.slide.name
            with one_of_many(partial(failed.__setitem__, name)):
                outcome = match_slide(_detections(entry), references[name])
                cells[name] = _cells(entry, surveys[entry.slide], value)
                outcomes[name] = outcome
            # Its heatmap is not held while the next slide is scanned.
            del entry
    # Several machines do not keep the order, on which figures of resampled slides depend.
    order = in_order(readable)
    left_out += [LeftOut(name, failed[name], is_failure=True) for name in sorted(failed, key=order)]
    if not outcomes:
        raise nothing_to_score(cohort, split, left_out)
    cells = {name: cells[name] for name in sorted(cells, key=order)}
    scored = ScoredCells(cells, how.job.detection.threshold, answering_contract(how.job, models).prior)
    notes = [note for slide in readable if (note := surveys[slide].doubts)]
    for note in notes:
        warnings.warn(note, AnnotationWarning, stacklevel=2)
    return score_slides(
        [outcomes[name] for name in sorted(outcomes, key=order)],
        scoring,
        left_out=left_out,
        measured=measured_with(cohort, models, how),
        cells=scored,
        notes=notes,
    )


def _cells(scanned: ScannedSlide[ScanResult], survey: SlideSurvey, tumour_value: int) -> CellCounts:
    """Return how the cells of a slide stand to its reference."""
    result = scanned.result
    reference = reference_of(survey.annotated(), slide=survey.opened().size, tumour_value=tumour_value)
    with closing(reference):
        on_tumour = cells_on_tumour(reference, result.frame)
    # Chunk by chunk: of a segmented slide's 33 million pixels together it would take more than a gigabyte.
    return CellCounts.joined(
        count_cells(values, on_tumour[cells.slices], cell_um=result.frame.cell_um) for cells, values in result.answered
    )


def _detections(scanned: ScannedSlide[ScanResult]) -> SlideDetections:
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
        **passes_made(job, models),
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


def passes_made(job: ScanJob, models: ScanModels) -> dict[str, Any]:
    """Return what the report says of the passes: under ``refiner`` and so on."""
    told: dict[str, Any] = {}
    for request in job.passes:
        if request.settings.wanted:
            task, model = find_task(request.task), models.others[request.task]
            told |= {task.noun: model.name, f"{task.noun}_sha256": model.weights_sha256}
            told[f"{task.writes}_share"] = request.settings.share
    return told
