"""Temperature, shift and threshold against what they were drawn with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import count_cells, fit_calibration
from napari_metastasis.evaluation.cells import BIN_LOG_ODDS


def drawn_slide(share: float, temperature: float, shift: float, seed: int = 3, cells: int = 400_000):
    """Return counts of cells whose log-odds z are too sure of themselves by a temperature, and off by a shift."""
    rng = np.random.default_rng(seed)
    is_tumour = rng.random(cells) < share
    # Two normal distributions of variance 2 m about m and -m have exactly themselves as logarithm of their ratio.
    ratio = np.where(is_tumour, 1.5, -1.5) + rng.normal(0, np.sqrt(3), cells)
    z = (ratio - shift) * temperature
    probabilities = (1 / (1 + np.exp(-z))).astype(np.float32)
    return count_cells(probabilities[None], is_tumour[None], cell_um=16.0)


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize(("temperature", "shift"), [(1.0, 0.0), (1.6, -0.7), (0.8, 0.5)])
def test_what_was_drawn_is_found_whatever_the_share_of_tumour(share, temperature, shift):
    found = fit_calibration([drawn_slide(share, temperature, shift)], prior=0.01, false_area=0.01)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.shift == pytest.approx(shift, abs=0.05)


def test_the_threshold_marks_what_is_allowed():
    counts = drawn_slide(0.1, 1.3, -0.4)
    found = fit_calibration([counts], prior=0.01, false_area=0.02)
    # Back to the network's own log-odds.
    edge = (np.log(found.threshold / (1 - found.threshold)) - np.log(0.01 / 0.99) - found.shift) * found.temperature
    over = edge < BIN_LOG_ODDS
    assert counts.normal[over].sum() / counts.normal.sum() == pytest.approx(0.02, abs=0.002)
    assert counts.normal[over].sum() / counts.normal.sum() <= 0.02
    assert found.found_area == pytest.approx(counts.tumour[over].sum() / counts.tumour.sum())


def test_slides_are_pooled():
    both = fit_calibration([drawn_slide(0.5, 1.4, 0.2, seed) for seed in (1, 2)], prior=0.01, false_area=0.01)
    assert both.temperature == pytest.approx(1.4, rel=0.03)


def test_one_kind_of_tissue_is_refused():
    with pytest.raises(EvaluationError, match="tumour and normal"):
        fit_calibration([drawn_slide(0.0, 1, 0)], prior=0.01, false_area=0.01)


def test_a_model_that_answers_the_contrary_is_refused():
    counts = drawn_slide(0.5, 1, 0)
    with pytest.raises(EvaluationError, match="contrary"):
        fit_calibration([replace(counts, normal=counts.tumour, tumour=counts.normal)], prior=0.01, false_area=0.01)
