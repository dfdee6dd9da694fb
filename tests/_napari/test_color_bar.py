"""The legend on the canvas: the colours that are drawn, from 0 to 1, and the threshold where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hands import pixels_of
from qtpy.QtGui import QColor

from napari_metastasis._napari.colors import map_colormap
from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.layers import RING_COLOR
from napari_metastasis._napari.slide_work import index_work
from napari_metastasis.geometry import HeatmapFrame
from napari_metastasis.lesions import SIZE_CLASSES
from napari_metastasis.sampling.hard_negatives import HardNegative
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
    # The scale bar below it is light on a dark ground, which is as wide as the bar at every zoom.
    camera_of(window.viewer).center = (800.0, 900.0)
    for zoom in (6.0, 1.37, 1.9):
        camera_of(window.viewer).zoom *= zoom
        window.settle()
        corner = window.viewer.screenshot(canvas_only=True, flash=False)[-60:, -220:, :3].astype(int)
        assert corner[:6].min() > 200, "glass"
        dark, light = corner.max(axis=-1) < 80, corner.min(axis=-1) > 200
        across = np.flatnonzero(dark[-24:].any(axis=0))
        inside = light[-24:-6, across[0] : across[-1]]
        bar_px = np.flatnonzero(inside[inside.sum(axis=1).argmax()])
        assert bar_px.size > 50
        assert 4 <= bar_px[0] <= 12
        assert 4 <= across[-1] - across[0] - bar_px[-1] <= 12
    # No part of it is under another widget, and the mouse goes through it.
    assert canvas.childAt(bar.geometry().center()) is None
    # Marks are explained where they are drawn: rings round peaks, the hatch, and mined places.
    assert bar.marks == ()
    plain = bar.height()
    values.values[:, : frame.cells.width // 2] = np.nan
    values.values[5:9, -9:-5] = 0.9
    looked = index_work([values], [], session.detection, session.tissue, None, lambda: False)
    session.show_maps([replace(values, values=values.values.copy())], model_name="", folder=None)
    session.show_coverage(looked.coverage, looked.tissue_cells)
    session.show_lesions(looked.index)
    hatch, peak = "Tissue that was not scanned", "Where the probability peaks"
    assert bar.marks == (hatch, peak)
    assert bar.height() > plain
    assert canvas.rect().contains(bar.geometry())
    for color, least in ((RING_COLOR, 20), ("#f0f0f5", 1)):
        red, green, blue, _ = QColor(color).getRgb()
        assert (np.abs(pixels_of(bar)[round(plain) - 9 :, :, :3] - (red, green, blue)).max(axis=-1) < 6).sum() >= least
    layers = window.controller.layers
    window.panel.slide_part.show_veil.setChecked(False)
    assert bar.marks == (peak,)
    session.set_threshold(0.95)
    assert bar.marks == ()
    session.set_threshold(0.7)
    layers.show_overlay(False)
    assert bar.marks == ()
    layers.show_overlay(True)
    window.panel.slide_part.show_veil.setChecked(True)
    layers.show_mined([HardNegative("disc", 10.0, 5.0, 0.9)])
    assert bar.marks == (hatch, peak, "Mined place")
    for layer in (layers.mined, layers.veil, layers.detections):
        window.viewer.layers.remove(layer)
    assert bar.marks == ()
    assert bar.height() == plain
    microscope.show_color_bar(False)
    assert not bar.isVisible()
    session.set_threshold(0.7)
    assert not bar.isVisible()
    microscope.show_color_bar(True)
    assert bar.isVisible()
    window.viewer.layers.remove(window.controller.layers.slide)
    assert not bar.isVisible()
