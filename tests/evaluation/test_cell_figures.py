"""Figures of cells from counts, against plain arrays of every cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score, roc_auc_score

from napari_metastasis.evaluation.cells import BIN_LOG_ODDS, CellCounts, cell_report, count_cells
from napari_metastasis.geometry import ChunkedCells


def slide(seed, *, shift=2.0, tumour=0.3, shape=(60, 80)):
    """Return answers that tell tumour somewhat, and where the tumour is."""
    generator = np.random.default_rng(seed)
    on_tumour = generator.random(shape) < tumour
    log_odds = generator.normal(size=shape) * 1.5 - 2 + shift * on_tumour
    # Where bins end, a rounding would decide: here answers lie in their middle.
    step = BIN_LOG_ODDS[1] - BIN_LOG_ODDS[0]
    log_odds = BIN_LOG_ODDS[np.round((log_odds - BIN_LOG_ODDS[0]) / step).astype(int)]
    return (1 / (1 + np.exp(-log_odds))).astype(np.float32), on_tumour


@pytest.fixture(scope="module")
def slides():
    return [slide(0), slide(1, tumour=0.0), slide(2, tumour=0.1)]


def report_of(slides, **how):
    counts = [count_cells(*one, cell_um=8.0) for one in slides]
    return cell_report(counts, **{"threshold": 0.5, "prior": 0.0, "number": 50, "seed": 3, **how})


def pooled(slides):
    return tuple(np.concatenate([one[part].ravel() for one in slides]) for part in (0, 1))


def test_figures_are_those_of_all_cells(slides):
    answers, truth = pooled(slides)
    report = report_of(slides)
    assert report.auc.value == pytest.approx(roc_auc_score(truth, answers), abs=1e-9)
    assert report.false_positive_area.value == pytest.approx((answers[~truth] >= 0.5).mean())
    assert report.found_area.value == pytest.approx((answers[truth] >= 0.5).mean())
    for rate, one in zip((0.01, 0.001), report.sensitivity, strict=True):
        found = max((answers[truth] >= t).mean() for t in np.unique(answers) if (answers[~truth] >= t).mean() <= rate)
        assert one.value == pytest.approx(found)
    for one in (report.auc, report.found_area, report.calibration_error):
        assert one.low <= one.value <= one.high


def test_calibration_at_the_own_share_is_the_plain_one(slides):
    answers, truth = pooled(slides)
    bins = np.minimum((answers.astype(np.float64) * 15).astype(int), 14)
    expected = sum(
        abs(answers[bins == k].astype(np.float64).mean() - truth[bins == k].mean()) * (bins == k).mean()
        for k in np.unique(bins)
    )
    report = report_of(slides)
    assert report.calibration_error.value == pytest.approx(expected, abs=1e-6)
    assert np.nansum(report.reliability[:, 2]) == pytest.approx(1)


def test_calibration_at_a_prior_weights_the_kinds(slides):
    """As if there were exactly so many more normal cells: those of the pool, repeated."""
    answers, truth = pooled(slides)
    of_tumour, of_normal = answers[truth], answers[~truth]
    prior = len(of_tumour) / (len(of_tumour) + 5 * len(of_normal))
    repeated = [(answers[None], truth[None]), *[(of_normal[None], np.zeros((1, len(of_normal)), bool))] * 4]
    expected = report_of(repeated).calibration_error.value
    assert report_of(slides, prior=prior).calibration_error.value == pytest.approx(expected)


def test_honest_answers_have_no_calibration_error():
    generator = np.random.default_rng(1)
    answers = generator.random((400, 400)).astype(np.float32)
    truth = generator.random((400, 400)) < answers
    assert report_of([(answers, truth)]).calibration_error.value < 0.01


def test_cells_that_were_not_answered_count_for_nothing(slides):
    answers, truth = slides[0]
    holed = answers.copy()
    holed[::2] = np.nan
    counts, kept = count_cells(holed, truth, cell_um=8.0), count_cells(answers[1::2], truth[1::2], cell_um=8.0)
    assert (counts.normal == kept.normal).all()
    assert (counts.tumour == kept.tumour).all()
    assert counts.normal_mm2 == pytest.approx((~truth[1::2]).sum() * 64e-6)


def test_the_chunks_of_a_map_count_as_the_whole():
    answers, truth = slide(7, shape=(300, 600))
    answers[:256, 256:512] = np.nan
    whole = count_cells(answers, truth, cell_um=4.0)
    held = ChunkedCells.of(answers)
    held = ChunkedCells(held.size, {key: values for key, values in held.chunks.items() if key != (0, 1)})
    parts = [count_cells(values, truth[cells.slices], cell_um=4.0) for cells, values in held]
    joined = CellCounts.joined(parts)
    np.testing.assert_array_equal(joined.normal, whole.normal)
    np.testing.assert_array_equal(joined.tumour, whole.tumour)
    assert joined.normal_mm2 == pytest.approx(whole.normal_mm2)
    assert CellCounts.joined([]).normal_mm2 == 0


def test_slides_without_tumour_have_a_false_area_alone():
    report = report_of([slide(1, tumour=0.0), slide(4, tumour=0.0)])
    assert 0 < report.false_positive_area.value < 1
    assert math.isnan(report.auc.value)
    assert math.isnan(report.sensitivity[0].value)
    values = report.to_json()
    assert "false_positive_mm2_per_mm2" in values
    assert "cell_auc" not in values


def test_certain_answers_are_counted():
    counts = count_cells(np.array([[0.0, 1.0]], np.float32), np.array([[False, True]]), cell_um=8.0)
    assert (counts.normal[0], counts.tumour[-1]) == (1, 1)


def test_overlap_is_that_of_scikit_learn() -> None:
    """Khalil et al. (2022), eq. 5 to 9, over the cells of all slides together."""
    generator = np.random.default_rng(6)
    truths = [generator.random((40, 50)) < share for share in (0.0, 0.3, 0.7)]
    answers = [np.clip(0.25 + 0.4 * truth + 0.3 * generator.random(truth.shape), 0, 1) for truth in truths]
    answers[0][:3] = np.nan
    counts = [
        count_cells(answer.astype(np.float32), truth, cell_um=4.0)
        for answer, truth in zip(answers, truths, strict=True)
    ]
    report = cell_report(counts, threshold=0.5, prior=0.0, number=200, seed=1)
    known = ~np.isnan(np.concatenate(answers))
    truth, marked = np.concatenate(truths)[known], np.concatenate(answers)[known] >= 0.5
    for found, score in (
        (report.precision, precision_score(truth, marked)),
        (report.found_area, recall_score(truth, marked)),
        (report.f1, f1_score(truth, marked)),
        (report.miou, jaccard_score(truth, marked, average="macro")),
    ):
        assert found.value == pytest.approx(score)
        assert found.low <= found.value <= found.high
    assert set(report.to_json()) >= {"cell_precision", "cell_f1", "cell_miou", "cell_miou_ci95"}
