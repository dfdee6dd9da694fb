"""The overview in the canvas' corner: it shows what it should where it should, and goes where it is clicked."""

from __future__ import annotations

import numpy as np
import pytest
from hands import click, pixels_of
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QEnterEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.overview_work import heat_work
from napari_metastasis._napari.regions import center_on, view_focus
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Point, Region, Size
from napari_metastasis.scanning import PROBABILITY, MapKind, MapValues
from napari_metastasis.slides import TissueMask

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(window, make_disc):
    window.viewer.window._qt_window.resize(1280, 800)
    path, phantom = make_disc(0.5)
    window.open(path)
    overview = window.workspace.microscope.overview
    window.until(lambda: overview.widget._thumbnail is not None)
    return window, phantom, overview


def test_it_shows_the_slide_in_the_corner_of_the_canvas_and_is_switched(opened) -> None:
    window, phantom, overview = opened
    widget, canvas = overview.widget, canvas_widget(window.viewer)
    assert widget.isVisible()
    assert canvas.width() - 20 < widget.geometry().right() < canvas.width()
    assert 0 < widget.geometry().top() < 20
    window.viewer.window._qt_window.resize(1400, 820)
    window.until(lambda: canvas.width() - 20 < widget.geometry().right() < canvas.width())
    # The disc is drawn where it lies.
    drawn = pixels_of(widget)
    red, green, blue, _ = np.moveaxis(drawn, -1, 0)
    rows, columns = np.nonzero((green < 90) & (blue > 90) & (red > green + 15))
    at = widget.place_of(phantom.center)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((at.x(), at.y()), abs=1)
    # Also in a picture of the whole window.
    picture = window.viewer.screenshot(canvas_only=False, flash=False)
    place = widget.mapTo(window.viewer.window._qt_window, at.toPoint())
    assert tuple(picture[place.y(), place.x(), :3]) == pytest.approx(drawn[int(at.y()), int(at.x()), :3], abs=12)
    # It is switched by its button and its key.
    bar = window.workspace.microscope.bar
    click(bar.overview)
    assert not widget.isVisible()
    QTest.keyClick(canvas_widget(window.viewer), Qt.Key.Key_O)
    assert widget.isVisible()
    assert bar.overview.isChecked()
    # Nothing is shown where the slide is not shown flat.
    window.viewer.dims.ndisplay = 3
    window.until(lambda: not widget.isVisible())
    window.viewer.dims.ndisplay = 2
    window.until(widget.isVisible)


def test_a_click_and_a_drag_go_there_and_the_frame_with_them(opened) -> None:
    window, _, overview = opened
    viewer, slide, widget = window.viewer, window.session.slide, overview.widget
    click(window.workspace.microscope.bar.magnifications[20.0])
    for quarters in range(4):
        for target in (Point(600.0, 500.0), Point(2000.0, 1500.0)):
            at = widget.place_of(target).toPoint()
            QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=at)
            px = 1 / widget._scale
            assert view_focus(viewer, slide).distance(target) <= px, quarters
        QTest.mousePress(widget, Qt.MouseButton.LeftButton, pos=at)
        QTest.mouseMove(widget, widget.place_of(Point(300.0, 300.0)).toPoint())
        QTest.mouseRelease(widget, Qt.MouseButton.LeftButton)
        assert view_focus(viewer, slide).distance(Point(300.0, 300.0)) <= 2 * px
        click(window.workspace.microscope.bar.right)
    # The frame is what the window shows, and turns with it.
    bar = window.workspace.microscope.bar
    for _ in range(4):
        click(bar.right)
        click(bar.magnifications[10.0])
        camera_of(viewer).center = center_on(viewer, Point(1000.0, 700.0), slide)
        window.qtbot.wait(30)
        view, frame = view_transform(viewer, slide), overview.widget.frame
        for corner, drawn in zip(view.corners, frame, strict=True):
            expected = overview.widget.place_of(corner)
            assert (drawn.x(), drawn.y()) == pytest.approx((expected.x(), expected.y()))
        # Rows and columns change places at every turn.
        width, height = frame.boundingRect().width(), frame.boundingRect().height()
        assert (width > height) == ((view.width > view.height) != view.transposed)
    click(bar.magnifications[40.0])
    camera_of(viewer).zoom *= 20
    window.qtbot.wait(30)
    small = overview.widget.frame.boundingRect()
    assert (small.width(), small.height()) == pytest.approx((6, 6), abs=0.1)
    middle = overview.widget.place_of(view_focus(viewer, slide))
    assert (small.center().x(), small.center().y()) == pytest.approx((middle.x(), middle.y()))


