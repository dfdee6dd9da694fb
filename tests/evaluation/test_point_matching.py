"""Points matched one to one: against all ways to match them, and counts of 73 cases that others published."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import PointOutcome, match_points, point_figures
from napari_metastasis.settings import PointScoringSettings

FEW = PointScoringSettings(resamples=200)


def matched(found: np.ndarray, probability: np.ndarray, reference: np.ndarray, radius: float) -> PointOutcome:
    return match_points("a", found=found, probability=probability, reference=reference, mpp=0.5, radius_um=radius / 2)


def test_a_pair_that_greedy_matching_misses_is_found() -> None:
    # The surer one lies nearest to the only point that the other can find.
    outcome = matched(np.array([[10.0, 0], [16, 0]]), np.array([0.9, 0.5]), np.array([[4.0, 0], [11, 0]]), 6)
    assert outcome.found.tolist() == [0, 1]
    assert outcome.counts_at(0.9) == (1, 0, 1)
    assert outcome.counts_at(0.5) == (2, 0, 0)


def test_two_on_one_mitosis_are_a_hit_and_a_false_positive() -> None:
    outcome = matched(np.array([[1.0, 0], [0, 0]]), np.array([0.3, 0.8]), np.array([[0.0, 0]]), 6)
    assert outcome.found.tolist() == [0, -1]
    assert outcome.probability.tolist() == [0.8, 0.3]
    assert outcome.counts_at(0.3) == (1, 1, 0)
    # At the radius exactly counts, past it does not.
    assert matched(np.array([[6.0, 0]]), np.array([0.5]), np.array([[0.0, 0]]), 6).counts_at(0.5) == (1, 0, 0)
    assert matched(np.array([[6.1, 0]]), np.array([0.5]), np.array([[0.0, 0]]), 6).counts_at(0.5) == (0, 1, 1)


@pytest.mark.parametrize("seed", range(8))
def test_as_many_as_can_be_are_matched_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, reference = rng.uniform(0, 60, (45, 2)), rng.uniform(0, 60, (40, 2))
    probability = rng.integers(0, 12, 45) / 12
    outcome = matched(found, probability, reference, 7)
    pairs = outcome.found >= 0
    assert len(np.unique(outcome.found[pairs])) == pairs.sum()
    surest_first = found[np.argsort(-probability, kind="stable")]
    assert np.linalg.norm(surest_first[pairs] - reference[outcome.found[pairs]], axis=1).max() <= 7
    for threshold in np.unique(probability):
        near = csr_array(cdist(found[probability >= threshold], reference) <= 7)
        most = int((maximum_bipartite_matching(near, perm_type="column") >= 0).sum())
        assert outcome.counts_at(threshold) == (most, near.shape[0] - most, 40 - most)


@pytest.mark.parametrize("seed", range(8))
def test_the_surest_are_matched_where_not_all_can_be(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    found, reference = rng.uniform(0, 12, (6, 2)), rng.uniform(0, 12, (3, 2))
    probability = rng.permutation(6) / 6
    near = cdist(found, reference) <= 5
    # Every way to hand the points out: the best matches the most, and of those the surest, the next surest …
    surest_first = np.argsort(-probability)
    ways = {
        tuple(any(way[point] == one and near[one, point] for point in range(3)) for one in surest_first)
        for way in permutations(range(6), 3)
    }
    expected = max(ways, key=lambda hits: (sum(hits), hits))
    assert tuple((matched(found, probability, reference, 5).found >= 0).tolist()) == expected


def test_no_points_and_wrong_ones() -> None:
    none = np.empty((0, 2))
    assert matched(none, np.empty(0), np.array([[0.0, 0]]), 5).counts_at(0.0) == (0, 0, 1)
    assert matched(np.array([[0.0, 0]]), np.array([0.5]), none, 5).counts_at(0.5) == (0, 1, 0)
    for wrong in (np.array([0.5, 0.5]), np.array([np.nan])):
        with pytest.raises(EvaluationError, match=r"^expected a finite probability for each of the 1 points [^\n]+$"):
            matched(np.array([[0.0, 0]]), wrong, none, 5)
    with pytest.raises(EvaluationError, match="at least one slide"):
        point_figures([], [0.5], FEW)


def test_figures_are_of_all_slides_together_with_intervals_over_slides() -> None:
    # Two slides of which one is easy: resamples of either alone bound the interval.
    easy = PointOutcome("a", np.array([0.9, 0.8]), np.array([0, 1]), 2)
    hard = PointOutcome("b", np.array([0.9, 0.7]), np.array([-1, 0]), 4)
    figures, none = point_figures([easy, hard], [0.5, 0.95], FEW)
    assert (figures.hits, figures.false_positives, figures.misses) == (3, 1, 3)
    assert (figures.precision.value, figures.recall.value, figures.f1.value) == (3 / 4, 3 / 6, 6 / 10)
    assert figures.recall.ci95 == (1 / 4, 1.0)
    assert figures.f1.ci95 == (2 / 6, 1.0)
    assert (none.hits, none.misses) == (0, 6)
    assert np.isnan(none.precision.value)
    assert none.f1.value == 0


@pytest.mark.shared
def test_counts_of_published_cases_are_within_a_hundredth(shared_data: Path) -> None:
    case = json.loads((shared_data / "mitosis" / "f1_case.json").read_text())
    outcomes = []
    for name, slide in case["slides"].items():
        detections = np.array(slide["detections"], float).reshape(-1, 3)
        outcomes.append(
            match_points(
                name,
                found=detections[:, :2],
                probability=detections[:, 2],
                reference=np.array(slide["mitoses"], float).reshape(-1, 2),
                mpp=case["mpp"],
                radius_um=case["match_radius_px"] * case["mpp"],
            )
        )
    thresholds = {float(key): expected for key, expected in case["expected"].items()}
    for figures in point_figures(outcomes, list(thresholds), FEW):
        expected = thresholds[figures.threshold]
        # Its own matching is greedy.
        counts = (figures.hits, figures.false_positives, figures.misses)
        assert counts == pytest.approx([expected[key] for key in ("tp", "fp", "fn")], rel=0.01)
        if figures.threshold == 0.64:
            assert round(figures.f1.value, 3) == 0.731
            assert figures.f1.low < 0.731 < figures.f1.high
