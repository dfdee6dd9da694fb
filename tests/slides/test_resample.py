"""Anchored resampling against a slow oracle, and its independence of the window."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metastasis.geometry import Region
from napari_metastasis.slides.resample import axis_weights, resample

PICTURE = np.random.default_rng(3).integers(0, 256, (61, 83, 3)).astype(np.uint8)


def read(region: Region) -> npt.NDArray[np.uint8]:
    """Cut the picture, white outside."""
    result = np.full((*region.size.shape, 3), 255, np.uint8)
    for row in range(region.height):
        for column in range(region.width):
            y, x = region.y + row, region.x + column
            if 0 <= y < PICTURE.shape[0] and 0 <= x < PICTURE.shape[1]:
                result[row, column] = PICTURE[y, x]
    return result


def oracle_axis(index: int, ratio: float) -> dict[int, float]:
    """Source pixels and weights of one target pixel, by the definition."""
    if ratio < 1:
        center = (index + 0.5) * ratio - 0.5
        near = math.floor(center)
        return {near: 1 - (center - near), near + 1: center - near}
    low, high = index * ratio, (index + 1) * ratio
    return {
        source: (min(high, source + 1) - max(low, source)) / ratio for source in range(math.floor(low), math.ceil(high))
    }


def oracle(region: Region, ratio: float) -> npt.NDArray[np.float64]:
    result = np.zeros((*region.size.shape, 3))
    for row in range(region.height):
        for column in range(region.width):
            for y, down in oracle_axis(region.y + row, ratio).items():
                for x, across in oracle_axis(region.x + column, ratio).items():
                    result[row, column] += down * across * read(Region(x, y, 1, 1))[0, 0].astype(float)
    return result


@pytest.mark.parametrize("ratio", [0.5, 0.83, 1.0, 1.0288, 1.5, 2.0, 2.7, 4.0])
def test_matches_the_definition(ratio):
    region = Region(-2, 3, 9, 7)
    np.testing.assert_allclose(resample(read, region, ratio), oracle(region, ratio), atol=0.501)


@settings(max_examples=40, deadline=None)
@given(
    ratio=st.floats(0.4, 9.0),
    x=st.integers(-3, 12),
    y=st.integers(-3, 9),
    width=st.integers(1, 8),
    height=st.integers(1, 8),
)
def test_a_window_changes_no_pixel(ratio, x, y, width, height):
    whole = resample(read, Region(-3, -3, 25, 22), ratio)
    part = resample(read, Region(x, y, width, height), ratio)
    np.testing.assert_array_equal(part, whole[y + 3 : y + 3 + height, x + 3 : x + 3 + width])


def test_blocks_change_no_pixel(monkeypatch):
    whole = resample(read, Region(0, 0, 40, 30), 1.9)
    monkeypatch.setattr("napari_metastasis.slides.resample._BLOCK_WIDTH_PX", 13)
    monkeypatch.setattr("napari_metastasis.slides.resample._BLOCK_HEIGHT_PX", 7)
    np.testing.assert_array_equal(resample(read, Region(0, 0, 40, 30), 1.9), whole)


def test_whole_ratios_average_boxes():
    found = resample(read, Region(0, 0, 20, 15), 4)
    boxes = PICTURE[:60, :80].reshape(15, 4, 20, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found, boxes, atol=0.501)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 1.01, 3.7, 64.0])
@pytest.mark.parametrize("first", [-5, 0, 100_000])
def test_weights_sum_to_one(ratio, first):
    weights = axis_weights(first, 50, ratio)
    np.testing.assert_allclose(weights.matrix.sum(axis=1), 1, atol=1e-6)
    assert weights.matrix.data.min() >= 0


def test_flat_stays_flat():
    for level in (0, 1, 127, 254, 255):
        flat = resample(lambda region, level=level: np.full((*region.size.shape, 3), level, np.uint8),
                        Region(5, 5, 30, 30), 1.37)  # fmt: skip
        assert (flat == level).all()


def test_nothing_wanted_is_nothing():
    assert resample(read, Region(3, 3, 0, 5), 2.0).shape == (5, 0, 3)
