"""What lies over the tissue: keys that hide it, results that no tool edits, clicks, names, the user's own shapes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Points, Shapes
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_metastasis._napari import layers as made
from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.overlay import HOLD_S, OverlayStrength, bind_overlay_keys
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis._napari.window_keys import WindowKeys
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.scanning import PROBABILITY, MapValues
from napari_metastasis.settings import DetectionSettings

pytestmark = pytest.mark.gui

MPP = 0.5
FRAME = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=MPP, size=Size(1600, 1200)), patch_px=96, stride_px=8)
LESION = (slice(60, 90), slice(80, 120))


def found_layers(viewer, name: str = "slide") -> SlideLayers:
    """Return the layers of a slide with one lesion."""
    session = SlideSession(SimpleNamespace(name=name, path=Path(f"{name}.tif"), mpp=MPP, size=Size(3200, 2400)))
    slide = viewer.add_image(
        [np.full((2400 // side, 3200 // side), 255, np.uint8) for side in (1, 4, 16)], multiscale=True,
        name=made.layer_name(name), contrast_limits=(0, 255), scale=(MPP, MPP), units=("um", "um"),
    )  # fmt: skip
    layers = SlideLayers(viewer, session, slide)
    values = np.zeros(FRAME.cells.shape, np.float32)
    values[LESION] = 0.9
    session.show_maps([MapValues(PROBABILITY, FRAME, values)], model_name="m", folder=None)
    session.set_threshold(0.5)
    session.show_lesions(LesionIndex(values, FRAME, DetectionSettings(threshold=0.1)))
    return layers


class Slide:
    """A slide with one lesion in a window that is shown."""

    def __init__(self, viewer, qtbot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.layers = found_layers(viewer)
        self.session = self.layers._session
        self.keys = WindowKeys(viewer)
        bind_overlay_keys(self.keys, lambda: self.layers, "H", "V")
        self.canvas = viewer.window._qt_viewer.canvas.native
        viewer.layers.selection.active = self.layers.slide
        viewer.window._qt_window.activateWindow()

    def press(self, key: Qt.Key, *, hold_s: float = 0.0) -> list[bool]:
        """Press a key in the canvas; return what is seen while it is held, and after."""
        QTest.keyPress(self.canvas, key)
        held = self.seen()
        time.sleep(hold_s)
        QTest.keyRelease(self.canvas, key)
        return [held, self.seen()]

    def seen(self) -> bool:
        layers = self.layers
        over = {layers.heatmap.visible, layers.detections.visible, layers.outlines.visible}
        assert len(over) == 1
        return over.pop()

    def click(self, x_px: float, y_px: float, *, drag_px: int = 0) -> None:
        """Click a level-0 location with the mouse."""
        camera = camera_of(self.viewer)
        y, x = ((value - 0.5) * MPP for value in (y_px, x_px))
        middle = np.array([self.canvas.width(), self.canvas.height()]) / 2
        at = middle + (np.array([x, y]) - np.array(camera.center[-2:])[::-1]) * camera.zoom
        spot = QPoint(*(round(value) for value in at))
        QTest.mouseMove(self.canvas, spot)
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=spot)
        if drag_px:
            for step in (drag_px // 2, drag_px):
                QTest.mouseMove(self.canvas, spot + QPoint(step, 0))
                self.qtbot.wait(20)
            spot = spot + QPoint(drag_px, 0)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=spot)


@pytest.fixture
def slide(make_napari_viewer, qtbot):
    slide = Slide(make_napari_viewer(show=True), qtbot)
    yield slide
    slide.keys.close()
    slide.layers.close(remove=False)


def test_a_short_press_toggles_the_overlay_and_a_long_one_lifts_it_while_held(slide: Slide) -> None:
    for key in (Qt.Key.Key_H, Qt.Key.Key_V):
        assert slide.seen(), key
        assert slide.press(key) == [False, False], key
        assert slide.layers.slide.visible, key
        assert slide.press(key) == [False, True], key
        assert slide.press(key, hold_s=HOLD_S + 0.05) == [False, True], key
        slide.press(key)
        # Bare already: a long look changes nothing.
        assert slide.press(key, hold_s=HOLD_S + 0.05) == [False, False], key
        slide.press(key)


def test_what_was_hidden_by_hand_stays_hidden_and_a_new_map_is_shown_with_the_rest(slide: Slide) -> None:
    layers = slide.layers
    layers.detections.visible = False
    layers.show_overlay(not layers.overlay_shown)
    values = slide.session.probabilities.copy()
    slide.session.show_maps([MapValues(PROBABILITY, FRAME, values)], model_name="m", folder=None)
    assert not layers.heatmap.visible
    layers.show_overlay(not layers.overlay_shown)
    assert (layers.heatmap.visible, layers.detections.visible) == (True, False)


def test_strength_is_kept_from_slide_to_slide(slide: Slide) -> None:
    slide.layers.strength = 0.25
    assert slide.layers.heatmap.opacity == 0.25
    other = found_layers(slide.viewer, "other")
    assert other.heatmap.opacity == other.strength == 0.25
    OverlayStrength.of(slide.viewer).value = 7
    assert slide.layers.heatmap.opacity == other.heatmap.opacity == 1.0
    other.close(remove=False)


@pytest.mark.parametrize("which", ["detections", "mined"])
def test_points_of_results_are_not_edited_by_keys_or_clicks(slide: Slide, which: str) -> None:
    viewer = slide.viewer
    slide.layers.show_mined([SimpleNamespace(x=1000.0, y=900.0, probability=0.9)])
    points = getattr(slide.layers, which)
    before = points.data.copy()
    assert len(before)
    viewer.layers.selection = {points}
    middle = FRAME.cell_center(100, 75)
    camera_of(viewer).center, camera_of(viewer).zoom = ((middle.y - 0.5) * MPP, (middle.x - 0.5) * MPP), 1.0
    for visible in (False, True):
        points.visible = visible
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    for key in (Qt.Key.Key_2, Qt.Key.Key_3, Qt.Key.Key_4, Qt.Key.Key_A, Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
        QTest.keyClick(slide.canvas, key)
        slide.click(middle.x + 200, middle.y + 100)
        slide.click(*before[0][::-1])
        slide.click(*before[0][::-1], drag_px=40)
        assert not points.editable
        assert points.mode == "pan_zoom"
        assert not points.selected_data
    QTest.keyClick(slide.canvas, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(slide.canvas, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    points.mode = "add"
    slide.click(middle.x + 200, middle.y + 100)
    points.selected_data = {0}
    points.remove_selected()
    np.testing.assert_array_equal(points.data, before)
    # They still follow the threshold.
    slide.session.set_threshold(0.95)
    slide.session.follow_threshold()
    assert len(slide.layers.detections.data) == 0
    # The user's own points can be edited.
    own = viewer.add_points([[1.0, 1.0]])
    assert isinstance(own, Points)
    own.selected_data = {0}
    own.remove_selected()
    assert len(own.data) == 0


def test_a_click_on_a_lesion_chooses_it_and_a_drag_does_not(slide: Slide) -> None:
    lesion = int(slide.session.found.labels[LESION].max())
    inside, beside = FRAME.cell_center(90, 75), FRAME.cell_center(20, 75)
    camera_of(slide.viewer).center, camera_of(slide.viewer).zoom = ((inside.y - 0.5) * MPP, (inside.x - 0.5) * MPP), 0.4
    slide.click(inside.x, inside.y, drag_px=30)
    assert slide.session.selected is None
    camera_of(slide.viewer).center = ((inside.y - 0.5) * MPP, (inside.x - 0.5) * MPP)
    slide.click(inside.x, inside.y)
    assert slide.session.selected == lesion
    slide.click(beside.x, beside.y)
    assert slide.session.selected == lesion
    slide.session.select(None)
    # A few screen pixels beside a small lesion still mean it.
    near = FRAME.cell_center(79, 75)
    slide.click(near.x - 3 / 0.4 / MPP, near.y)
    assert slide.session.selected == lesion


def test_a_click_while_a_shape_is_drawn_chooses_nothing(slide: Slide) -> None:
    shapes = slide.viewer.add_shapes(ndim=2)
    shapes.mode = "add_rectangle"
    inside = FRAME.cell_center(90, 75)
    camera_of(slide.viewer).center = ((inside.y - 0.5) * MPP, (inside.x - 0.5) * MPP)
    slide.click(inside.x, inside.y)
    assert slide.session.selected is None


def test_names_of_layers_are_short_and_one_of_a_kind(slide: Slide) -> None:
    other = found_layers(slide.viewer, "patient_020_node_4_tumour_stain_HE_scanned_twice")
    third = found_layers(slide.viewer, "patient_020_node_4_tumour_stain_HE_scanned_again")
    names = [layer.name for layer in slide.viewer.layers]
    assert {"Tumour probability", "Detections"} <= set(names)
    assert max(map(len, names)) <= 28
    assert len(set(names)) == len(names)
    assert any(name.endswith("…") for name in names)
    other.close(remove=False)
    third.close(remove=False)


def test_shapes_belong_to_the_slide_they_are_drawn_over_and_are_seen_through(slide: Slide) -> None:
    viewer, first = slide.viewer, slide.layers
    viewer.window._qt_viewer.layerButtons.newShapesButton.click()
    mine = next(layer for layer in viewer.layers if isinstance(layer, Shapes))
    mine.add_rectangles([[[100, 100], [300, 400]]])
    np.testing.assert_allclose(mine.face_color[0][3], 0)
    np.testing.assert_allclose(mine.edge_color[0][3], 1)
    camera = camera_of(viewer)
    assert mine.edge_width[0] * mine.scale[-1] * camera.zoom == pytest.approx(3, rel=0.01)
    second = found_layers(viewer, "second")
    first.set_visible(False)
    assert not mine.visible
    theirs = viewer.add_shapes([[[0, 0], [10, 10]]], face_color="red", name="theirs")
    np.testing.assert_allclose(theirs.face_color[0], (1, 0, 0, 1))  # as from a file: it keeps its looks
    second.set_visible(False)
    first.set_visible(True)
    assert (mine.visible, theirs.visible) == (True, False)
    # One that was hidden by hand stays hidden.
    mine.visible = False
    first.set_visible(False)
    second.set_visible(True)
    first.set_visible(True)
    assert (mine.visible, theirs.visible) == (False, True)
    second.close(remove=False)


def test_a_slide_is_sharp_again_after_3d(slide: Slide) -> None:
    camera_of(slide.viewer).zoom = 4.0
    layer = slide.layers.slide
    slide.qtbot.waitUntil(lambda: layer.data_level == 0, timeout=20_000)
    slide.viewer.dims.ndisplay = 3
    slide.qtbot.wait(50)
    assert layer.data_level == 2
    slide.viewer.dims.ndisplay = 2
    slide.qtbot.waitUntil(lambda: layer.data_level == 0 and layer.loaded, timeout=20_000)
    assert layer._slice_input.ndisplay == 2
