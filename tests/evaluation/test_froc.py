"""FROC by hand, against a slow loop, against MONAI, and against the organisers' own answers for real annotations."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from evaluation_cohorts import detections, outcome, random_outcomes
from PIL import Image

from napari_metastasis.annotations import read_asap_xml
from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import (
    Resamples,
    SlideReference,
    froc_curve,
    froc_figures,
    match_slide,
    read_detections_csv,
    reference_from_annotations,
    reference_from_mask,
)
from napari_metastasis.settings import EvaluationSettings

CHALLENGE = EvaluationSettings()
RATES = CHALLENGE.fp_rates


def points(*outcomes):
    curve = froc_curve(outcomes)
    table = zip(curve.thresholds, curve.false_positives_per_slide, curve.sensitivity, strict=True)
    return [tuple(map(float, row)) for row in table]


def both(*outcomes):
    curve = froc_curve(outcomes)
    return curve.sensitivity_at(RATES, "linear").tolist(), curve.sensitivity_at(RATES, "step").tolist()


INF = float("inf")


def test_no_lesion_missed():
    # Nothing is missed, so that the weakest hit is a real operating point, and kept.
    slide = outcome(0.9, 0.8, false=[0.85])
    assert points(slide) == [(INF, 0, 0), (0.9, 0, 0.5), (0.85, 1, 0.5), (0.8, 1, 1)]
    assert both(slide) == ([0.5, 0.5, 1, 1, 1, 1], [0.5, 0.5, 1, 1, 1, 1])
    assert froc_curve([slide]).score(RATES, "linear") == pytest.approx(5 / 6)


def test_none_found():
    slide = outcome(None, None, false=[0.4, 0.4])
    assert points(slide) == [(INF, 0, 0), (0.4, 2, 0)]
    assert both(slide) == ([0] * 6, [0] * 6)
    nothing = outcome(None)
    assert points(nothing) == [(INF, 0, 0)]
    assert both(nothing) == ([0] * 6, [0] * 6)


def test_no_false_positive():
    slide = outcome(0.9, 0.2, None, None)
    assert points(slide) == [(INF, 0, 0), (0.9, 0, 0.25), (0.2, 0, 0.5)]
    assert both(slide) == ([0.5] * 6, [0.5] * 6)


def test_ties_enter_together_and_the_readings_differ():
    slide = outcome(0.7, false=[0.7])
    assert points(slide) == [(INF, 0, 0), (0.7, 1, 1)]
    assert both(slide) == ([0.25, 0.5, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1])
    assert froc_curve([slide]).score(RATES, "linear") == pytest.approx(4.75 / 6)
    assert froc_curve([slide]).score(RATES, "step") == pytest.approx(4 / 6)


def test_isolated_cells_count_on_neither_side():
    assert points(outcome(0.9, itc=[0.95, None], false=[0.1])) == points(outcome(0.9, false=[0.1]))


def test_a_hit_of_probability_zero_is_a_hit():
    assert points(outcome(0.0, 0.5)) == [(INF, 0, 0), (0.5, 0, 0.5), (0.0, 0, 1)]


def test_a_slide_without_detections_counts_among_the_slides():
    assert points(outcome(0.9, false=[0.8]), outcome(slide="empty")) == [(INF, 0, 0), (0.9, 0, 1), (0.8, 0.5, 1)]
    assert points(outcome(0.9), outcome(None, slide="empty"))[-1] == (0.9, 0, 0.5)


def test_without_normal_slides_false_positives_are_averaged_over_tumour_slides():
    slides = outcome(0.9, false=[0.8, 0.1], slide="a"), outcome(0.5, None, false=[0.6], slide="b")
    assert points(*slides) == [
        (INF, 0, 0),
        (0.9, 0, 1 / 3),
        (0.8, 0.5, 1 / 3),
        (0.6, 1, 1 / 3),
        (0.5, 1, 2 / 3),
        (0.1, 1.5, 2 / 3),
    ]


@pytest.mark.parametrize("slides", [[], [outcome(false=[0.5])], [outcome(itc=[0.5])]])
def test_a_cohort_without_targets_has_no_curve(slides):
    with pytest.raises(EvaluationError, match="expected a lesion to find, got none"):
        froc_curve(slides)


def slow_curve(outcomes):
    """Count everything anew at every threshold."""
    hits = [hit for one in outcomes for hit in one.hits]
    false = [value for one in outcomes for value in one.false_positives]
    rows = [(0.0, 0.0)]
    for threshold in sorted({*hits, *false}, reverse=True):
        fps = sum(value >= threshold for value in false) / len(outcomes)
        rows.append((fps, sum(hit >= threshold for hit in hits) / sum(one.targets for one in outcomes)))
    return np.array(rows).T


@pytest.mark.parametrize("seed", range(6))
def test_curve_and_readings_against_a_loop(seed):
    cohort = random_outcomes(seed)
    curve = froc_curve(cohort)
    fps, sensitivity = slow_curve(cohort)
    np.testing.assert_array_equal(curve.false_positives_per_slide, fps)
    np.testing.assert_array_equal(curve.sensitivity, sensitivity)
    rates = [0, 0.1, *RATES, 100]
    np.testing.assert_allclose(curve.sensitivity_at(rates, "linear"), np.interp(rates, fps, sensitivity), rtol=1e-12)
    expected = [max(s for f, s in zip(fps, sensitivity, strict=True) if f <= rate) for rate in rates]
    np.testing.assert_array_equal(curve.sensitivity_at(rates, "step"), expected)


def lopsided_outcomes():
    """A cohort whose false positives lie almost all on one slide: resamples need very different parts of the list."""
    rng = np.random.default_rng(2)
    crowd = outcome(false=rng.random(80).round(2), slide="crowd")
    return [crowd, *(outcome(*rng.random(3).round(2), false=rng.random(1), slide=str(k)) for k in range(7))]


@pytest.mark.parametrize("cohort", [random_outcomes(3), lopsided_outcomes()], ids=["even", "lopsided"])
@pytest.mark.parametrize("reading", ["linear", "step"])
def test_resamples_are_scored_as_cohorts_of_their_own(reading, cohort):
    resamples = Resamples(np.zeros(len(cohort), dtype=int), number=40, seed=7)
    figures = froc_figures(cohort, RATES, reading, resamples)
    drawn = []
    for counts in np.concatenate(list(resamples.blocks(1))):
        slides = [one for one, times in zip(cohort, counts, strict=True) for _ in range(times)]
        drawn.append(froc_curve(slides).sensitivity_at(RATES, reading))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    np.testing.assert_allclose([one.low for one in figures.sensitivity], low, rtol=1e-12)
    np.testing.assert_allclose([one.high for one in figures.sensitivity], high, rtol=1e-12)
    assert figures.score.ci95 == pytest.approx(tuple(np.percentile(np.mean(drawn, axis=1), [2.5, 97.5])))
    assert figures.score.value == froc_curve(cohort).score(RATES, reading)


def test_resamples_without_a_target_have_no_say():
    # Of three tumour slides one has a target: resamples without it have no sensitivity.
    cohort = [outcome(0.9, slide="a"), outcome(itc=[0.5], slide="b"), outcome(itc=[None], false=[0.4], slide="c")]
    figures = froc_figures(cohort, RATES, "linear", Resamples(np.ones(3, dtype=int), number=200, seed=0))
    assert (figures.score.value, figures.score.low, figures.score.high) == (1, 1, 1)


def monai_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optional parts, on import
        return pytest.importorskip("monai.metrics")


@pytest.mark.parametrize("seed", range(4))
def test_monai_agrees_where_a_lesion_was_missed(seed):
    # It writes a miss as probability 0 and drops the lowest threshold: the same curve if there is a miss and no zero.
    monai = monai_metrics()
    rng = np.random.default_rng(seed)
    cohort = [
        outcome(*rng.uniform(0.01, 1, 3).round(2), None, false=rng.uniform(0.01, 1, 4).round(2), slide=str(k))
        for k in range(5)
    ]
    hits = np.array([hit for one in cohort for hit in one.hits] + [0.0] * 5)
    false = np.concatenate([one.false_positives for one in cohort])
    fps, sensitivity = monai.compute_froc_curve_data(false, hits, num_targets=20, num_images=5)
    curve = froc_curve(cohort)
    np.testing.assert_array_equal(curve.false_positives_per_slide, fps[::-1])
    np.testing.assert_array_equal(curve.sensitivity, sensitivity[::-1])
    score = monai.compute_froc_score(fps, sensitivity, tuple(RATES))
    assert curve.score(RATES, "linear") == pytest.approx(score, abs=1e-12)


def test_monai_counts_the_same_hits_and_false_positives():
    monai = monai_metrics()
    rng = np.random.default_rng(8)
    mask = np.zeros((120, 160), bool)
    mask[20:60, 30:80] = mask[90:95, 20:26] = mask[70:110, 100:150] = True
    reference = reference_from_mask("s", mask, CHALLENGE)
    labels = np.zeros(mask.shape, int)
    for number, lesion in enumerate(reference.lesions, 1):
        labels[lesion.window.slices][lesion.mask] = number
    found = detections(*np.c_[rng.uniform(0.01, 1, 60), rng.uniform(0, 160 * 32, 60), rng.uniform(0, 120 * 32, 60)])
    itc = [number for number, lesion in enumerate(reference.lesions, 1) if not lesion.is_target]
    assert len(itc) == 1
    x, y = found.points.T
    false, hits, targets = monai.compute_fp_tp_probs(found.probabilities, y, x, labels, itc, 5)
    result = match_slide(found, reference)
    assert result.targets == targets
    assert sorted(result.false_positives) == sorted(false)
    np.testing.assert_allclose(sorted(result.hits), sorted(hit for hit in hits if hit > 0), rtol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("source", ["outlines", "masks"])
def test_the_organisers_own_numbers(shared_data, source):
    folder = shared_data / "froc_case"
    expected = json.loads((folder / "expected.json").read_text())
    outcomes = []
    for name, counts in expected["slides"].items():
        if not (folder / f"{name}.xml").exists():
            reference = SlideReference(slide=name, is_tumour=False, downsample=32)
        elif source == "outlines":
            reference = reference_from_annotations(name, read_asap_xml(folder / f"{name}.xml"), CHALLENGE)
        else:
            with Image.open(folder / f"{name}_mask_level5.png") as image:
                reference = reference_from_mask(name, np.asarray(image) == 255, CHALLENGE)
        result = match_slide(read_detections_csv(folder / f"{name}.csv"), reference)
        outcomes.append(result)
        assert counts == {
            "lesions": len(result.lesions),
            "itc": len(result.lesions) - result.targets,
            "targets": result.targets,
            "false_positives": len(result.false_positives),
            "hits": len(result.hits),
        }
    curve = froc_curve(outcomes)
    assert curve.false_positives_per_slide[::-1].tolist() == expected["mean_fp_per_slide"]
    assert curve.sensitivity[::-1].tolist() == expected["sensitivity"]
    for reading in ("linear", "step"):
        found = curve.sensitivity_at(expected["fp_rates"], reading)
        np.testing.assert_allclose(found, expected[f"sensitivity_at_rates_{reading}"], rtol=1e-15)
        assert curve.score(expected["fp_rates"], reading) == pytest.approx(expected[f"froc_score_{reading}"], rel=1e-15)
