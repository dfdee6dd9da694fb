"""Cells: the same in every window, apart from one another, and found by the fast search as by a slow one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree

from napari_metastasis.synthetic._cells import CellKind, cell_grid
from napari_metastasis.synthetic._noise import Noise, hashed, smoothstep, upsampled
from napari_metastasis.synthetic._window import Box


def points(grid):
    return np.c_[grid.x.ravel(), grid.y.ravel()]


def test_windows_agree_on_their_cells():
    large = cell_grid(3, CellKind(1, 7.0), Box(0, 0, 400, 300))
    small = cell_grid(3, CellKind(1, 7.0), Box(210, 130, 60, 40))
    top, left = small.row - large.row, small.column - large.column
    part = (slice(top, top + small.x.shape[0]), slice(left, left + small.x.shape[1]))
    np.testing.assert_array_equal(large.x[part], small.x)
    np.testing.assert_array_equal(large.y[part], small.y)
    np.testing.assert_array_equal(large.chance[part], small.chance)


def test_pushing_keeps_cells_apart():
    grid = cell_grid(3, CellKind(1, 7.0), Box(0, 0, 700, 700))
    nearest = KDTree(points(grid)).query(points(grid), 2)[0][:, 1]
    # Without pushing, a fifth of all cells lie within half a spacing of another.
    assert np.mean(nearest < 0.5 * 7) < 0.02
    assert np.median(nearest) > 0.75 * 7


def test_the_nine_squares_hold_the_nearest_cells():
    grid = cell_grid(3, CellKind(2, 13.0), Box(100, 50, 300, 300))
    rng = np.random.default_rng(0)
    places = rng.uniform((100, 50), (400, 350), (3000, 2)).astype(np.float32)
    first, second, owner = grid.nearest(places[:, 0], places[:, 1])
    distance, index = KDTree(points(grid)).query(places, 2)
    assert np.mean(owner == index[:, 0]) > 0.998
    np.testing.assert_allclose(np.quantile(np.abs(first - distance[:, 0]), 0.998), 0, atol=1e-3)
    assert np.mean(np.abs(second - distance[:, 1]) < 1e-3) > 0.97


def test_hashes_are_even_and_differ_by_seed_layer_and_place():
    row, column = np.mgrid[-150:150, -150:150]
    values = hashed(1, column, row, 2)
    assert values.shape == (300, 300, 2)
    assert values.mean() == pytest.approx(0.5, abs=0.005)
    assert values.std() == pytest.approx(12**-0.5, abs=0.005)
    assert 0 <= values.min() < values.max() < 1
    assert np.abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02
    assert (hashed(2, column, row, 2) != values).mean() > 0.99


def test_noise_is_standard_smooth_and_depends_on_the_place_alone():
    noise = Noise.from_seed(1)
    x, y = np.meshgrid(np.arange(0, 6000, 7, dtype=np.float32), np.arange(0, 6000, 7, dtype=np.float32))
    value = noise.at(x, y, 100, 3)
    assert value.mean() == pytest.approx(0, abs=0.1)
    assert value.std() == pytest.approx(0.95, abs=0.1)
    assert np.abs(np.diff(value, axis=0)).max() < 0.8
    np.testing.assert_array_equal(noise.at(x[50:60], y[50:60], 100, 3), value[50:60])


def test_upsampling_is_linear_interpolation_at_pixel_centres():
    coarse = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    fine = upsampled(coarse, 8)
    assert fine.shape == (32, 24)
    for row, column in ((0, 0), (9, 17), (31, 23)):
        y, x = (row + 0.5) / 8, (column + 0.5) / 8
        j, i = int(y), int(x)
        u, v = x - i, y - j
        oracle = (coarse[j, i] * (1 - u) + coarse[j, i + 1] * u) * (1 - v)
        oracle += (coarse[j + 1, i] * (1 - u) + coarse[j + 1, i + 1] * u) * v
        assert fine[row, column] == pytest.approx(oracle, abs=1e-5)


def test_smoothstep_goes_either_way():
    values = np.array([0, 1, 2, 3, 4], np.float32)
    np.testing.assert_allclose(smoothstep(values, 1, 3), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smoothstep(values, 3, 1), [1, 1, 0.5, 0, 0])
