"""The places where napari's own ways are cut short show what its own ways show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis._napari.compat import draw_now, redraw_image
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
