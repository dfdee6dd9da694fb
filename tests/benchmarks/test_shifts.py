"""Shifts do what their names say, the same for everyone, and leave the middle of a patch in the middle."""

from __future__ import annotations

import numpy as np
import pytest
from shifts import SHIFTS, shifted, shifted_patches
from skimage.color import rgb2hsv


@pytest.fixture
def tissue():
    rows, columns = np.mgrid[:96, :96]
    image = np.empty((96, 96, 3), np.uint8)
    image[:] = (200, 120, 180)
    image[np.hypot(rows - 47.5, columns - 47.5) < 12] = (90, 40, 130)
    return image


class One:
    def __init__(self, image):
        self.labels = np.array([0, 1])
        self.image = image

    def __len__(self):
        return 2

    def read(self, index):
        del index
        return self.image


@pytest.mark.parametrize("name", SHIFTS)
def test_every_shift_keeps_shape_and_type_and_repeats(tissue, name):
    source = shifted_patches(One(tissue), name, seed=3)
    first = source.read(1)
    assert first.shape == tissue.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, source.read(1))
    assert (name == "none") == np.array_equal(first, tissue)
    assert source.labels.tolist() == [0, 1]


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_magnifying_keeps_the_centre(tissue, factor):
    dark = shifted(tissue, f"magnified {factor:g}", np.random.default_rng(0))[..., 0] < 145
    rows, columns = np.nonzero(dark)
    assert (rows.mean(), columns.mean()) == pytest.approx((47.5, 47.5), abs=0.1)
    assert dark.sum() == pytest.approx(np.pi * (12 * factor) ** 2, rel=0.05)


def test_hue_turns_both_ways(tissue):
    before = rgb2hsv(tissue)[0, 0, 0]
    turns = {
        round(float(rgb2hsv(shifted(tissue, "hue ±0.06 turns", np.random.default_rng(k)))[0, 0, 0] - before), 2)
        for k in range(20)
    }
    assert turns == {-0.06, 0.06}


def test_blur_and_jpeg_lose_detail_and_keep_the_mean(tissue):
    noisy = np.random.default_rng(1).integers(60, 200, tissue.shape).astype(np.uint8)
    for name in ("blur, 1.5 px", "JPEG, quality 30"):
        result = shifted(noisy, name, np.random.default_rng(0))
        assert result.std() < noisy.std() * 0.9
        assert result.mean() == pytest.approx(noisy.mean(), abs=3)
