"""A detector that is calibrated on slides, and what it then answers there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dark_model import dark_model
from test_evaluate_cohort_slides import HOW, no_bar, outline, write_square

from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.evaluation import cell_report
from napari_metastasis.evaluation.cells import recalibrated
from napari_metastasis.models import ScanModels
from napari_metastasis.settings import CalibrationSettings
from napari_metastasis.workflows.calibrate import calibrate_on, calibrated, calibration_error
from napari_metastasis.workflows.evaluate import evaluate_cohort

SETTINGS = CalibrationSettings(prior=0.02, false_area=0.03)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """One slide: a dark lesion, one that is not dark, and a dark place that is no lesion."""
    root = tmp_path_factory.mktemp("calibration")
    (root / "testing" / "images").mkdir(parents=True)
    (root / "testing" / "lesion_annotations").mkdir()
    write_square(root / "testing" / "images" / "test_001.tif", [(200, 200, 400), (900, 200, 150)], side=1200)
    outline(root / "testing" / "lesion_annotations" / "test_001.xml", [(200, 200, 400), (300, 800, 200)])
    return read_cohort(root, validation_share=0.15, seed=1)


@pytest.fixture(scope="module")
def fitted(cohort, tmp_path_factory):
    output = tmp_path_factory.mktemp("scans")
    return output, *calibrate_on(cohort, ScanModels(dark_model()), HOW, SETTINGS, output=output, bar=no_bar)


def test_calibrated_answers_are_those_that_were_fitted(cohort, fitted):
    output, detector, found, report = fitted
    before = report.cells.counts
    assert calibration_error(before, found, SETTINGS.prior) < calibration_error(before, None, SETTINGS.prior) / 2
    assert detector.spec == calibrated(dark_model(), found).spec
    job = replace(HOW.job, detection=replace(HOW.job.detection, threshold=found.threshold, floor=0.001))
    after = evaluate_cohort(
        cohort, ScanModels(detector), replace(HOW, job=job), output=output, bar=no_bar, should_stop=lambda: False
    ).cells
    assert after.prior == SETTINGS.prior
    # What was scanned anew is what the counts said it would be, but for the width of their bins.
    said = recalibrated(before, found.temperature, found.shift, found.prior)
    told = cell_report([said], threshold=found.threshold, prior=found.prior, number=1, seed=0)
    assert after.calibration_error.value == pytest.approx(told.calibration_error.value, abs=0.01)
    assert after.false_positive_area.value <= SETTINGS.false_area + 0.005
    assert after.found_area.value == pytest.approx(found.found_area, abs=0.02)


def test_an_earlier_calibration_is_put_aside(cohort, fitted):
    output, detector, found, _ = fitted
    _, again, _ = calibrate_on(cohort, ScanModels(detector), HOW, SETTINGS, output=output, bar=no_bar)
    assert again == found
