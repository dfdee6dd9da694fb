"""Two slides in the program's window, as a person goes from one to the other: with clicks, keys and drops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from cut_texts import cut_texts
from ome_zarr_files import write_ome_zarr
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QAction, QDragEnterEvent, QDropEvent, QKeySequence
from qtpy.QtWidgets import QApplication, QMenu
from slide_server import serving

from napari_metastasis._napari import slide_widget, workspace
from napari_metastasis._napari.compat import canvas_size, napari_docks, window_of
from napari_metastasis._napari.draw_tool import Tool
from napari_metastasis._napari.dress import TOOLS
from napari_metastasis._napari.recent import recent_slides, remember_slide
from napari_metastasis._napari.rotation import Orientation, orientation_of
from napari_metastasis._napari.slide_list import fill_recent
from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.lesions import LesionRow
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.slides import open_slide, write_pyramid

pytestmark = pytest.mark.gui


def seen(window) -> list[str]:
    """Return the names of the slides whose tissue is seen."""
    return [one.session.slide.name for one in window.workspace.controllers if one.layers.slide.visible]


@pytest.mark.both_screens
def test_slides_are_shown_alone_fitted_at_first_and_where_they_were_left(
    house, make_disc: Callable, darkness_model: Path
) -> None:
    first, _ = make_disc(0.5, "first")
    second, _ = make_disc(0.5, "second")
    house.workspace.open([first, second])
    house.until(lambda: len(house.workspace.controllers) == 2)
    house.until(lambda: all(one.session.tissue is not None for one in house.workspace.controllers))
    names = [one.session.slide.name for one in house.workspace.controllers]
    assert house.slides.list.count() == 2
    # The first that was ready is shown, and stays: the other one waits in the list.
    assert seen(house) == [names[0]]
    assert names[0] in house.viewer.title
    assert "not scanned" in house.slides.list.item(0).text()
    camera, slide = house.viewer.scene.camera, house.session.slide
    width, height = canvas_size(house.viewer)
    fitted = min(width / (slide.size.width * 0.5), height / (slide.size.height * 0.5))
    assert 0.9 * fitted < camera.zoom < fitted

    at, zoom = (321.0, 654.0), 2 * camera.zoom
    camera.center, camera.zoom = at, zoom
    house.choose(1)
    assert seen(house) == [names[1]]
    assert names[1] in house.viewer.title
    assert 0.9 * fitted < camera.zoom < fitted
    house.choose(0)
    assert seen(house) == [names[0]]
    np.testing.assert_allclose(camera.center[-2:], at)
    assert camera.zoom == pytest.approx(zoom)
    # A slide that is turned is turned alone.
    house.workspace.microscope.turn(1)
    turned = orientation_of(house.viewer)
    house.choose(1)
    assert orientation_of(house.viewer) == Orientation() != turned
    house.choose(0)
    assert orientation_of(house.viewer) == turned
    house.workspace.microscope.turn(-1)
    house.workspace.home()
    assert 0.9 * fitted < camera.zoom < fitted

    # What is scanned of one is said of it alone, and hidden with it.
    house.use(darkness_model)
    house.scan("slide")
    house.finish()
    house.until(lambda: house.slides.list.item(0).text().endswith("scanned"))
    assert house.slides.list.item(0).text() == f"{names[0]}\nscanned"
    assert house.slides.list.item(1).text() == f"{names[1]}\nnot scanned"
    heatmap = house.controller.layers.heatmap
    house.choose(1)
    assert not heatmap.visible
    house.choose(0)
    assert heatmap.visible

    house.slides.close_button.click()
    assert house.slides.list.count() == 1
    assert len([layer for layer in house.viewer.layers if layer.visible]) == 0 or seen(house) == [names[1]]
    house.until(lambda: seen(house) == [names[1]])
    assert names[1] in house.viewer.title
    house.slides.close_button.click()
    assert house.slides.list.count() == 0
    assert len(house.viewer.layers) == 0
    assert house.viewer.title == "Metastasis"


def test_what_is_drawn_belongs_to_its_slide(house, make_disc: Callable, darkness_model: Path) -> None:
    first, _ = make_disc(0.5, "first")
    second, _ = make_disc(0.5, "second")
    house.open(first)
    shapes = house.viewer.add_shapes([[[100, 100], [300, 300]]], shape_type="rectangle")
    points = house.viewer.add_points([[200, 200]])
    house.open(second)
    assert not shapes.visible
    assert not points.visible
    # It is no part of another slide to scan.
    house.use(darkness_model)
    shapes.selected_data = {0}
    house.scan("shape")
    assert "selected shape" in house.panel.scan_part.error.text()
    # What fails for a slide that is not shown is told all the same, in the panel.
    house.workspace.controllers[0]._on_other_failed(StorageError("expected a folder, got none; make it"))
    assert house.panel.results_part.error.text() == "first: There is no folder. Make it."
    assert "selected shape" in house.panel.scan_part.error.text()
    house.choose(0)
    assert shapes.visible
    assert points.visible
    # Nothing is lost when the slide is closed.
    house.workspace.close_current()
    house.until(lambda: seen(house) == ["second"])
    assert not shapes.visible
    assert shapes in house.viewer.layers
    house.open(first)
    assert shapes.visible


def menu_entry(window, text: str) -> QAction:
    """Return an entry of napari's File menu."""
    return next(one for one in window.viewer.window.file_menu.actions() if one.text() == text)


