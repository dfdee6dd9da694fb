"""The bar over the slide and its keys: magnifications as at a microscope, the whole slide, quarter turns."""

from __future__ import annotations

import numpy as np
import pytest
from hands import click
from napari.layers import Points
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.compat import camera_of, canvas_size, canvas_widget
from napari_metastasis._napari.magnification import magnification_of, magnification_text
from napari_metastasis._napari.regions import center_on, view_focus, view_region
from napari_metastasis._napari.rotation import Orientation, orientation_of, set_orientation
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import Point, Region

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(window, make_disc):
    """A window of a usual size that shows a slide of 0.5 µm per pixel."""
    window.viewer.window._qt_window.resize(1280, 800)
    path, phantom = make_disc(0.5)
    window.open(path)
    window.qtbot.wait(50)
    return window, phantom


def test_the_magnification_follows_the_wheel_and_the_screen(opened, monkeypatch) -> None:
    window, _ = opened
    bar = window.workspace.microscope.bar
    click(bar.magnifications[10.0])
    camera_of(window.viewer).zoom *= 1.02
    window.until(lambda: bar.shown.text() == "10.2×")
    assert bar.magnifications[10.0].isChecked()
    camera_of(window.viewer).zoom *= 1.3
    window.until(lambda: bar.shown.text() == "13.3×")
    assert not any(button.isChecked() for button in bar.magnifications.values())
    # A dense screen shows half as many µm on a point.
    monkeypatch.setattr(canvas_widget(window.viewer), "devicePixelRatioF", lambda: 2.0)
    click(bar.magnifications[20.0])
    assert camera_of(window.viewer).zoom == pytest.approx(1.0)
    assert magnification_of(window.viewer) == pytest.approx(20.0)


def test_layers_side_by_side_have_no_one_place_under_the_mouse(opened) -> None:
    window, _ = opened
    viewer, microscope = window.viewer, window.workspace.microscope
    canvas = canvas_widget(viewer)
    QTest.mouseMove(canvas, canvas.rect().center())
    window.until(microscope.cursor.isVisible)
    viewer.canvas.grid.enabled = True
    window.until(lambda: not microscope.cursor.isVisible())
    assert view_transform(viewer, window.session.slide) is None
    assert not microscope.overview.widget.isVisible()
    viewer.canvas.grid.enabled = False
    window.until(microscope.cursor.isVisible)


def test_a_key_that_is_held_switches_once_and_a_layer_that_is_edited_keeps_its_keys(opened) -> None:
    window, _ = opened
    viewer, bar = window.viewer, window.workspace.microscope.bar
    canvas = canvas_widget(viewer)
    QTest.keyPress(canvas, Qt.Key.Key_M)
    for _ in range(3):
        nothing = Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(canvas, QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_M, nothing, "m", True))
    QTest.keyRelease(canvas, Qt.Key.Key_M)
    assert bar.ruler.isChecked()
    points = viewer.add_points([[1.0, 2.0]], units=("um", "um"))
    points.mode = "select"
    before = magnification_of(viewer)
    QTest.keyClick(canvas_widget(viewer), Qt.Key.Key_2)
    assert isinstance(viewer.layers.selection.active, Points)
    assert str(points.mode) == "add"
    assert magnification_of(viewer) == before


def test_home_shows_all_of_the_slide_and_nothing_else_counts(opened) -> None:
    window, _ = opened
    viewer, slide = window.viewer, window.session.slide
    viewer.add_points([[9e5, 9e5]], units=("um", "um"))
    for show in (
        lambda: click(window.workspace.microscope.bar.home),
        lambda: QTest.keyClick(canvas_widget(viewer), Qt.Key.Key_Home),
    ):
        click(window.workspace.microscope.bar.magnifications[40.0])
        show()
        assert view_focus(viewer, slide).distance(Region.of(slide.size).center) < 1e-6
        assert view_region(viewer, slide) == Region.of(slide.size)
        shown = np.array(canvas_size(viewer)) / camera_of(viewer).zoom / slide.mpp
        assert 0.9 < max(slide.size.width / shown[0], slide.size.height / shown[1]) < 1


def test_without_a_slide_the_bar_offers_nothing(window) -> None:
    bar = window.workspace.microscope.bar
    assert not any(button.isEnabled() for button in (*bar.magnifications.values(), bar.home, bar.ruler, bar.label))
    assert bar.shown.text() == "–"
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_3)
    assert bar.shown.text() == "–"
    # Tooltips name the keys.
    for number, button in enumerate(bar.magnifications.values(), 1):
        assert f"({number})" in button.toolTip()
    assert "(Home)" in bar.home.toolTip()
    assert "(M)" in bar.ruler.toolTip()
    assert "(O)" in bar.overview.toolTip()


