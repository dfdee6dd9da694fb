"""The work in its order, in a real window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels, Points
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_metastasis._napari import result_exits
from napari_metastasis._napari.compat import canvas_widget
from napari_metastasis.geometry import Point, Region, Size
from napari_metastasis.models import load_detector, save_model
from napari_metastasis.slides import write_pyramid

pytestmark = pytest.mark.gui


def test_open_scan_threshold_cancel_fly_hide(
    window, make_disc: Callable, darkness_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    panel, session, layers = window.panel, window.session, window.controller.layers
    assert panel.slide_part.name.text() == "disc"
    assert "0.5 µm" in panel.slide_part.resolution.text()
    assert layers.tissue is not None
    assert not layers.tissue.visible

    window.scan("view")
    assert session.activity.busy
    window.finish()
    assert session.slide_score > 0.99
    assert len(session.found.lesions) == 1
    assert panel.results_part.table.rows.rowCount() == 1
    assert panel.results_part.score.text() == "1.000"
    assert isinstance(layers.lesions, Labels)
    assert isinstance(layers.detections, Points)
    told = []
    monkeypatch.setattr(result_exits.QDesktopServices, "openUrl", lambda _: False)
    monkeypatch.setattr(result_exits, "show_info", told.append)
    panel.results_part.exits.folder_button.click()
    results = path.parent / "disc.metastasis"
    assert str(results) in told[0]
    assert (results / "lesions.csv").exists()
    assert session.folder == results

    area = int((layers.lesions.data > 0).sum())
    panel.results_part.threshold.setValue(0.97)
    assert tuple(layers.heatmap.contrast_limits) == (0.97, 1.0)
    window.until(lambda: session.found.threshold == 0.97)
    assert 0 < int((layers.lesions.data > 0).sum()) < area

    # The keys go up to 1, where napari wants limits that differ all the same.
    for _ in range(3):
        window.workspace._move_threshold(0.05)
    assert session.threshold == 1.0
    panel.results_part.threshold.setValue(0.97)

    # The same region again: everything is answered, and nothing is computed twice.
    before = session.probabilities.copy()
    window.scan("view")
    window.finish()
    np.testing.assert_array_equal(session.probabilities, before)

    # Another density is another scan; cancelled, it leaves the heatmap of before alone and goes on where it stopped.
    panel.scan_part.main.widgets["dense_coefficient"].value = 4
    panel.scan_part.advanced.widgets["roi_px"].value = 256
    panel.scan_part.advanced.widgets["tissue_only"].value = False
    window.scan("slide")
    window.until(lambda: session.activity.done > 0)
    panel.scan_part.cancel_button.click()
    window.finish()
    answered = ~np.isnan(session.probabilities)
    assert 0 < answered.sum() < answered.size
    assert "goes on" in panel.scan_part.status.text()
    assert session.folder.parent == results
    window.scan("slide")
    window.finish()
    assert not np.isnan(session.probabilities).any()

    # A click on a lesion flies there.
    window.viewer.fit_to_view()
    zoom, center = window.viewer.scene.camera.zoom, phantom.center.to_um(0.5)
    table = panel.results_part.table
    table.clicked.emit(table.rows.index(0, 0))
    window.until(lambda: window.viewer.scene.camera.zoom > zoom * 1.05)
    window.until(lambda: np.allclose(window.viewer.scene.camera.center[-2:], (center.y, center.x), atol=10))

    # One key hides what lies over the tissue; what the user hid stays hidden.
    canvas = canvas_widget(window.viewer)
    layers.detections.visible = False
    QTest.keyClick(canvas, Qt.Key.Key_H)
    assert [one.visible for one in (layers.heatmap, layers.outlines, layers.detections)] == [False, False, False]
    assert layers.slide.visible
    QTest.keyClick(canvas, Qt.Key.Key_H)
    assert [one.visible for one in (layers.heatmap, layers.outlines, layers.detections)] == [True, True, False]


def test_heatmap_grows_from_the_middle_of_the_view(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model, roi_px=160)
    window.panel.scan_part.advanced.widgets["tissue_only"].value = False
    focus = Point(500.0, 1500.0)
    at = focus.to_um(0.5)
    window.viewer.scene.camera.center = (at.y, at.x)
    first: list[tuple[Region, ...]] = []
    window.session.cells_written.connect(lambda _, cells: first.append(cells))
    window.scan("slide")
    window.until(lambda: bool(first))
    window.controller.cancel()
    cell = window.session.heatmap.frame.cell_at(focus)
    nearest = first[0][0]
    assert nearest.x - 1 <= cell.x <= nearest.right
    assert nearest.y - 1 <= cell.y <= nearest.bottom
    window.finish()


def test_view_region_is_what_the_window_shows(window, make_disc: Callable) -> None:
    from napari_metastasis._napari.regions import wanted_region

    path, _ = make_disc(0.5)
    window.open(path)
    slide = window.session.slide
    window.viewer.fit_to_view()
    assert wanted_region("view", window.viewer, slide) == Region.of(slide.size)
    window.viewer.scene.camera.zoom *= 8
    window.qtbot.wait(100)
    region = wanted_region("view", window.viewer, slide)
    # napari's own account of the corners that it drew, in pixels of the level that it drew them from.
    layer = window.controller.layers.slide
    corners = layer.corner_pixels * layer.downsample_factors[layer.data_level][:2]
    # They reach out to whole tiles.
    assert (corners[0] <= (region.y, region.x)).all()
    assert (corners[1] >= (region.bottom, region.right)).all()
    y, x = window.viewer.scene.camera.center[-2:]
    assert region.center.distance(Point.from_um(x, y, mpp=0.5)) < 2
    assert region.width < slide.size.width / 3


def test_selected_shape_is_scanned(window, make_disc: Callable, darkness_model: Path) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.scan("shape")
    assert "selected shape" in window.panel.scan_part.error.text()
    center = phantom.center.to_um(0.5)
    half = 220.0
    window.viewer.add_shapes(
        [[[center.y - half, center.x - half], [center.y + half, center.x + half]]], shape_type="rectangle"
    )
    window.viewer.layers.selection.active.selected_data = {0}
    window.scan("shape")
    window.finish()
    scanned = ~np.isnan(window.session.probabilities)
    rows, columns = np.nonzero(scanned)
    frame = window.session.heatmap.frame
    corner = frame.cell_corner(columns.min(), rows.min()).to_um(0.5)
    assert corner.x == pytest.approx(center.x - half, abs=3 * frame.cell_um)
    assert len(window.session.found.lesions) == 1


@pytest.mark.filterwarnings("ignore::napari_metastasis.errors.StainWarning")
def test_the_stain_of_a_slide_is_told(window, make_disc: Callable, darkness_model: Path, tmp_path: Path) -> None:
    path, _ = make_disc(0.5)
    model = load_detector(darkness_model)
    stained = tmp_path / "stained.safetensors"
    save_model(stained, model.network, replace(model.spec, stain_density=(0.1, 0.1, 0.1)), {})
    window.open(path)
    window.use(stained)
    told = window.panel.results_part.told
    assert not told.isVisible()
    window.scan("view")
    window.finish()
    first, *notes = told.text().splitlines()
    ratio = float(first.split()[1])
    assert first == f"Stain {ratio:.2f} × as dense as in training"
    assert ratio > 1.5
    assert len(notes) == 1
    assert f"{ratio:.2g} times as dense" in notes[0]
    assert told.isVisible()
    # An earlier result tells the same.
    before = told.text()
    window.viewer.layers.remove(window.controller.layers.slide)
    window.until(lambda: not told.isVisible())
    window.open(path)
    window.until(lambda: window.session.probabilities is not None)
    assert told.text() == before


def test_keys(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    canvas = canvas_widget(window.viewer)
    threshold = window.session.threshold
    QTest.keyClick(canvas, Qt.Key.Key_BracketRight)
    assert window.session.threshold == pytest.approx(threshold + 0.05)
    assert window.panel.results_part.threshold.value() == pytest.approx(threshold + 0.05)
    QTest.keyClick(canvas, Qt.Key.Key_BracketLeft)
    assert window.session.threshold == pytest.approx(threshold)
    QTest.keyClick(canvas, Qt.Key.Key_S, Qt.KeyboardModifier.ShiftModifier)
    assert window.controller.busy
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    # At once, whatever the scan was at: nothing had been scanned yet, and that is no failure.
    window.until(lambda: not window.controller.busy)
    assert not window.session.activity.error
    assert "stopped" in window.panel.scan_part.status.text()


def test_red_and_blue_that_look_exchanged_are_said_and_put_right(window, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    amounts = np.zeros((800, 800, 2))
    amounts[100:700, 100:700, 1] = rng.uniform(0.3, 0.7, (600, 600))
    nuclei = np.kron(rng.random((100, 100)) < 0.2, np.ones((6, 6)))
    amounts[100:700, 100:700, 0] = nuclei * rng.uniform(0.9, 1.4, (600, 600))
    pixels = np.rint(250 * np.exp(-amounts @ np.array([(0.65, 0.7, 0.29), (0.12, 0.95, 0.28)]))).astype(np.uint8)
    path = tmp_path / "bgr.tif"
    write_pyramid(path, np.ascontiguousarray(pixels[..., ::-1]), mpp=1.0, size=Size(800, 800), compression="deflate")
    window.open(path)
    part = window.panel.slide_part
    window.until(lambda: bool(window.session.colour_note))
    assert part.colours.text() == "⚠ look exchanged"
    assert "Swap red and blue" in part.colours.toolTip()
    assert not part.swap.isChecked()

    part.swap.click()
    window.until(lambda: window.workspace.current is not None and window.session.slide.swapped)
    assert len(window.workspace.controllers) == 1
    assert part.swap.isChecked()
    shown = window.controller.layers.slide.data[0][300:310, 300:310]
    np.testing.assert_array_equal(np.asarray(shown), pixels[300:310, 300:310])
    window.until(lambda: window.session.tissue is not None)
    assert part.colours.text() == ""
