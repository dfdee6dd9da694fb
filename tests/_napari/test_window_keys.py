"""The keys of a window: wherever the focus is, whatever is selected, and nowhere else."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.magnification import magnification_of

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(house, make_disc):
    """The program's window with a slide, which is selected."""
    path, _ = make_disc(0.5)
    house.open(path)
    house.viewer.layers.selection.active = house.controller.layers.slide
    return house


def drag(canvas, start: tuple[int, int], end: tuple[int, int]) -> None:
    QTest.mouseMove(canvas, QPoint(*start))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*start))
    for step in (0.5, 1.0):
        QTest.mouseMove(canvas, QPoint(*(round(a + (b - a) * step) for a, b in zip(start, end, strict=True))))
        QTest.qWait(20)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*end))


@pytest.mark.parametrize("which", ["slide", "tissue"])
def test_no_tool_takes_up_a_layer_that_is_pinned(opened, which: str) -> None:
    """Whoever asks: a key, a button of napari's, a script."""
    viewer, canvas = opened.viewer, canvas_widget(opened.viewer)
    layer = getattr(opened.controller.layers, which)
    layer.visible = True
    viewer.layers.selection.active = layer
    # Past the window's own keys: as napari gets them from wherever those do not reach.
    handler = viewer.window._qt_viewer._key_map_handler
    handler.press_key("2")
    handler.release_key("2")
    layer.mode = "transform"
    assert layer.mode == "pan_zoom"
    assert not layer._overlays["transform_box"].visible
    QTest.keyClick(canvas, Qt.Key.Key_3)
    assert magnification_of(viewer) == pytest.approx(5.0)
    before = camera_of(viewer).center
    drag(canvas, (300, 300), (360, 330))
    assert camera_of(viewer).center != before
    viewer.update_status_from_cursor()
    assert "transform" not in viewer.help
