"""Measures a model of mitoses on a cohort: scans what is not scanned yet, and matches points with those of people."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.cohorts.checks import check_points
from napari_metastasis.cohorts.cohort import Cohort, Split
from napari_metastasis.cohorts.point_reference import PointReference, column_order
from napari_metastasis.errors import AnnotationWarning, one_of_many
from napari_metastasis.evaluation import (
    LeftOut,
    PointReport,
    SlidePoints,
    match_points,
    score_points,
    thresholds_of,
)
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import MitosisSettings, PointScoringSettings
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
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["MITOSIS", "PointEvaluation", "evaluate_points", "points_measured_with"]

#: The task whose models are measured so.
MITOSIS = "mitosis"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointEvaluation:
    """How a cohort is scanned for mitoses, and how these are scored.

    Attributes
    ----------
    job
        How slides are scanned; its slide is not used. Figures are those at its threshold of mitoses, or the model's.
    scoring
        How they are scored.
    split
        Slides of the cohort that are measured on.
    keep_flawed
        Whether slides are scored as well on which not every mitosis was set.
    """

    job: ScanJob
    scoring: PointScoringSettings
    split: Split = "test"
    keep_flawed: bool = False

    @property
    def settings(self) -> MitosisSettings:
        """Return how mitoses are looked for."""
        found = self.job.settings_of(MitosisSettings)
        assert found is not None
        return found


def evaluate_points(
    cohort: Cohort,
    models: ScanModels,
    how: PointEvaluation,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    engines: EngineCache | None = None,
    scanner: SlideScanner | None = None,
) -> PointReport:
    """Scan the slides of a split that are not scanned yet, and score the mitoses on all of them.

    A slide that has a fault, or cannot be scanned, is left out and named. A slide without an annotation holds no
    mitosis, and is named as such.

    Parameters
    ----------
    cohort, models, how
        What to measure on, what, and how.
    output, bar, should_stop, engines, scanner
        As :func:`~napari_metastasis.workflows.evaluate.evaluate_cohort` takes them.

    Raises
    ------
    CohortError
        If the split is empty, or two slides share a name.
    EvaluationError
        If no slide can be scored.
    ScanCancelledError
        If ``should_stop`` said so; the same call goes on.
    StorageError
        If the disk refuses.
    """
    slides, left_out = choose_slides(
        cohort,
        how.split,
        keep_flawed=how.keep_flawed,
        lacking="its mitoses are not set",
        partly="not every mitosis on it is set",
    )
    surveys = look_at_slides(cohort, slides, reads=lambda _: False, bar=bar, should_stop=should_stop)
    faults = faults_of(cohort, slides, how.split, surveys, check_points)
    order = column_order(how.scoring.order)
    references = read_references(
        slides,
        faults,
        lambda slide: surveys[slide].point_reference(order),
        title="Reading the points",
        bar=bar,
        should_stop=should_stop,
    )
    left_out += [LeftOut(name, why, is_failure=True) for name, why in faults.items()]
    readable = [slide for slide in slides if slide.name in references]
    scored: list[SlidePoints] = []
    threshold = how.settings.mitosis_threshold or models.others[MITOSIS].spec.threshold

    failed: dict[str, str] = {}

    scans = scanned_slides(
        readable, how.job, models,
        output=output, bar=bar, should_stop=should_stop, engines=engines, scanner=scanner, leave_out=failed.__setitem__,
    )  # fmt: skip
    with closing(scans):
        for entry in scans:
            name = entry.slide.name
            with one_of_many(partial(failed.__setitem__, name)):
                scored.append(_points(entry, references[name], surveys[entry.slide].opened().mpp, how.scoring))
            # Its maps are not held while the next slide is scanned.
            del entry
    # Several machines do not keep the order, on which figures of resampled slides depend.
    place = in_order(readable)
    left_out += [LeftOut(name, failed[name], is_failure=True) for name in sorted(failed, key=place)]
    scored.sort(key=lambda one: place(one.slide))
    if not scored:
        raise nothing_to_score(cohort, how.split, left_out)
    names = {one.slide for one in scored}
    without = [slide.name for slide in readable if slide.annotation is None and slide.name in names]
    notes = [told for name, one in references.items() if name in names and (told := one.doubts)]
    for note in notes:
        warnings.warn(note, AnnotationWarning, stacklevel=2)
    return score_points(
        scored,
        how.scoring,
        threshold=threshold,
        left_out=left_out,
        measured=points_measured_with(cohort, models, how),
        notes=notes,
        without_points=without,
    )


def _points(
    scanned: ScannedSlide[ScanResult], reference: PointReference, mpp: float, scoring: PointScoringSettings
) -> SlidePoints:
    """Return what became of a slide's mitoses at each threshold: as a scan at that one would have found them."""
    found = scanned.result.found_mitoses
    assert found is not None
    outcomes = {}
    reading = found.reading
    for at in thresholds_of(scoring, threshold=found.mitoses.threshold, floor=reading.floor):
        xy, probability = reading.points_at(at)
        outcomes[at] = match_points(
            scanned.slide.name,
            found=xy,
            probability=probability.astype(np.float64),
            reference=reference.mitoses,
            mpp=mpp,
            radius_um=scoring.radius_um,
        )
    return SlidePoints(scanned.slide.name, outcomes, found.reading.tissue_mm2)


def points_measured_with(cohort: Cohort, models: ScanModels, how: PointEvaluation) -> dict[str, Any]:
    """Return what the report says about the origin of its figures, as plain values."""
    model, settings = models.others[MITOSIS], how.settings
    searched_in = {"detector": models.detector.name, "detector_sha256": models.detector.weights_sha256}
    return {
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "cohort": str(cohort.origin),
        "layout": cohort.layout,
        "split": how.split,
        "mitosis_threshold": settings.mitosis_threshold or model.spec.threshold,
        "mitosis_above": settings.mitosis_above,
        "mitosis_radius_um": settings.mitosis_radius_um,
        **(searched_in if how.job.detects else {}),
    }
