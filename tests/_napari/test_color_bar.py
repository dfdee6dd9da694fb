"""The legend on the canvas: the colours that are drawn, from 0 to 1, and the threshold where it is."""

from __future__ import annotations

import numpy as np
import pytest
from hands import pixels_of

from napari_metastasis._napari.colors import map_colormap
from napari_metastasis._napari.compat import canvas_widget
from napari_metastasis.geometry import HeatmapFrame
from napari_metastasis.lesions import SIZE_CLASSES
from napari_metastasis.scanning import PROBABILITY, MapValues

pytestmark = pytest.mark.gui


def test_the_legend_shows_the_colours_the_threshold_and_the_classes(window, make_disc) -> None:
    window.viewer.window._qt_window.resize(1280, 800)
    path, _ = make_disc(0.5)
    window.open(path)
    session, microscope = window.session, window.workspace.microscope
    bar, canvas = microscope.color_bar, canvas_widget(window.viewer)
    assert not bar.isVisible()  # nothing was scanned
    frame = HeatmapFrame(model=session.slide.frame(1.0), patch_px=32, stride_px=16)
    values = MapValues(PROBABILITY, frame, np.zeros(frame.cells.shape, np.float32))
    session.show_maps([values], model_name="", folder=None)
    assert bar.isVisible()
    # Above the scale bar, inside the canvas.
    assert canvas.rect().contains(bar.geometry())
    assert bar.geometry().bottom() < canvas.height() - 50
    fixed = map_colormap("probability", 0.0, scanning=False)
    rect = bar.bar_rect
    row = int(rect.center().y())
    for threshold in (0.3, 0.6):
        session.set_threshold(threshold)
        assert bar.threshold == threshold
        drawn = pixels_of(bar)[..., :3]
        for probability in (0.35, 0.7, 0.9):
            shown = drawn[row, round(rect.left() + rect.width() * probability)]
            expected = fixed.map([probability])[0, :3] * 255
            same = np.abs(shown - expected).max() < 12
            # A probability has one colour at every threshold; below it, it is hidden.
            assert same == (probability > threshold)
        mark = drawn[int(rect.bottom()) + 5, :, 1] > 180
        assert np.flatnonzero(mark).mean() == pytest.approx(rect.left() + rect.width() * threshold, abs=1.5)
    for style in SIZE_CLASSES.values():
        assert (np.abs(drawn - style.rgb).max(axis=-1) < 3).sum() > 50
    # No part of it is under another widget, and the mouse goes through it.
    assert canvas.childAt(bar.geometry().center()) is None
    microscope.show_color_bar(False)
    assert not bar.isVisible()
    session.set_threshold(0.7)
    assert not bar.isVisible()
    microscope.show_color_bar(True)
    assert bar.isVisible()
    window.viewer.layers.remove(window.controller.layers.slide)
    assert not bar.isVisible()
