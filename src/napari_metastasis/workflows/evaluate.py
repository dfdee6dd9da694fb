"""How good a model is on a cohort: scan what is not scanned yet, match it against the truth, and score."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED
from napari_metastasis.cohorts.checks import check_cohort, check_split
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, Split
from napari_metastasis.cohorts.reference import tumour_value_of
from napari_metastasis.errors import CohortError, EvaluationError, MetastasisError, ScanCancelledError
from napari_metastasis.evaluation import (
    DetectionReport,
    LeftOut,
    SlideDetections,
    SlideOutcome,
    SlideReference,
    match_slide,
    score_slides,
)
from napari_metastasis.evaluation.cohort_lesions import slide_reference
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import EvaluationSettings, SlideSettings
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.batch import FailedSlide, ProgressBar, ScannedSlide, in_parts, scan_cohort
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["CohortEvaluation", "evaluate_cohort", "evaluation_output", "report_folder", "split_to_evaluate"]

#: Layouts in which a tumour slide may lack outlines on purpose.
_MAY_LACK_OUTLINES = ("file", "camelyon17")


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortEvaluation:
    """How a cohort is scanned and scored.

    Attributes
    ----------
    job
        How slides are scanned, on the first of them. Detections are those at its detection threshold.
    scoring
        How they are scored.
    own_mpp
        Whether each slide's own pixel size turns distances into pixels, or that of ``scoring`` for all, as in the
        challenge.
    """

    job: ScanJob
    scoring: EvaluationSettings
    own_mpp: bool = True


def split_to_evaluate(cohort: Cohort) -> Split:
    """Return the split that a model is measured on unless told otherwise: test slides, or else those of validation."""
    return "test" if cohort.of("test") else "validation"


def evaluation_output(cohort: Path, model: str) -> Path:
    """Return where the scans and the report of an evaluation go unless told otherwise: beside the cohort."""
    # Resolved: "." has a name, too.
    cohort = cohort.expanduser().resolve()
    name = cohort.name if cohort.is_dir() else cohort.stem
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
    split: Split,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> DetectionReport:
    """Scan the slides of a split that are not scanned yet, and score all of them.

    A slide that has a fault, or cannot be scanned, is left out and named; slides whose tumour is not all outlined are
    left out with a note, for what is found beside their outlines is not known to be false. One heatmap is held at a
    time.

    Parameters
    ----------
    cohort, models, how
        What to measure, on what.
    split
        Slides of the cohort.
    output
        Folder that each slide gets its result folder in; what was scanned there before is not scanned again.
    bar
        Shows the steps.
    should_stop
        Asked several times a second.

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
    slides, left_out = _choose(cohort, split, how.scoring)
    value = how.scoring.tumour_value or tumour_value_of(cohort.slides)
    scoring = replace(how.scoring, tumour_value=value)
    slides, faulty = _checked(cohort, slides, split, value, bar, should_stop)
    left_out += faulty
    truths: dict[str, SlideReference] = {}
    with bar("Reading the truth") as progress:
        for done, slide in enumerate(slides, 1):
            _stop_if(should_stop)
            try:
                truths[slide.name] = slide_reference(slide, scoring, tumour_value=value, own_mpp=how.own_mpp)
            except MetastasisError as error:
                left_out.append(LeftOut(slide.name, str(error), is_failure=True))
            in_parts(progress)(done, len(slides))
    outcomes: list[SlideOutcome] = []
    with (
        bar(f"Scanning {len(truths)} slides") as progress,
        EngineCache(lambda _: models) as engines,
        closing(
            scan_cohort(
                [slide for slide in slides if slide.name in truths],
                how.job,
                output=output,
                engines=engines,
                progress=progress,
                should_stop=should_stop,
            )
        ) as entries,
    ):
        for entry in entries:
            if isinstance(entry, FailedSlide):
                left_out.append(LeftOut(entry.slide.name, entry.reason, is_failure=True))
            else:
                outcomes.append(match_slide(_detections(entry), truths[entry.slide.name]))
            # Its heatmap is not held while the next slide is scanned.
            del entry
    if not outcomes:
        why = f": {left_out[-1].slide}, for one: {left_out[-1].why}" if left_out else "; mark some in the cohort"
        raise EvaluationError(f"expected {split} slides to score in {cohort.origin}, got none{why}")
    return score_slides(outcomes, scoring, left_out=left_out, measured=_measured(cohort, models, how, split))


def _choose(cohort: Cohort, split: Split, scoring: EvaluationSettings) -> tuple[list[CohortSlide], list[LeftOut]]:
    """Return the slides of a split that can be scored, and those that cannot, on purpose."""
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
        lacks_outlines = slide.annotation is None and slide.tumour is True and cohort.layout in _MAY_LACK_OUTLINES
        if lacks_outlines or not (slide.exhaustive or scoring.keep_flawed):
            why = "its tumour is not outlined" if lacks_outlines else "not all its tumour is outlined"
            left_out.append(LeftOut(slide.name, why, is_failure=False))
        else:
            kept.append(slide)
    return kept, left_out


def _checked(
    cohort: Cohort,
    slides: list[CohortSlide],
    split: Split,
    tumour_value: int,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> tuple[list[CohortSlide], list[LeftOut]]:
    """Return those slides that have no fault, and the faulty with what is wrong: before hours are spent on scans."""
    threads = SlideSettings().threads

    def stoppable(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            _stop_if(should_stop)
            in_parts(progress)(done, total)

        return report

    with bar("Comparing the splits") as progress:
        leaks = check_split(cohort, split, threads=threads, progress=stoppable(progress))
    chosen = replace(cohort, slides=tuple(slides))
    with bar("Checking the slides") as progress:
        problems = check_cohort(chosen, threads=threads, tumour_value=tumour_value, progress=stoppable(progress))
    # What is said of the cohort as a whole is about training. Of a slide that has several faults the first is told.
    names = {slide.name for slide in slides}
    faults = {one.slide: one.message for one in reversed((*leaks, *problems)) if one.slide in names}
    slides = [slide for slide in slides if slide.name not in faults]
    return slides, [LeftOut(name, message, is_failure=True) for name, message in reversed(faults.items())]


def _detections(scanned: ScannedSlide) -> SlideDetections:
    found, score = scanned.result.detections, scanned.result.slide_score
    return SlideDetections(
        slide=scanned.slide.name,
        probabilities=found.probability.astype(np.float64),
        points=np.column_stack((found.x, found.y)),
        # A slide without tissue was not scanned: nothing speaks for tumour.
        slide_score=0.0 if score is None else score,
    )


def _measured(cohort: Cohort, models: ScanModels, how: CohortEvaluation, split: Split) -> dict[str, Any]:
    """Return what the report says about where the figures come from."""
    job, detector = how.job, models.detector
    return {
        "model": detector.name,
        "weights_sha256": detector.weights_sha256,
        "cohort": str(cohort.origin),
        "layout": cohort.layout,
        "split": split,
        **_passes_made(job, models),
        "dense_coefficient": job.scan.dense_coefficient,
        "augment_views": job.scan.augment_views,
        "detection_threshold": job.detection.threshold,
        "nms_radius_um": job.detection.nms_radius_um,
        "opening_um": job.detection.opening_um,
    }


def _passes_made(job: ScanJob, models: ScanModels) -> dict[str, Any]:
    """Return what the report says of the passes that detections are read from: ``refiner`` and so on."""
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
