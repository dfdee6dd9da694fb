"""Findings first: a person goes through them with clicks and keys, and knows how much of the slide they answer for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_once import made_once
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from several_discs import discs_slide

from napari_metastasis.geometry import Point

pytestmark = pytest.mark.gui

#: Centres and radii in µm. The last one lies far from the others.
DISCS = ((700.0, 800.0, 100.0), (1400.0, 500.0, 160.0), (1500.0, 1400.0, 70.0), (3300.0, 900.0, 130.0))


@pytest.fixture(scope="session")
def drawn_discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of four discs, which takes seconds to draw."""

    def draw(folder: Path) -> None:
        discs_slide(folder / "discs.tif", width_um=4000, height_um=1900, mpp=0.5, discs=DISCS)

    return made_once(tmp_path_factory, "four-discs", draw) / "discs.tif"


@pytest.fixture
def discs(drawn_discs: Path, tmp_path: Path) -> Path:
    """The slide in the test's own folder, where its results will lie beside it."""
    return Path(shutil.copy(drawn_discs, tmp_path / "discs.tif"))


@pytest.fixture
def scanned(house, discs: Path, darkness_model: Path):
    """The window with the slide of four discs, scanned as a whole."""
    house.open(discs)
    house.use(darkness_model)
    house.scan("slide")
    house.finish()
    house.until(lambda: len(house.session.found.rows) == len(DISCS))
    house.until(lambda: house.session.coverage is not None)
    return house


def camera_at(window) -> np.ndarray:
    y, x = window.viewer.scene.camera.center[-2:]
    return np.array([x, y])


def flown_to(window, number: int) -> bool:
    row = next(one for one in window.session.found.rows if one.id == number)
    at = Point(row.x, row.y).to_um(window.session.slide.mpp)
    return bool(np.allclose(camera_at(window), (at.x, at.y), atol=1))


