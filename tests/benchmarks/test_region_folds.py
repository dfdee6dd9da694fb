"""What folds are said to be worth, on answers that were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from region_folds import CALIBRATION, fold_figures

from napari_metastasis.evaluation import count_cells


def drawn_region(rng, shift, temperature=1.7):
    is_tumour = rng.random((200, 200)) < 0.4
    ratio = np.where(is_tumour, 2.0, -2.0) + rng.normal(0, 2.0, is_tumour.shape)
    z = (ratio - shift) * temperature
    return count_cells((1 / (1 + np.exp(-z))).astype(np.float32), is_tumour, cell_um=0.7)


def test_folds_that_answer_alike_are_calibrated_by_each_other():
    rng = np.random.default_rng(4)
    figures = fold_figures([[drawn_region(rng, -0.8) for _ in range(3)] for _ in range(4)])
    assert figures.share == pytest.approx(0.4, abs=0.01)
    assert figures.calibrated.calibration_error.value < 0.01 < figures.own.calibration_error.value / 3
    assert figures.benign == pytest.approx(CALIBRATION.false_area, abs=0.002)
    # Over -2 + 2.326 · 2, where 1 % of the benign are.
    assert figures.tumour == pytest.approx(0.372, abs=0.02)


def test_a_fold_that_answers_otherwise_is_not_flattered():
    rng = np.random.default_rng(5)
    folds = [[drawn_region(rng, -0.8)], [drawn_region(rng, -0.8)], [drawn_region(rng, -3.0)]]
    assert fold_figures(folds).benign > 2 * CALIBRATION.false_area
