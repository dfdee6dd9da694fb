"""The keys of a window: wherever the focus is, whatever is selected, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari import Viewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QDockWidget,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari import overlay
from napari_metastasis._napari.compat import camera_of, canvas_widget, window_of
from napari_metastasis._napari.magnification import MAGNIFICATIONS, magnification_of
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.scanning import PROBABILITY, MapValues

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(house, make_disc):
    """The program's window with a slide, which is selected, and something to see over it."""
    path, _ = make_disc(0.5)
    house.open(path)
    size = house.session.slide.size
    model = ModelFrame(scale=2.0, mpp=0.5, size=Size(size.width // 2, size.height // 2))
    frame = HeatmapFrame(model=model, patch_px=96, stride_px=8)
    values = np.full(frame.cells.shape, 0.9, np.float32)
    house.session.show_maps([MapValues(PROBABILITY, frame, values)], model_name="m", folder=None)
    house.viewer.layers.selection.active = house.controller.layers.slide
    return house


def drag(canvas, start: tuple[int, int], end: tuple[int, int]) -> None:
    QTest.mouseMove(canvas, QPoint(*start))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*start))
    for step in (0.5, 1.0):
        QTest.mouseMove(canvas, QPoint(*(round(a + (b - a) * step) for a, b in zip(start, end, strict=True))))
        QTest.qWait(20)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(*end))


def test_no_tool_takes_up_a_layer_that_is_pinned(opened) -> None:
    """Whoever asks: a key, a button of napari's, a script."""
    for layer in (opened.controller.layers.slide, opened.controller.layers.tissue):
        take_up(opened, layer)


def take_up(opened, layer) -> None:
    """Try every way to take up a tool of a pinned layer."""
    viewer, canvas = opened.viewer, canvas_widget(opened.viewer)
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


def receivers(window) -> list[QWidget]:
    """Return widgets that a person has clicked last: Qt gives the keys to them."""
    table, slides = window.panel.results_part.table, window.slides.list
    sliders = [each for each in window.panel.findChildren(QAbstractSlider) if each.isVisible()]
    assert sliders
    return [
        canvas_widget(window.viewer),
        window_of(window.viewer),
        table,
        table.viewport(),
        slides,
        slides.viewport(),
        sliders[0],
        window.panel.scan_part.slide_button,
        window.slides.close_button,
        window.panel.results_part.reviewed,
        window.panel,
    ]