@pytest.mark.both_screens
def test_clicks_arrows_buttons_and_keys_go_from_finding_to_finding(scanned) -> None:
    part, table, session = scanned.panel.results_part, scanned.panel.results_part.table, scanned.session
    click = scanned.qtbot.mouseClick
    # The same order as in the files.
    listed = [line.split(",")[0] for line in (session.folder / "lesions.csv").read_text().splitlines()[1:]]
    shown = [str(one.id) for one in table.rows.lesions]
    assert shown == listed
    assert part.position.text() == "4 findings"
    assert part.on_button.isEnabled()
    assert not part.back_button.isEnabled()

    click(part.on_button, Qt.MouseButton.LeftButton)
    assert part.position.text() == "1 of 4"
    assert session.selected == int(shown[0])
    scanned.until(lambda: flown_to(scanned, int(shown[0])))
    click(part.on_button, Qt.MouseButton.LeftButton)
    scanned.until(lambda: flown_to(scanned, int(shown[1])))
    click(part.back_button, Qt.MouseButton.LeftButton)
    scanned.until(lambda: flown_to(scanned, int(shown[0])))

    cell = table.visualRect(table.rows.index(2, 1)).center()
    click(table.viewport(), Qt.MouseButton.LeftButton, pos=cell)
    assert part.position.text() == "3 of 4"
    scanned.until(lambda: flown_to(scanned, int(shown[2])))
    scanned.qtbot.keyClick(table, Qt.Key.Key_Down)
    assert part.position.text() == "4 of 4"
    scanned.until(lambda: flown_to(scanned, int(shown[3])))
    assert not part.on_button.isEnabled()

    canvas = scanned.viewer.window._qt_viewer.canvas.native
    scanned.qtbot.keyClick(canvas, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert part.position.text() == "3 of 4"
    scanned.qtbot.keyClick(canvas, Qt.Key.Key_N)
    assert part.position.text() == "4 of 4"
    scanned.qtbot.keyClick(canvas, Qt.Key.Key_Home)
    # It ends the flight, and stays.
    scanned.qtbot.wait(500)
    whole = scanned.session.slide.size
    assert np.allclose(camera_at(scanned), (whole.width * 0.5 / 2, whole.height * 0.5 / 2), atol=2)

    # Numbers stay while the threshold moves, and the chosen one stays chosen.
    before = {one.id: (one.x, one.y) for one in session.found.rows}
    number = part.table.rows.lesions[1].id
    part.go_to(part.table.rows.lesions[1])
    scanned.until(lambda: flown_to(scanned, number))
    part.threshold.setValue(0.9)
    scanned.until(lambda: session.found.threshold == 0.9)
    after = {one.id: (one.x, one.y) for one in session.found.rows}
    assert set(after) <= set(before)
    for one, at in after.items():
        np.testing.assert_allclose(at, before[one], atol=60)
    if number in after:
        assert session.selected == number
        assert part.table.rows.row_of(number) == part.table.currentIndex().row()

    # Colours follow their slider.
    heat = scanned.controller.layers.heatmap
    for strength in (0.2, 1.0):
        part.strength.setValue(strength)
        assert heat.opacity == pytest.approx(strength)


@pytest.mark.both_screens
def test_what_was_not_scanned_is_said_and_continued(house, discs: Path, darkness_model: Path) -> None:
    house.open(discs)
    house.use(darkness_model)
    part, slides = house.panel.results_part, house.slides.list
    assert part.state.text.text() == "Not scanned yet"
    camera = house.viewer.scene.camera
    camera.center, camera.zoom = (800.0, 700.0), min(house.viewer.window._qt_viewer.canvas.size) / 900
    click = house.qtbot.mouseClick
    click(house.panel.scan_part.view_button, Qt.MouseButton.LeftButton)
    house.finish()
    house.until(lambda: house.session.coverage is not None and not house.session.coverage.whole)
    percent = house.session.coverage.percent
    assert 0 < house.session.coverage.share < 0.9
    assert part.state.text.text() == f"Only {percent} of the tissue scanned: not a result for the slide"
    assert part.state.continue_button.isVisible()
    assert slides.item(0).text().endswith(f"{percent} scanned")
    click(part.state.continue_button, Qt.MouseButton.LeftButton)
    assert house.controller.busy
    house.finish()
    house.until(lambda: house.session.coverage.whole)
    assert part.state.text.text() == "Whole slide scanned"
    assert not part.state.continue_button.isVisible()
    assert len(house.session.found.rows) == len(DISCS)
    # Readable in either theme: dark letters on a light ground of their own.
    text = part.state.text
    ground = text.grab().toImage().pixelColor(text.width() - 3, 2)
    assert QColor(ground).lightness() > 150


def test_a_slide_is_reviewed_until_something_else_is_shown(scanned) -> None:
    part, slides, session = scanned.panel.results_part, scanned.slides.list, scanned.session
    assert not part.reviewed.isChecked()
    scanned.qtbot.mouseClick(part.reviewed, Qt.MouseButton.LeftButton)
    scanned.until(lambda: slides.item(0).text().endswith("\nreviewed"))
    assert part.state.text.text() == "Whole slide scanned. Reviewed"
    # Other findings were not looked through; these were.
    threshold = session.threshold
    session.set_threshold(0.9)
    assert slides.item(0).text().endswith("\nscanned")
    assert not part.reviewed.isChecked()
    session.set_threshold(threshold)
    assert slides.item(0).text().endswith("\nreviewed")
    # It opens again as it was left.
    path = session.slide.path
    scanned.workspace.close_current()
    scanned.open(path)
    scanned.until(lambda: slides.count() == 1 and slides.item(0).text().endswith("\nreviewed"))
    assert part.reviewed.isChecked()
    scanned.qtbot.mouseClick(part.reviewed, Qt.MouseButton.LeftButton)
    scanned.until(lambda: slides.item(0).text().endswith("\nscanned"))
    assert not (session.folder / "review.json").exists()
