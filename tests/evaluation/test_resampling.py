"""Draws that are the same in any blocks, and keep every group's size."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.evaluation import Resamples
from napari_metastasis.evaluation import resampling as module
from napari_metastasis.evaluation.resampling import estimate


def test_every_resample_has_as_many_of_each_group():
    groups = np.array([0, 1, 1, 0, 1, 1, 1])
    counts = np.concatenate(list(Resamples(groups, number=200, seed=3).blocks(1)))
    assert counts.shape == (200, 7)
    assert (counts[:, groups == 0].sum(axis=1) == 2).all()
    assert (counts[:, groups == 1].sum(axis=1) == 5).all()
    # Every slide is drawn once on average.
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.2)


def test_blocks_and_seed_decide_nothing_and_everything(monkeypatch):
    groups = np.arange(9) % 2
    draws = Resamples(groups, number=23, seed=5)
    whole = np.concatenate(list(draws.blocks(1)))
    monkeypatch.setattr(module, "_BLOCK", 40)
    blocks = list(draws.blocks(10))
    assert len(blocks) == 6
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert (np.concatenate(list(Resamples(groups, number=23, seed=6).blocks(1))) != whole).any()


def test_interval_of_a_mean_is_what_statistics_say():
    values = np.random.default_rng(0).normal(0, 1, 400)
    draws = Resamples(np.zeros(400, dtype=int), number=2000, seed=0)
    (found,) = estimate(lambda counts: (counts @ values / 400)[:, None], draws, width=400)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_resamples_without_the_figure_have_no_say():
    draws = Resamples(np.zeros(3, dtype=int), number=300, seed=0)

    def first_share(counts):
        # Only defined where the first sample was drawn.
        return np.where(counts[:, :1] > 0, 1.0, np.nan) * [[1.0, np.nan]]

    one, never = estimate(first_share, draws, width=3)
    assert (one.value, one.low, one.high) == (1, 1, 1)
    assert np.isnan([never.value, never.low, never.high]).all()