def test_every_key_works_wherever_the_last_click_was(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, a key that goes down and up was not held.
    monkeypatch.setattr(overlay, "HOLD_S", 60.0)
    viewer, workspace = opened.viewer, opened.workspace
    session, layers, microscope = opened.session, opened.controller.layers, workspace.microscope
    workspace.scan_wanted.disconnect()
    workspace.finding_wanted.disconnect()
    asked = []
    workspace.scan_wanted.connect(lambda: asked.append("scan"))
    workspace.finding_wanted.connect(asked.append)
    shift = Qt.KeyboardModifier.ShiftModifier
    for widget in receivers(opened):
        for number, value in enumerate(MAGNIFICATIONS, start=1):
            QTest.keyClick(widget, str(number))
            assert magnification_of(viewer) == pytest.approx(value), widget
        QTest.keyClick(widget, Qt.Key.Key_Home)
        assert magnification_of(viewer) < MAGNIFICATIONS[-1], widget
        for key, switch in ((Qt.Key.Key_M, microscope.bar.ruler), (Qt.Key.Key_O, microscope.bar.overview)):
            before = switch.isChecked()
            QTest.keyClick(widget, key)
            assert switch.isChecked() is not before, widget
            QTest.keyClick(widget, key)
        microscope.bar.ruler.setChecked(True)
        QTest.keyClick(widget, Qt.Key.Key_Escape)
        assert not microscope.bar.ruler.isChecked(), widget
        threshold = session.threshold
        QTest.keyClick(widget, Qt.Key.Key_BracketRight)
        assert session.threshold == pytest.approx(threshold + 0.05), widget
        QTest.keyClick(widget, Qt.Key.Key_BracketLeft)
        assert session.threshold == pytest.approx(threshold), widget
        for key in (Qt.Key.Key_H, Qt.Key.Key_V):
            QTest.keyPress(widget, key)
            assert not layers.overlay_shown, widget
            QTest.keyRelease(widget, key)
            QTest.keyClick(widget, key)
            assert layers.overlay_shown, widget
        QTest.keyClick(widget, Qt.Key.Key_N)
        QTest.keyClick(widget, Qt.Key.Key_N, shift)
        QTest.keyClick(widget, Qt.Key.Key_S, shift)
        assert asked == [1, -1, "scan"], widget
        asked.clear()
    # From the window's frame on, which hands them to what has the focus.
    slides, frame = opened.slides.list, window_of(opened.viewer).windowHandle()
    spot = slides.visualItemRect(slides.item(0)).center()
    QTest.mouseClick(slides.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    assert window_of(opened.viewer).focusWidget() is slides
    for key, value in ((Qt.Key.Key_2, 2.5), (Qt.Key.Key_3, 5.0)):
        QTest.keyClick(frame, key)
        assert magnification_of(opened.viewer) == pytest.approx(value)
    ruler = opened.workspace.microscope.bar.ruler
    QTest.keyClick(frame, Qt.Key.Key_M)
    assert ruler.isChecked()
    QTest.keyClick(frame, Qt.Key.Key_Escape)
    assert not ruler.isChecked()
    QTest.keyPress(frame, Qt.Key.Key_H)
    assert not opened.controller.layers.overlay_shown
    QTest.keyRelease(frame, Qt.Key.Key_H)
    assert not opened.controller.layers.overlay_shown


def test_napari_sees_neither_the_press_nor_the_release_of_a_key_that_is_taken(opened) -> None:
    scene = opened.viewer.window._qt_viewer.canvas._scene_canvas
    seen = []

    def see(event) -> None:
        # Shift alone is nobody's.
        if event.key.name != "Shift":
            seen.append(event.type)

    scene.events.key_press.connect(see)
    scene.events.key_release.connect(see)
    for widget in (canvas_widget(opened.viewer), window_of(opened.viewer)):
        QTest.keyClick(widget, Qt.Key.Key_2)
        QTest.keyClick(widget, Qt.Key.Key_S, Qt.KeyboardModifier.ShiftModifier)
        assert seen == []
        # Shift is let go of before the key.
        QTest.keyPress(widget, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        QTest.keyRelease(widget, Qt.Key.Key_N)
        assert seen == []
        QTest.keyClick(widget, Qt.Key.Key_9)
        assert set(seen) == {"key_press", "key_release"}
        seen.clear()


def test_a_field_keeps_what_is_typed_into_it(opened) -> None:
    editable = QComboBox()
    editable.setEditable(True)
    fields = [QLineEdit(), QPlainTextEdit(), QTextEdit(), editable, QSpinBox()]
    own = [each for each in opened.panel.findChildren(QAbstractSpinBox) if each.isEnabled()]
    assert own
    dock, inside = QDockWidget(), QWidget()
    layout = QVBoxLayout(inside)
    for field in fields:
        layout.addWidget(field)
    dock.setWidget(inside)
    window_of(opened.viewer).addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    for floating in (False, True):
        dock.setFloating(floating)
        for field in (*fields, editable.lineEdit(), fields[-1].lineEdit(), *own):
            before = magnification_of(opened.viewer), opened.session.threshold, opened.controller.layers.overlay_shown
            QTest.keyClicks(field, "2")
            QTest.keyClicks(field, "]hmN")
            after = magnification_of(opened.viewer), opened.session.threshold, opened.controller.layers.overlay_shown
            assert after == before, field
        # What is no field there hands the keys on, also out of the window's frame.
        QTest.keyClick(inside, Qt.Key.Key_3 if floating else Qt.Key.Key_2)
        assert magnification_of(opened.viewer) == pytest.approx(5.0 if floating else 2.5)
    assert fields[0].text() == "2]hmN" * 2
    assert fields[1].toPlainText() == fields[2].toPlainText() == "2]hmN" * 2
    assert fields[-1].value() == 22
    window_of(opened.viewer).removeDockWidget(dock)
    dock.deleteLater()


def test_an_open_menu_and_a_dialog_keep_the_keys(opened) -> None:
    viewer, window = opened.viewer, window_of(opened.viewer)
    QTest.keyClick(window, Qt.Key.Key_1)
    menu = QMenu(window)
    menu.addAction("Entry")
    menu.popup(window.mapToGlobal(QPoint(100, 100)))
    for widget in (menu, canvas_widget(viewer)):
        QTest.keyClick(widget, Qt.Key.Key_4)
    menu.close()
    dialog = QDialog(window)
    button = QPushButton("Yes", dialog)
    dialog.show()
    QTest.keyClick(button, Qt.Key.Key_4)
    assert magnification_of(viewer) == pytest.approx(1.25)
    # One that stays open beside the window takes nothing from it.
    QTest.keyClick(window, Qt.Key.Key_3)
    dialog.setModal(True)
    dialog.hide()
    dialog.show()
    QTest.keyClick(canvas_widget(viewer), Qt.Key.Key_4)
    dialog.close()
    assert magnification_of(viewer) == pytest.approx(5.0)


def test_a_layer_of_labels_gets_its_keys_only_while_it_is_edited(opened) -> None:
    viewer, session, canvas = opened.viewer, opened.session, canvas_widget(opened.viewer)
    labels = viewer.add_labels(np.zeros((20, 20), int))
    viewer.layers.selection.active = labels
    threshold, brush = session.threshold, labels.brush_size
    QTest.keyClick(canvas, Qt.Key.Key_BracketRight)
    assert (session.threshold, labels.brush_size) == (pytest.approx(threshold + 0.05), brush)
    labels.mode = "paint"
    QTest.keyClick(canvas, Qt.Key.Key_BracketRight)
    assert (session.threshold, labels.brush_size) == (pytest.approx(threshold + 0.05), brush + 1)
    # Keys that its tools do not use are the window's all the same.
    QTest.keyPress(canvas, Qt.Key.Key_H)
    assert not opened.controller.layers.overlay_shown
    QTest.keyRelease(canvas, Qt.Key.Key_H)


def test_another_window_and_a_closed_workspace_leave_the_keys_alone(
    window, make_napari_viewer: Callable[..., Viewer], make_disc: Callable, window_class: type
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    bare = make_napari_viewer(show=True)
    labels = bare.add_labels(np.zeros((20, 20), int))
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_1)
    QTest.keyClick(canvas_widget(bare), Qt.Key.Key_2)
    assert labels.mode == "paint"
    assert magnification_of(window.viewer) == pytest.approx(1.25)
    other = window_class(bare, window.qtbot)
    other.open(path)
    QTest.keyClick(canvas_widget(bare), Qt.Key.Key_3)
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_4)
    assert magnification_of(bare) == pytest.approx(5.0)
    assert magnification_of(window.viewer) == pytest.approx(10.0)
    other.workspace.close()
    bare.layers.selection.active = None
    QTest.keyClick(canvas_widget(bare), Qt.Key.Key_4)
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_5)
    assert magnification_of(bare) == pytest.approx(5.0)
    assert magnification_of(window.viewer) == pytest.approx(20.0)
    other.settle()
