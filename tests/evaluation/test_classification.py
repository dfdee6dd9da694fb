"""Figures of two classes against scikit-learn and torchmetrics, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.classification import binary_calibration_error

from napari_metastasis.evaluation import (
    Confusion,
    Resamples,
    binary_report,
    calibration_error,
    precision_recall_points,
    roc_points,
    sensitivity_at,
)


def samples(seed, n=80):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    # Rounded, so that scores tie.
    return labels, np.clip(labels * 0.3 + rng.normal(0.35, 0.2, n), 0, 1).round(1)


def resamples(labels, number=100):
    return Resamples(np.asarray(labels, dtype=int), number=number, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_is_scikit_learns(seed):
    labels, scores = samples(seed)
    report = binary_report(labels, scores, threshold=0.5, resamples=resamples(labels))
    called = scores >= 0.5
    assert report.auc.value == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert report.precision.value == pytest.approx(metrics.precision_score(labels, called))
    assert report.recall.value == pytest.approx(metrics.recall_score(labels, called))
    assert report.f1.value == pytest.approx(metrics.f1_score(labels, called))
    assert report.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(labels, called))
    (right, false), (missed, hit) = metrics.confusion_matrix(labels, called).tolist()
    assert report.confusion == Confusion(
        true_positives=hit, false_positives=false, false_negatives=missed, true_negatives=right
    )


def test_area_of_hand_made_scores():
    labels = np.array([False, False, True, True])
    # Three of the four pairs are in order.
    report = binary_report(labels, np.array([0.1, 0.4, 0.35, 0.8]), threshold=0.5, resamples=resamples(labels))
    assert report.auc.value == pytest.approx(0.75)
    perfect = binary_report(labels, np.array([0.1, 0.2, 0.3, 0.4]), threshold=0.5, resamples=resamples(labels))
    assert (perfect.auc.value, *perfect.auc.ci95) == (1.0, 1.0, 1.0)


def test_resamples_are_measured_as_samples_of_their_own():
    labels, scores = samples(9, 30)
    drawn = resamples(labels, 50)
    report = binary_report(labels, scores, threshold=0.5, resamples=drawn)
    areas, f1 = [], []
    for counts in np.concatenate(list(drawn.blocks(1))):
        chosen = np.repeat(np.arange(30), counts)
        areas.append(metrics.roc_auc_score(labels[chosen], scores[chosen]))
        f1.append(metrics.f1_score(labels[chosen], scores[chosen] >= 0.5))
    assert report.auc.ci95 == pytest.approx(tuple(np.percentile(areas, [2.5, 97.5])))
    assert report.f1.ci95 == pytest.approx(tuple(np.percentile(f1, [2.5, 97.5])))


def test_what_is_not_defined_is_left_out():
    labels = np.array([False, False, True])
    report = binary_report(labels, np.array([0.1, 0.2, 0.3]), threshold=0.5, resamples=resamples(labels))
    assert math.isnan(report.precision.value)
    assert report.recall.value == 0
    values = report.to_json()
    assert "precision" not in values
    assert values["auc"] == 1
    assert values["confusion"]["false_negatives"] == 1
    alone = binary_report(labels[:2], np.array([0.1, 0.2]), threshold=0.5, resamples=resamples(labels[:2]))
    assert math.isnan(alone.auc.value)
    assert math.isnan(alone.balanced_accuracy.value)


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_scikit_learns(seed):
    labels, scores = samples(seed)
    false, true = roc_points(labels, scores)
    expected = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0])
    np.testing.assert_allclose(true, expected[1])
    recall, precision = precision_recall_points(labels, scores)
    expected = metrics.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(recall[1:], expected[1][:-1][::-1])
    np.testing.assert_allclose(precision[1:], expected[0][:-1][::-1])


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.random(300)
    labels = rng.random(300) < probabilities**2
    found = calibration_error(labels, probabilities, resamples=resamples(labels))
    expected = binary_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels.astype(int)), n_bins=15
    )
    assert found.value == pytest.approx(float(expected), abs=1e-6)
    assert found.low < found.high


def test_calibration_error_by_hand():
    # Two bins: at 0.25 three samples of which one is positive, at 1 one sample that is none.
    labels = np.array([True, False, False, False])
    found = calibration_error(labels, np.array([0.25, 0.25, 0.25, 1.0]), resamples=resamples(labels))
    assert found.value == pytest.approx((3 * (1 / 3 - 0.25) + 1) / 4)
    perfect = np.array([0.0, 1.0])
    assert calibration_error(perfect == 1, perfect, resamples=resamples(perfect)).value == 0


def test_calibration_is_that_of_tumour_and_not_of_the_likelier_class():
    # Both classes are called tumour too often: 0.1 and 0.9 where there is none. By the likelier class one bin of
    # confidence 0.9 and accuracy 1/2 would hold both, with a gap of 0.4.
    labels = np.array([False, False])
    found = calibration_error(labels, np.array([0.1, 0.9]), resamples=resamples(labels))
    assert found.value == pytest.approx((0.1 + 0.9) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_sensitivity_at_a_rate_is_read_off_scikit_learns_curve(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(400) < 0.4
    # Rounded, so that many tie.
    scores = np.round(rng.normal(labels * 1.2, 1.0), 1)
    rates = (0.2, 0.05, 0.01)
    found = sensitivity_at(labels, scores, rates, resamples(labels))
    false, true, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    for rate, one in zip(rates, found, strict=True):
        assert one.value == pytest.approx(true[false <= rate].max())
        assert one.low <= one.value <= one.high
    perfect = sensitivity_at(labels, labels.astype(float), rates, resamples(labels))
    assert [one.value for one in perfect] == [1, 1, 1]
    contrary = sensitivity_at(labels, -labels.astype(float), rates, resamples(labels))
    assert [one.value for one in contrary] == [0, 0, 0]
