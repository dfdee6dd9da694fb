"""Calibrate a detector on slides that it has not seen: from a cohort to a model whose 0.5 means one in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_metastasis.cohorts.cohort import Cohort
from napari_metastasis.evaluation import Calibration, DetectionReport, cell_report, fit_calibration
from napari_metastasis.evaluation.cells import CellCounts, recalibrated
from napari_metastasis.models import Detector, ScanModels, save_model
from napari_metastasis.scanning import never
from napari_metastasis.settings import CalibrationSettings
from napari_metastasis.workflows.evaluate import CohortEvaluation, evaluate_cohort
from napari_metastasis.workflows.scan.batch import ProgressBar

__all__ = ["calibrate_on", "calibrated", "calibration_error", "store_calibrated"]


def calibrate_on(
    cohort: Cohort,
    detector: Detector,
    how: CohortEvaluation,
    settings: CalibrationSettings,
    *,
    output: Path,
    bar: ProgressBar,
    should_stop: Callable[[], bool] = never,
) -> tuple[Calibration, DetectionReport]:
    """Scan the slides of a split as far as they are not scanned yet, and fit the detector's calibration on them.

    Parameters
    ----------
    cohort, how
        Slides that the detector was not trained on, and how they are scanned and scored.
    detector
        An earlier calibration of it is put aside.
    settings
        Prior, and what the threshold may mark.
    output, bar, should_stop
        See :func:`~napari_metastasis.workflows.evaluate.evaluate_cohort`.

    Returns
    -------
    Calibration, DetectionReport
        And what was measured of the network's own answers.

    Raises
    ------
    MetastasisError
        As :func:`~napari_metastasis.workflows.evaluate.evaluate_cohort` does, and
        :func:`~napari_metastasis.evaluation.fit_calibration`.
    """
    own = replace(detector, spec=detector.spec.uncalibrated())
    report = evaluate_cohort(cohort, ScanModels(own), how, output=output, bar=bar, should_stop=should_stop)
    assert report.cells is not None
    found = fit_calibration([report.cells.counts], prior=settings.prior, false_area=settings.false_area)
    return found, report


def calibrated(detector: Detector, found: Calibration) -> Detector:
    """Return the detector with a calibration."""
    values = {key: getattr(found, key) for key in ("temperature", "shift", "prior", "threshold")}
    return replace(detector, spec=replace(detector.spec, **values))


def calibration_error(counts: CellCounts, found: Calibration | None, prior: float) -> float:
    """Return the expected calibration error at a prior, of a network's own answers or of calibrated ones."""
    seen = counts if found is None else recalibrated(counts, found.temperature, found.shift, found.prior)
    return cell_report([seen], threshold=0.5, prior=prior, number=1, seed=0).calibration_error.value


def store_calibrated(
    detector: Detector, found: Calibration, report: DetectionReport, path: Path, *, name: str
) -> dict[str, Any]:
    """Write the calibrated detector, and return what its card says of it."""
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
    made = calibrated(detector, found)
    save_model(path, made.network, replace(made.spec, name=name), {**detector.card, "calibration": said})
    return said