def half_scanned(slide):
    """Return a map whose left half was scanned, with one hot cell, and tissue in the middle of the slide."""
    frame = HeatmapFrame(model=slide.frame(1.0), patch_px=32, stride_px=16)
    values = np.full(frame.cells.shape, 0.1, np.float32)
    values[:, frame.cells.width // 2 :] = np.nan
    values[20, 12] = 0.9
    scale = 20
    mask = np.zeros((slide.size.height // scale, slide.size.width // scale), bool)
    mask[20:-20, 20:-20] = True
    return MapValues(PROBABILITY, frame, values), TissueMask(mask, LevelFrame(float(scale), slide.mpp), 0.5)


def test_heat_and_what_was_not_scanned_are_shown_where_they_lie(opened) -> None:
    window, _, overview = opened
    session, widget = window.session, overview.widget
    before = pixels_of(widget)
    own, tissue = half_scanned(session.slide)
    session.show_maps([own], model_name="", folder=None)
    session.show_tissue(tissue)
    window.until(lambda: widget._heat is not None and overview._heat.missing.any())
    after = pixels_of(widget)
    changed = np.abs(after - before)[..., :3].max(axis=-1) > 25
    hot = widget.place_of(own.frame.cell_center(12, 20))
    x, y = int(hot.x()), int(hot.y())
    assert tuple(after[y, x, :3]) == pytest.approx((255, 120, 0), abs=70)
    # Hatched: tissue of the right half, and nothing else but the hot cell.
    middle = round(widget.place_of(Point(session.slide.size.width / 2, 0)).x())
    left = changed.copy()
    left[y - 3 : y + 4, x - 3 : x + 4] = False
    assert not left[:, : middle - 3].any()
    inside = changed[70:110, middle + 10 : middle + 40]
    assert 0.05 < inside.mean() < 0.9
    assert not changed[:20].any()
    # The threshold hides heat at once.
    session.set_threshold(0.95)
    assert not (np.abs(pixels_of(widget) - before)[y - 2 : y + 3, x - 2 : x + 3, :3] > 25).any()
    session.set_threshold(0.5)
    # Cells that come in show themselves.
    own.values[:] = 0.1
    session.write_cells("probability", [(Region(30, 20, 1, 1), np.full((1, 1), 0.99, np.float32))])
    session.write_cells("probability", [(Region.of(own.frame.cells), own.values)])
    window.until(lambda: not overview._heat.missing.any())


def test_small_heat_is_what_lesions_are_read_from() -> None:
    """Against a slow account of every block: the highest blended probability, and tissue half unscanned."""
    rng = np.random.default_rng(4)
    frame = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=0.5, size=Size(4900, 3300)), patch_px=32, stride_px=16)
    values = rng.random(frame.cells.shape).astype(np.float32)
    values[rng.random(values.shape) < 0.6] = np.nan
    coarse = frame.coarser(2)
    refined = rng.random(coarse.cells.shape).astype(np.float32)
    mask = rng.random((330, 490)) < 0.4
    tissue = TissueMask(mask, LevelFrame(20.0, 0.5), 0.4)
    maps = [
        MapValues(PROBABILITY, frame, values),
        MapValues(MapKind(name="refined", title="", stem="r"), coarse, refined),
    ]
    small = heat_work(maps, [0.7], tissue, lambda: False)
    block = 3
    assert small.block_px == block * frame.cell_px
    assert small.corner == frame.cell_corner(0, 0)
    blended = 0.7 * np.repeat(np.repeat(refined, 2, 0), 2, 1)[: values.shape[0], : values.shape[1]] + 0.3 * values
    there = tissue.over(frame)
    for row in range(0, small.values.shape[0], 7):
        for column in range(0, small.values.shape[1], 5):
            part = (slice(row * block, (row + 1) * block), slice(column * block, (column + 1) * block))
            answered = blended[part][~np.isnan(blended[part])]
            expected = answered.max() if answered.size else np.nan
            np.testing.assert_allclose(small.values[row, column], expected, rtol=1e-5)
            lacking = there[part] & np.isnan(blended[part])
            assert small.missing[row, column] == (lacking.any() and 2 * lacking.sum() >= there[part].sum())


def test_what_rests_in_view_at_10x_was_looked_at(opened) -> None:
    window, _, overview = opened
    viewer, session, bar = window.viewer, window.session, window.workspace.microscope.bar
    looked_at = overview.looked_at(session)
    click(bar.magnifications[5.0])
    window.qtbot.wait(500)
    assert not looked_at.mask.any()
    for _ in range(2):
        # Turned, too.
        click(bar.right)
        for at in (Point(700.3, 1500.2), Point(1801.0, 333.0)):
            click(bar.magnifications[40.0])
            looked_at.mask[:] = False
            camera_of(viewer).center = center_on(viewer, at, session.slide)
            window.until(lambda at=at: bool(looked_at.mask[looked_at.cell_of(at)]))
            window.until(lambda: not overview._look.isActive())
            rows, columns = np.nonzero(looked_at.mask)
            view = view_transform(viewer, session.slide)
            xs, ys = [corner.x for corner in view.corners], [corner.y for corner in view.corners]
            side = looked_at.cell_px
            assert columns.min() * side == pytest.approx(max(0, min(xs)), abs=side)
            assert (columns.max() + 1) * side == pytest.approx(min(session.slide.size.width, max(xs)), abs=side)
            assert rows.min() * side == pytest.approx(max(0, min(ys)), abs=side)
            assert (rows.max() + 1) * side == pytest.approx(min(session.slide.size.height, max(ys)), abs=side)
    assert overview.widget._looked_at is not None


def test_a_flight_looks_at_nothing(opened) -> None:
    window, _, overview = opened
    viewer, session = window.viewer, window.session
    click(window.workspace.microscope.bar.magnifications[40.0])
    window.qtbot.wait(300)
    looked_at = overview.looked_at(session)
    looked_at.mask[:] = False
    # At every look the view has gone on, however slow the machine is.
    for x in range(300, 2100, 300):
        camera_of(viewer).center = center_on(viewer, Point(x, 300.0), session.slide)
        overview.follow_view(view_transform(viewer, session.slide))
        overview._on_look()
    assert not looked_at.mask.any()
    camera_of(viewer).center = center_on(viewer, Point(300.0, 1800.0), session.slide)
    window.until(lambda: looked_at.mask.any())
    row, column = looked_at.cell_of(Point(1000.0, 300.0))
    assert not looked_at.mask[row, column]


def test_another_slide_has_its_own_overview(opened, make_disc) -> None:
    window, _, overview = opened
    looked_at = overview.looked_at(window.session)
    looked_at.mask[0, 0] = True
    first = overview.widget._thumbnail
    path, _ = make_disc(0.972, "other")
    window.open(path)
    window.until(lambda: overview.widget._thumbnail is not None)
    assert overview.widget._thumbnail is not first
    assert not overview.looked_at(window.session).mask.any()
    window.workspace.show(window.workspace.controllers[0])
    assert overview.widget._thumbnail is first
    assert overview.looked_at(window.session) is looked_at
    # Over it, nothing is said of the slide below.
    cursor, canvas = window.workspace.microscope.cursor, canvas_widget(window.viewer)
    window.workspace.microscope.show_all()

    def move_there() -> bool:
        # The screen's own mouse may leave the canvas meanwhile.
        for step in (1, 0):
            QTest.mouseMove(canvas, canvas.rect().center() + QPoint(step, 0))
        return cursor.isVisible()

    window.until(move_there)
    QApplication.sendEvent(overview.widget, QEnterEvent(*[QPointF(5, 5)] * 3))
    assert not cursor.isVisible()
    # Beside it, the mouse is the slide's.
    at = overview.widget.geometry().topLeft() - QPoint(5, -5)
    assert canvas_widget(window.viewer).childAt(at) is not overview.widget
