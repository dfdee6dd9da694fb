"""Calibrate a model on slides that it has not seen: from a cohort to a model whose 0.5 means one in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from napari_metastasis.cohorts.cohort import Cohort
from napari_metastasis.evaluation import Calibration, DetectionReport, cell_report, fit_calibration
from napari_metastasis.evaluation.cells import CellCounts, recalibrated
from napari_metastasis.models import Model, ScanModels, save_model
from napari_metastasis.scanning import never
from napari_metastasis.settings import CalibrationSettings
from napari_metastasis.tasks import DETECT
from napari_metastasis.workflows.evaluate import CohortEvaluation, evaluate_cohort
from napari_metastasis.workflows.scan.batch import ProgressBar
from napari_metastasis.workflows.scan.job_models import answering_task

__all__ = ["calibrate_on", "calibrated", "calibration_error", "store_calibrated"]

ModelT = TypeVar("ModelT", bound=Model)


def calibrate_on(
    cohort: Cohort,
    models: ScanModels,
    how: CohortEvaluation,
    settings: CalibrationSettings,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool] = never,
) -> tuple[Model, Calibration, DetectionReport]:
    """Scan the slides of a split as far as they are not scanned yet, and fit a model's calibration on them.

    What is calibrated is the model whose map lesions are read from: the detector, or the one of the last pass.

    Parameters
    ----------
    cohort, how
        Slides that the models were not trained on, and how they are scanned and scored.
    models
        An earlier calibration is put aside.
    settings
        Prior, and what the threshold may mark.
    output, bar, should_stop
        See :func:`~napari_metastasis.workflows.evaluate.evaluate_cohort`.

    Returns
    -------
    Model, Calibration, DetectionReport
        The calibrated model, how it was calibrated, and what was measured of the network's own answers.

    Raises
    ------
    MetastasisError
        As :func:`~napari_metastasis.workflows.evaluate.evaluate_cohort` does, and
        :func:`~napari_metastasis.evaluation.fit_calibration`.
    """
    task = answering_task(how.job, models)
    if task == DETECT:
        model: Model = models.detector
        own = replace(models, detector=models.detector.uncalibrated())
    else:
        model = models.others[task]
        own = replace(models, others={**models.others, task: model.uncalibrated()})
    report = evaluate_cohort(cohort, own, how, output=output, bar=bar, should_stop=should_stop)
    assert report.cells is not None
    found = fit_calibration([report.cells.counts], prior=settings.prior, false_area=settings.false_area)
    return calibrated(model, found), found, report


def calibrated(model: ModelT, found: Calibration) -> ModelT:
    """Return a model with a calibration."""
    values = {key: getattr(found, key) for key in ("temperature", "shift", "prior", "threshold")}
    return replace(model, spec=replace(model.spec, **values))


def calibration_error(counts: CellCounts, found: Calibration | None, prior: float) -> float:
    """Return the expected calibration error at a prior, of a network's own answers or of calibrated ones."""
    seen = counts if found is None else recalibrated(counts, found.temperature, found.shift, found.prior)
    return cell_report([seen], threshold=0.5, prior=prior, number=1, seed=0).calibration_error.value


def store_calibrated(
    model: Model, found: Calibration, report: DetectionReport, path: Path, *, name: str
) -> dict[str, Any]:
    """Write a calibrated model under a name, and return what its card says of the calibration."""
    assert report.cells is not None
    counts = report.cells.counts
    said = {
        **asdict(found),
        "slides": len(report.outcomes),
        "normal_mm2": round(counts.normal_mm2, 3),
        "cells": {"normal": int(counts.normal.sum()), "tumour": int(counts.tumour.sum())},
        "error_before": round(calibration_error(counts, None, found.prior), 4),
        "error_after": round(calibration_error(counts, found, found.prior), 4),
    }
    save_model(path, model.network, replace(model.spec, name=name), {**model.card, "calibration": said})
    return said
