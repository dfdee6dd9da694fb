"""The threshold hides cells, and does not give them other colours."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis._napari.colors import map_colormap, shown_limits

VALUES = np.array([0.55, 0.7, 0.83, 0.96, 1.0])


def colors(threshold: float, values: np.ndarray) -> np.ndarray:
    """Return what napari draws values in."""
    low, high = shown_limits(threshold)
    return map_colormap("probability", threshold, scanning=False).map((values - low) / (high - low))


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.34, 0.5])
def test_a_probability_has_one_colour_at_every_threshold(threshold):
    np.testing.assert_allclose(colors(threshold, VALUES), colors(0.0, VALUES), atol=0.02)


def test_what_is_below_the_threshold_is_not_drawn():
    drawn = map_colormap("probability", 0.5, scanning=False)
    assert drawn.low_color[3] == 0
    assert map_colormap("probability", 0.5, scanning=True).low_color[3] > 0


@pytest.mark.parametrize("threshold", [0.95, 0.999, 1.0])
def test_limits_stay_apart_at_the_highest_threshold(threshold):
    low, high = shown_limits(threshold)
    assert low < high
    np.testing.assert_allclose(colors(threshold, np.array([1.0])), colors(0.0, np.array([1.0])), atol=0.02)