def test_an_open_slide_is_not_opened_twice(house, make_disc: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = make_disc(0.5, "first")
    second, _ = make_disc(0.5, "second")
    house.open(first)
    house.open(second)
    house.workspace.open([first])
    assert seen(house) == ["first"]
    # Whichever way leads there, and whoever reads it.
    elsewhere = second.parent / "folder"
    elsewhere.mkdir()
    for path in (second, elsewhere / ".." / "second.tif"):
        assert house.viewer.open(str(path), plugin="napari-metastasis") == []
        house.until(lambda: seen(house) == ["second"])
        house.workspace.open([first])
        # napari's own "Open File(s)…" asks for no reader.
        asks = type(house.viewer.window._qt_viewer)
        monkeypatch.setattr(asks, "_open_file_dialog_uni", lambda *_, path=path: [str(path)])
        menu_entry(house, "Open File(s)...").trigger()
        house.until(lambda: seen(house) == ["second"])
        house.workspace.open([first])
    third, _ = make_disc(0.5, "third")
    # Twice before it is open.
    house.workspace.open([third])
    house.workspace.open([third])
    house.until(lambda: not house.workspace._opening)
    assert seen(house) == ["third"]
    assert [one.session.slide.name for one in house.workspace.controllers] == ["first", "second", "third"]


def drop(window, *paths: Path | SlideUrl) -> None:
    """Drop files on the canvas, as a file manager does."""
    mime = QMimeData()
    mime.setUrls([QUrl(path.url) if isinstance(path, SlideUrl) else QUrl.fromLocalFile(str(path)) for path in paths])
    target = window.viewer.window._qt_viewer
    held = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    # Qt drops on what the mouse was dragged over.
    QApplication.sendEvent(target, QDragEnterEvent(QPoint(50, 50), Qt.DropAction.CopyAction, mime, *held))
    event = QDropEvent(QPointF(50, 50), Qt.DropAction.CopyAction, mime, *held)
    assert event.type() == QEvent.Type.Drop
    QApplication.sendEvent(target, event)


def test_slides_are_dropped_without_a_question(
    house, make_disc: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = make_disc(0.5, "first")
    second, _ = make_disc(0.5, "second")
    # The list as each of two threads may have read it: before the other wrote.
    monkeypatch.setattr(workspace, "remember_slide", lambda path: remember_slide(path)[:1])
    drop(house, first, second)
    house.until(lambda: len(house.workspace.controllers) == 2)
    assert QApplication.activeModalWidget() is None
    assert {path.name for path in house.workspace.recent} >= {"first.tif", "second.tif"}
    # A TIFF that is no slide is an image like any other: napari shows it.
    other = tmp_path / "ratios.tif"
    import tifffile

    tifffile.imwrite(other, np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64))
    drop(house, other)
    house.until(lambda: any(layer.name == "ratios" for layer in house.viewer.layers))
    assert len(house.workspace.controllers) == 2


def test_ctrl_o_opens_slides_and_recent_ones_are_listed(
    house, make_disc: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5, "asked")
    monkeypatch.setattr(slide_widget.QFileDialog, "getOpenFileNames", lambda *_: ([str(path)], ""))

    def press(key: str) -> None:
        """Do what a key stands for, and only one entry of the menu: two would make Qt do nothing."""
        entries = [one for one in house.viewer.window.file_menu.actions() if one.shortcut() == QKeySequence(key)]
        assert len(entries) == 1
        assert entries[0] in window_of(house.viewer).actions()
        entries[0].trigger()

    press("Ctrl+O")
    house.until(lambda: len(house.workspace.controllers) == 1)
    assert seen(house) == ["asked"]
    press("Ctrl+W")
    house.until(lambda: not house.workspace.controllers)
    menu = QMenu()
    fill_recent(menu, house.workspace)
    first = menu.actions()[0]
    assert first.text() == "asked.tif"
    first.trigger()
    house.until(lambda: seen(house) == ["asked"])


def cut_lesion() -> LesionRow:
    size = {"area_mm2": 0.0512, "length_mm": 0.41, "detections": 1, "probability": 1.0}
    return LesionRow(id=999, x=0, y=0, map="probability", cut_by_edge=True, **size)


@pytest.mark.both_screens
def test_what_is_needed_is_in_sight(house, make_disc: Callable) -> None:
    path, _ = make_disc(0.5)
    house.open(path)
    house.qtbot.wait(100)
    width, _ = canvas_size(house.viewer)
    window = window_of(house.viewer)
    assert width >= 0.6 * window.width()
    panel = house.panel
    for needed in (
        panel.results_part.state,
        panel.results_part.table,
        panel.results_part.on_button,
        panel.results_part.threshold,
        panel.results_part.exits.report_button,
        panel.scan_part.slide_button,
        panel.scan_part.view_button,
    ):
        assert needed.isVisible()
        top = needed.mapTo(window, needed.rect().topLeft()).y()
        assert top > 0
        assert top + needed.height() <= window.height()
    # Nothing that the panel says is cut, as narrow as it may be, with all of it unfolded.
    house.until(lambda: panel.scan_part.model.chosen is not None)
    house.session.show_colour_note("look")
    panel.results_part.table.rows.show([cut_lesion()])
    house.session.corrections.do(
        "Draw", Corrections.of([Correction(key="a", label="normal", shape_px=shapely.Point(9, 9))])
    )
    house.workspace.correcting.toggle(Tool.BRUSH)
    panel.retrain_part.patches.choose("patches-that-it-learnt-from-before.zip")
    folds = (
        panel.scan_part.more,
        panel.mitosis_part.fold,
        panel.correct_part.fold,
        panel.slide_part.more,
        panel.retrain_part.patches,
    )
    for folded in folds:
        folded.expand(animate=False)
    for panel_px in (340, panel.minimumWidth()):
        window.resizeDocks([panel.parent()], [panel_px], Qt.Orientation.Horizontal)
        house.until(lambda panel_px=panel_px: panel.width() == panel_px)
        house.until(panel.verticalScrollBar().isVisible)
        # Lines are broken once the width is given.
        house.until(lambda: cut_texts(panel) == [], timeout_s=10)
    for folded in folds:
        folded.collapse(animate=False)
    # The whole slide is the first choice.
    assert panel.scan_part.slide_button.x() < panel.scan_part.view_button.x()
    assert panel.results_part.y() < panel.scan_part.y() < panel.slide_part.y()

    # napari's own tools are one menu entry away.
    docks = napari_docks(house.viewer)
    assert docks
    assert not any(dock.isVisible() for dock in docks)
    (tools,) = (action for action in house.viewer.window.window_menu.actions() if action.text() == TOOLS)
    tools.trigger()
    assert all(dock.isVisible() for dock in docks)
    tools.trigger()
    assert not any(dock.isVisible() for dock in docks)
    np.testing.assert_allclose(house.viewer.canvas.background_color[:3], 1)


def test_an_address_is_dropped_opened_and_listed_as_a_file_is(
    house, make_disc: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5, "remote")
    with serving() as server:
        server.files["b/remote.tif"] = path
        address = SlideUrl(f"{server.url}/b/remote.tif")
        drop(house, address)
        house.until(lambda: len(house.workspace.controllers) == 1)
        (controller,) = house.workspace.controllers
        house.until(lambda: controller.session.tissue is not None)
        assert controller.session.slide.path == address
        assert seen(house) == ["remote"]
        assert recent_slides()[0] == house.workspace.recent[0] == address
        # It is open already: once is enough.
        drop(house, address)
        assert house.workspace.opened(address) is controller
        house.workspace.close_slide(controller)
        house.until(lambda: not house.workspace.controllers)
        monkeypatch.setattr(slide_widget.QInputDialog, "getText", lambda *_: (f" {address} ", True))
        choose(house, "Open address…")
        house.until(lambda: len(house.workspace.controllers) == 1)
        assert house.workspace.controllers[0].session.slide.path == address
        house.workspace.close_current()
        house.until(lambda: not house.workspace.controllers)


def test_a_slide_that_is_a_folder_is_chosen_as_one(
    house, make_disc: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, _ = make_disc(0.5)
    folder = tmp_path / "node.ome.zarr"
    with open_slide(path) as slide:
        write_ome_zarr(folder, slide.read_level(0, Region.of(slide.size)))
    monkeypatch.setattr(slide_widget.QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    choose(house, "Open folder…")
    house.until(lambda: seen(house) == ["node"])


def choose(house, text: str) -> None:
    """Choose an entry of the menu beside *Open*."""
    menu = QMenu()
    fill_recent(menu, house.workspace)
    (action,) = (one for one in menu.actions() if one.text() == text)
    action.trigger()


def test_the_slides_opened_last_come_first(tmp_path: Path) -> None:
    for number in range(15):
        remember_slide(tmp_path / f"{number}.svs")
    remember_slide(tmp_path / "9.svs")
    listed = recent_slides()
    assert [path.name for path in listed[:3]] == ["9.svs", "14.svs", "13.svs"]
    assert len(listed) == len(set(listed)) == 12


def test_a_list_of_recent_slides_that_cannot_be_read_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "recent.json"
    monkeypatch.setattr("napari_metastasis._napari.recent.recent_path", lambda: broken)
    for text in ("", "{", "[1, null, []]", '{"a": 1}', "[" * 500):
        broken.write_text(text)
        assert recent_slides() == ()
    broken.unlink()
    broken.mkdir()
    assert remember_slide(tmp_path / "one.svs") == (tmp_path / "one.svs",)


def test_a_slide_with_a_stated_size_is_claimed_and_a_picture_is_not(tmp_path: Path) -> None:
    import tifffile

    from napari_metastasis._napari.reader import napari_get_reader

    pixels = np.full((600, 600, 3), 240, np.uint8)
    slide, picture, broken = tmp_path / "slide.tif", tmp_path / "picture.tif", tmp_path / "broken.svs"
    write_pyramid(slide, pixels, mpp=0.5, size=Size(600, 600))
    tifffile.imwrite(picture, np.zeros((32, 32), np.uint16))
    broken.write_bytes(b"not a slide")
    assert napari_get_reader(str(slide)) is not None
    assert napari_get_reader(str(picture)) is None
    # Its name says that it should be one: whoever opens it is told what is wrong.
    assert napari_get_reader(str(broken)) is not None
