"""What is said of the place under the mouse: where it lies, and how probable tumour is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.cursor import cursor_text
from napari_metastasis._napari.regions import center_on
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.scanning import PROBABILITY, MapKind, MapValues

pytestmark = pytest.mark.gui

REFINED = MapKind(name="refined", title="Refined", stem="refined")


def maps_of(slide, *, refined: bool):
    """Return a map that holds its cell's own number, and a refined one of half as many cells a side."""
    frame = HeatmapFrame(model=slide.frame(1.0), patch_px=32, stride_px=16)
    shape = frame.cells.shape
    values = (np.arange(shape[0] * shape[1], dtype=np.float32) / (shape[0] * shape[1])).reshape(shape)
    values[:, 0] = np.nan
    found = [MapValues(PROBABILITY, frame, values)]
    if refined:
        coarse = frame.coarser(2)
        later = np.full(coarse.cells.shape, 0.25, np.float32)
        later[0] = np.nan
        found.append(MapValues(REFINED, coarse, later))
    return found


def test_the_value_is_the_one_that_lesions_are_read_from(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    session = window.session
    own = maps_of(session.slide, refined=False)[0]
    at = own.frame.cell_center(7, 5)
    place = f"x {at.x * 0.0005:.2f} mm, y {at.y * 0.0005:.2f} mm"
    assert cursor_text(session, at) == place  # before anything is scanned
    session.show_maps([own], model_name="", folder=None)
    assert cursor_text(session, at) == f"{place} · probability {own.values[5, 7]:.2f}"
    # All of a cell's square has its value, and its neighbour's begins at its edge.
    corner = own.frame.cell_corner(7, 5)
    for dx, column in ((-0.01, 6), (0.01, 7)):
        beside = Point(corner.x + dx, at.y)
        assert cursor_text(session, beside).endswith(f"probability {own.values[5, column]:.2f}")
    assert cursor_text(session, own.frame.cell_center(0, 5)).endswith("· not scanned")
    for x, y in ((-1, 5), (5, -1), (session.slide.size.width, 5), (5, session.slide.size.height)):
        assert cursor_text(session, Point(x, y)) == ""

    session.show_maps(maps_of(session.slide, refined=True), model_name="", folder=None)
    assert cursor_text(session, at).endswith("probability 0.25 (refined)")
    # Where the later map has no answer, the scan's own counts, and the line says so.
    first_row = own.frame.cell_center(7, 0)
    assert cursor_text(session, first_row).endswith(f"probability {own.values[0, 7]:.2f}")
    session.set_share("refined", 0.5)
    half = (0.25 + own.values[5, 7]) / 2
    assert cursor_text(session, at).endswith(f"probability {half:.2f} (refined)")
    session.set_share("refined", 0.0)
    assert cursor_text(session, at).endswith(f"probability {own.values[5, 7]:.2f}")
    # What is no probability is not blended.
    other = replace(maps_of(session.slide, refined=True)[1], kind=MapKind(name="d", title="d", stem="d", unit="mm"))
    session.show_maps([own, other], model_name="", folder=None)
    assert cursor_text(session, at).endswith(f"probability {own.values[5, 7]:.2f}")


def test_the_readout_names_the_place_under_the_mouse_however_the_view_is_turned(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, session = window.viewer, window.session
    slide, microscope, canvas = session.slide, window.workspace.microscope, canvas_widget(viewer)
    own = maps_of(slide, refined=False)[0]
    session.show_maps([own], model_name="", folder=None)
    # Another layer is selected.
    viewer.layers.selection.active = viewer.add_points([[1.0, 2.0]], units=("um", "um"))
    at = own.frame.cell_center(40, 23)
    for _ in range(4):
        QTest.mouseClick(microscope.bar.right, Qt.MouseButton.LeftButton)
        QTest.mouseClick(microscope.bar.magnifications[20.0], Qt.MouseButton.LeftButton)
        camera_of(viewer).center = center_on(viewer, Point(at.x - 60, at.y + 40), slide)
        window.qtbot.wait(50)
        x, y = view_transform(viewer, slide).to_canvas(at)
        QTest.mouseMove(canvas, QPoint(round(x), round(y)))
        window.until(lambda: microscope.cursor.text().endswith(f"probability {own.values[23, 40]:.2f}"))
        assert microscope.cursor.text().startswith(f"x {at.x * 0.0005:.2f} mm, y {at.y * 0.0005:.2f} mm")
        assert microscope.cursor.isVisible()
    # The slide goes on under a mouse that rests.
    camera_of(viewer).center = center_on(viewer, Point(-5000, -5000), slide)
    window.until(lambda: not microscope.cursor.isVisible())
    camera_of(viewer).center = center_on(viewer, at, slide)
    window.until(lambda: microscope.cursor.isVisible())
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    assert not microscope.cursor.isVisible()
