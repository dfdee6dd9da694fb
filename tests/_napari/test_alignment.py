"""A disc on a slide lies in one place, whichever layer shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("mpp", [0.243, 0.25, 0.486, 0.5, 0.972])
def test_every_layer_shows_the_disc_in_its_place(window, make_disc: Callable, darkness_model: Path, mpp: float) -> None:
    path, phantom = make_disc(mpp)
    window.open(path)
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    expected = phantom.center.to_um(mpp)
    half_a_cell = window.session.heatmap.frame.cell_um / 2
    layers = window.controller.layers

    def centroid(mask: np.ndarray, layer: object) -> tuple[float, float]:
        rows, columns = np.nonzero(mask)
        return layer.data_to_world((rows.mean(), columns.mean()))[-2:]

    # Cut around the disc, by pixels and not by the frames under test.
    y, x, reach = int(phantom.center.y), int(phantom.center.x), int(phantom.radius_px * 1.2)
    pixels = np.asarray(layers.slide.data[0][y - reach : y + reach, x - reach : x + reach])
    rows, columns = np.nonzero(pixels[..., 1] < 128)
    on_slide = layers.slide.data_to_world((rows.mean() + y - reach, columns.mean() + x - reach))
    assert on_slide[-2:] == pytest.approx((expected.y, expected.x), abs=0.5 * mpp)

    places = {
        "probability": centroid(np.nan_to_num(layers.heatmap.data) >= 0.5, layers.heatmap),
        "lesions": centroid(layers.lesions.data > 0, layers.lesions),
        "detections": layers.detections.data_to_world(layers.detections.data[0])[-2:],
        "tissue": centroid(np.asarray(layers.tissue.data) > 0, layers.tissue),
    }
    assert len(layers.detections.data) == 1
    for name, place in places.items():
        tolerance = half_a_cell if name != "tissue" else 2 * layers.tissue.scale[0]
        assert place == pytest.approx((expected.y, expected.x), abs=tolerance), name
    for layer in layers:
        assert {str(unit) for unit in layer.units} == {"micrometer"}
    # The middle of the first pixel lies at 0, and a detection at a location where that location's pixel is drawn.
    np.testing.assert_allclose(layers.slide.data_to_world((0, 0))[-2:], 0, atol=1e-9)
    there = layers.detections.data_to_world((10.5, 20.5))[-2:]
    np.testing.assert_allclose(there, layers.slide.data_to_world((10, 20))[-2:])