@pytest.mark.parametrize(
    ("value", "text"), [(0.4166, "0.42×"), (1.25, "1.25×"), (12.44, "12.4×"), (40.0, "40×"), (163.2, "163×")]
)
def test_a_magnification_has_three_digits_that_mean_something(value, text) -> None:
    assert magnification_text(value) == text


ORIENTATIONS = [
    Orientation(transposed, down, across)
    for transposed in (False, True)
    for down in ("down", "up")
    for across in ("right", "left")
]


def test_canvas_pixels_lie_where_napari_draws_them(opened) -> None:
    """Against napari's own account, in all eight ways that axes can lie."""
    window, _ = opened
    viewer, slide = window.viewer, window.session.slide
    click(window.workspace.microscope.bar.magnifications[10.0])
    for orientation in ORIENTATIONS:
        set_orientation(viewer, orientation)
        assert orientation_of(viewer) == orientation
        window.qtbot.wait(50)
        view = view_transform(viewer, slide)
        canvas = viewer.window._qt_viewer.canvas
        for x, y in ((0.0, 0.0), (123.0, 45.0), (view.width, view.height)):
            um_y, um_x = canvas._map_canvas2world((x, y), canvas.view)[-2:]
            napari_says = Point.from_um(um_x, um_y, mpp=slide.mpp)
            assert view.to_slide(x, y).distance(napari_says) < 0.01
            assert view.to_canvas(napari_says) == pytest.approx((x, y), abs=0.01)


def disc_on_screen(window) -> tuple[float, float]:
    """Return where napari drew the dark disc, in canvas pixels."""
    canvas = canvas_widget(window.viewer)
    image = window.viewer.screenshot(canvas_only=True, flash=False)
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    # Purple and dark: neither the window's background nor the blue scale bar.
    dark = (green < 100) & (blue - green > 40) & (red > green + 20)
    rows, columns = np.nonzero(dark)
    scale = image.shape[1] / canvas.width()
    return (columns.mean() + 0.5) / scale, (rows.mean() + 0.5) / scale


def test_quarter_turns_turn_the_picture_and_come_back(opened) -> None:
    window, phantom = opened
    viewer, slide, bar = window.viewer, window.session.slide, window.workspace.microscope.bar
    click(bar.home)
    center = Region.of(slide.size).center
    dx, dy = phantom.center.x - center.x, phantom.center.y - center.y
    # A quarter turn clockwise takes what lay to the right downwards.
    for quarter in range(1, 5):
        click(bar.right)
        dx, dy = -dy, dx
        window.qtbot.wait(300)
        view = view_transform(viewer, slide)
        x, y = disc_on_screen(window)
        assert x - view.width / 2 == pytest.approx(dx / view.px, abs=1.5), quarter
        assert y - view.height / 2 == pytest.approx(dy / view.px, abs=1.5), quarter
        assert view.to_canvas(phantom.center) == pytest.approx((x, y), abs=1.5)
    assert orientation_of(viewer) == Orientation()
    click(bar.left)
    click(bar.right)
    assert orientation_of(viewer) == Orientation()


def test_a_turned_view_keeps_its_middle_and_tells_its_region(opened) -> None:
    window, _ = opened
    viewer, slide, bar = window.viewer, window.session.slide, window.workspace.microscope.bar
    click(bar.magnifications[20.0])
    at, lesion = Point(1000.0, 900.0), Point(1200.0, 800.0)
    for _ in range(4):
        camera_of(viewer).center = center_on(viewer, at, slide)
        click(bar.right)
        assert view_focus(viewer, slide).distance(at) < 1e-6
        assert magnification_of(viewer) == pytest.approx(20)
        region, view = view_region(viewer, slide), view_transform(viewer, slide)
        xs, ys = [corner.x for corner in view.corners], [corner.y for corner in view.corners]
        assert (region.x, region.right) == pytest.approx((max(0, min(xs)), min(slide.size.width, max(xs))), abs=1)
        assert (region.y, region.bottom) == pytest.approx((max(0, min(ys)), min(slide.size.height, max(ys))), abs=1)
        # Flying to a lesion puts it in the middle.
        camera_of(viewer).center = center_on(viewer, lesion, slide)
        x, y = view_transform(viewer, slide).to_canvas(lesion)
        assert (x, y) == pytest.approx((view.width / 2, view.height / 2))
