"""The ruler: its lines are as long as the slide says, stay, belong to their slide, and go when they should."""

from __future__ import annotations

import numpy as np
import pytest
from hands import click, drag, painted_by
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.regions import center_on
from napari_metastasis._napari.ruler import Measured
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import Point
from napari_metastasis.lesions import SIZE_CLASSES

pytestmark = pytest.mark.gui


@pytest.fixture
def measuring(window, make_disc):
    window.viewer.window._qt_window.resize(1280, 800)
    path, phantom = make_disc(0.5)
    window.open(path)
    window.qtbot.wait(50)
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_M)
    assert window.workspace.microscope.bar.ruler.isChecked()
    return window, phantom


def test_a_drag_over_a_known_distance_measures_it(measuring) -> None:
    """At every zoom and in every quarter turn, to a pixel of the screen; the disc is 300 µm wide."""
    window, phantom = measuring
    viewer, slide, microscope = window.viewer, window.session.slide, window.workspace.microscope
    canvas, ruler = canvas_widget(viewer), microscope.ruler
    reach = phantom.radius_px
    for magnification in (5.0, 10.0, 20.0):
        for _ in range(4):
            click(microscope.bar.right)
            click(microscope.bar.magnifications[magnification])
            camera_of(viewer).center = center_on(viewer, phantom.center, slide)
            window.qtbot.wait(20)
            view = view_transform(viewer, slide)
            ends = [Point(phantom.center.x + side * reach, phantom.center.y) for side in (-1, 1)]
            start, end = ([round(value) for value in view.to_canvas(point)] for point in ends)
            before = np.array(camera_of(viewer).center)
            drag(canvas, start, end)
            # The slide did not move with the mouse.
            np.testing.assert_allclose(camera_of(viewer).center, before)
            line = ruler.lines[-1]
            assert line.length_um == pytest.approx(300.0, abs=view.px * slide.mpp)
            assert line.start.distance(ends[0]) <= view.px
            assert line.end.distance(ends[1]) <= view.px
            # The readout followed the mouse all the while.
            assert microscope.cursor.text().startswith(f"x {line.end.x * 0.0005:.2f} mm, y {line.end.y * 0.0005:.2f}")
    assert len(ruler.lines) == 12
    # They stay where they lie on the slide, whatever the view does.
    kept = ruler.lines
    click(microscope.bar.home)
    assert ruler.lines == kept
    assert ruler.overlay.isVisible()


@pytest.mark.parametrize(
    ("um", "length", "limit", "size_class"),
    [
        (187.4, "187 µm", "≤ 0.2 mm", "itc"),
        (200.0, "200 µm", "≤ 0.2 mm", "itc"),
        (201.0, "201 µm", "≤ 2 mm", "micro"),
        (999.7, "1.00 mm", "≤ 2 mm", "micro"),
        (2000.0, "2.00 mm", "≤ 2 mm", "micro"),
        (2140.0, "2.14 mm", "> 2 mm", "macro"),
    ],
)
def test_a_line_names_its_length_and_its_limit(um, length, limit, size_class) -> None:
    line = Measured(Point(10, 10), Point(10, 10 + um / 0.5), mpp=0.5)
    assert (line.length_text, line.limit_text) == (length, limit)
    assert line.text == f"{length}  ({limit})"
    assert line.color.getRgb()[:3] == SIZE_CLASSES[size_class].rgb


def test_lines_are_drawn_thin_where_they_lie_and_the_limits_while_a_line_is_drawn(measuring) -> None:
    window, phantom = measuring
    viewer, slide, microscope = window.viewer, window.session.slide, window.workspace.microscope
    canvas, overlay = canvas_widget(viewer), microscope.ruler.overlay
    click(microscope.bar.magnifications[10.0])
    camera_of(viewer).center = center_on(viewer, phantom.center, slide)
    window.qtbot.wait(50)
    middle = view_transform(viewer, slide).to_canvas(phantom.center)
    x, y = (round(value) for value in middle)
    assert x > 210
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
    QTest.mouseMove(canvas, QPoint(x + 60, y))
    drawn = painted_by(overlay)
    # The circle of 0.2 mm around the start is 200 pixels from it at 10x, at 1 µm a pixel.
    ring = drawn[y - 2 : y + 3, x - 203 : x - 197, 3]
    assert ring.any()
    assert not drawn[y - 60 : y - 50, x - 60 : x + 50, 3].any()
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=QPoint(x + 60, y))
    window.qtbot.wait(20)
    drawn = painted_by(overlay)
    assert not drawn[y - 2 : y + 3, x - 203 : x - 197, 3].any()
    column = drawn[y - 10 : y + 10, x + 30]
    assert 2 <= np.count_nonzero(column[:, 3] > 200) <= 6
    assert tuple(drawn[y, x + 30, :3]) == SIZE_CLASSES["itc"].rgb


