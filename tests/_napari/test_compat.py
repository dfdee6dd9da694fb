"""The places where napari's own ways are cut short show what its own ways show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis._napari.compat import camera_of, draw_now, redraw_image, smooth_to_gaps
from napari_metastasis.geometry import Region

pytestmark = pytest.mark.gui


def test_part_of_an_image_is_drawn_like_all_of_it(make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> None:
    viewer = make_napari_viewer(show=True)
    values = np.full((90, 130), np.nan, np.float32)
    layer = viewer.add_image(values, contrast_limits=(0.5, 1), interpolation2d="nearest")
    empty = viewer.screenshot(flash=False)
    part = Region(31, 17, 50, 40)
    values[part.slices] = np.linspace(0.4, 1, part.width, dtype=np.float32)
    assert redraw_image(viewer, layer, [part])
    partly = viewer.screenshot(flash=False)
    assert (partly != empty).any()
    draw_now(layer)
    np.testing.assert_array_equal(viewer.screenshot(flash=False), partly)
    # An array that is not the one on the screen cannot be drawn in part.
    layer.data = values.astype(np.float64)
    qtbot.waitUntil(lambda: layer.loaded)
    assert not redraw_image(viewer, layer, [part])


def test_a_map_that_was_drawn_before_its_values_came_is_drawn_like_any(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot
) -> None:
    """Whichever size it was drawn in before: napari draws a single pixel until the slice arrives."""
    viewer = make_napari_viewer(show=True)
    values = np.full((90, 130), np.nan, np.float32)
    values[20:70, 10:60] = 0.9
    values[20:70, 70:120] = np.linspace(0.1, 1, 50, dtype=np.float32)

    def drawn(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is seen of values that are drawn first, and then of the map's own."""
        viewer.layers.clear()
        layer = viewer.add_image(values, contrast_limits=(0, 1), colormap="viridis", interpolation2d="linear")
        qtbot.waitUntil(lambda: layer.loaded)
        camera_of(viewer).center, camera_of(viewer).zoom = (45.0, 65.0), 4.0
        node = viewer.window._qt_viewer.canvas.layer_to_visual[layer].node
        node.set_data(first)
        smooth_to_gaps(viewer, layer)
        before = viewer.screenshot(flash=False)
        node.set_data(values)
        return before, viewer.screenshot(flash=False)

    wanted, _ = drawn(values)
    for shape in ((1, 1), (45, 65), (180, 260)):
        before, after = drawn(np.zeros(shape, np.float32))
        assert (before != wanted).any()
        np.testing.assert_array_equal(after, wanted)