def test_lines_go_by_their_cross_by_delete_and_all_at_once(measuring, monkeypatch) -> None:
    window, _ = measuring
    microscope, canvas = window.workspace.microscope, canvas_widget(window.viewer)
    ruler = microscope.ruler
    for row in range(4):
        drag(canvas, (60, 60 + 40 * row), (160, 60 + 40 * row))
    first, second, third, fourth = ruler.lines
    at = ruler.overlay.cross_rect(second).center().toPoint()
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    assert ruler.lines == (first, third, fourth)
    QTest.keyClick(canvas, Qt.Key.Key_Delete)
    assert ruler.lines == (first, third)
    # Put away, the mouse moves the slide again; a × still takes its line away, and Delete is napari's.
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not microscope.bar.ruler.isChecked()
    before = tuple(camera_of(window.viewer).center)
    drag(canvas, (60, 300), (160, 300))
    window.until(lambda: tuple(camera_of(window.viewer).center) != before)
    QTest.keyClick(canvas, Qt.Key.Key_Delete)
    assert ruler.lines == (first, third)
    at = ruler.overlay.cross_rect(third).center().toPoint()
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    assert ruler.lines == (first,)
    QTest.keyClick(canvas, Qt.Key.Key_M)
    drag(canvas, (60, 340), (160, 340))
    QTest.keyClick(canvas, Qt.Key.Key_Delete, Qt.KeyboardModifier.ShiftModifier)
    assert ruler.lines == ()
    assert not ruler.overlay.isVisible()
    # A click without a drag is no line.
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(200, 200))
    assert ruler.lines == ()
    # The mouse is a cross while the ruler is taken up, whatever napari shows at every step of a zoom.
    camera_of(window.viewer).zoom *= 1.5
    window.qtbot.wait(50)
    assert canvas.cursor().shape() == Qt.CursorShape.CrossCursor
    QTest.keyClick(canvas, Qt.Key.Key_M)
    assert canvas.cursor().shape() != Qt.CursorShape.CrossCursor
    # Escape with the ruler stops no scan.
    stopped = []
    monkeypatch.setattr(window.controller, "cancel", lambda: stopped.append(True))
    QTest.keyClick(canvas, Qt.Key.Key_M)
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not stopped
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert stopped


def test_lines_belong_to_their_slide(measuring, make_disc) -> None:
    window, _ = measuring
    microscope, canvas = window.workspace.microscope, canvas_widget(window.viewer)
    drag(canvas, (60, 60), (160, 60))
    lines = microscope.ruler.lines
    other, _ = make_disc(0.5, "other")
    window.open(other)
    assert microscope.ruler.lines == ()
    assert not microscope.ruler.overlay.isVisible()
    window.workspace.show(window.workspace.controllers[0])
    assert microscope.ruler.lines == lines
    assert microscope.ruler.overlay.isVisible()
    # They are there again when it is closed and opened again.
    looked_at = microscope.overview.looked_at(window.session)
    looked_at.mask[1, 2] = True
    path = window.session.slide.path
    window.workspace.close_current()
    window.until(lambda: window.session.slide.name == "other")
    assert microscope.ruler.lines == ()
    window.open(path)
    assert microscope.ruler.lines == lines
    assert microscope.ruler.overlay.isVisible()
    again = microscope.overview.looked_at(window.session)
    assert again is not looked_at
    np.testing.assert_array_equal(again.mask, looked_at.mask)
