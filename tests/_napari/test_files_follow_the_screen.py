"""Files follow the screen: findings and files of two slides, as a person moves the threshold and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hands import click
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMenu
from result_files import shown_ids, shown_in, written_ids

from napari_metastasis._napari.compat import canvas_widget
from napari_metastasis._napari.slide_list import fill_recent
from napari_metastasis.settings import THRESHOLD

pytestmark = pytest.mark.gui


def stamps(folder: Path) -> dict[Path, int]:
    """Return when each file of a result was written last."""
    return {one: one.stat().st_mtime_ns for one in folder.iterdir()}


class Desk:
    """What a person does to the threshold of the slide that is shown, and what lies on the disk then."""

    def __init__(self, house) -> None:
        self.house = house
        self.findings, self.form = house.panel.results_part, house.panel.scan_part
        self.slider = self.findings.threshold

    def scan(self) -> None:
        click(self.form.slide_button)
        assert self.house.controller.busy
        self.house.finish()
        assert self.findings.state.text.text() == "Whole slide scanned"

    def press(self, key: Qt.Key) -> None:
        QTest.keyClick(canvas_widget(self.house.viewer), key)

    def put_slider_to(self, value: float) -> None:
        """Click beside the slider's handle, and go the last hundredths with the arrow keys."""
        slider = self.slider._slider
        share = (value - slider.minimum()) / (slider.maximum() - slider.minimum())
        QTest.mouseClick(
            slider, Qt.MouseButton.LeftButton, pos=QPoint(round(slider.width() * share), slider.height() // 2)
        )
        assert self.slider.value() == pytest.approx(value, abs=0.05)
        for _ in range(5):
            steps = round((value - self.slider.value()) / 0.01)
            if steps:
                QTest.keyClick(slider, Qt.Key.Key_Right if steps > 0 else Qt.Key.Key_Left)
        assert self.slider.value() == pytest.approx(value), "the arrow keys move it"

    def written(self, folder: Path, threshold: float, *, scanned_with: float = THRESHOLD) -> None:
        """Wait until the files in a folder are those of a threshold, and compare all of them with the screen."""
        house, session = self.house, self.house.session
        house.until(lambda: shown_in(folder)["threshold"] == threshold)
        house.until(lambda: not house.controller._files.pending)
        assert session.folder == folder
        assert session.threshold == self.slider.value() == threshold
        assert written_ids(folder) == shown_ids(session)
        assert [row.id for row in self.findings.table.rows.lesions] == [row[0] for row in written_ids(folder)]
        assert len((folder / "detections.csv").read_text().splitlines()) == len(session.found.detections)
        outlines = json.loads((folder / "lesions.geojson").read_text())["features"]
        areas = [f"{one['properties']['measurements']['Area mm^2']:.6f}" for one in outlines]
        assert areas == [row[1] for row in written_ids(folder)]
        record = json.loads((folder / "run.json").read_text())
        assert record["lesions"] == len(session.found.rows)
        # How it was scanned is another thing.
        assert record["settings"]["detection"]["threshold"] == scanned_with


def test_files_of_two_slides_follow_the_screen_and_open_again_as_they_were_left(
    house, make_disc: Callable, darkness_model: Path
) -> None:
    for name in ("first", "second"):
        house.open(make_disc(0.5, name)[0])
    first, second = (one.session.slide.path for one in house.workspace.controllers)
    folder, other = (path.with_suffix(".metastasis") for path in (first, second))
    # Soon it is known that nothing was scanned.
    house.until(lambda: not house.session.looking)
    assert house.session.probabilities is None
    assert house.panel.scan_part.status.text() == ""
    assert house.controller.results.earlier == ()
    house.use(darkness_model)
    desk = Desk(house)
    for row in (1, 0):
        house.choose(row)
        desk.scan()
    for each in (folder, other):
        assert shown_in(each)["threshold"] == THRESHOLD
    desk.written(folder, THRESHOLD)
    before, untouched = written_ids(folder), stamps(other)

    # A key, a click and the arrow keys: the files are written once it rests, those of the other slide are not.
    desk.press(Qt.Key.Key_BracketRight)
    assert desk.slider.value() == pytest.approx(THRESHOLD + 0.05)
    desk.put_slider_to(0.98)
    desk.written(folder, 0.98)
    assert written_ids(folder) != before
    assert stamps(other) == untouched
    # The other slide has its own, which the slider shows.
    house.choose(1)
    assert desk.slider.value() == THRESHOLD
    mine = stamps(folder)
    desk.press(Qt.Key.Key_BracketLeft)
    desk.written(other, round(THRESHOLD - 0.05, 2))
    assert stamps(folder) == mine

    # Closed at once, it is kept all the same, and opens as it was left.
    house.choose(0)
    assert desk.slider.value() == 0.98
    desk.put_slider_to(0.97)
    left = house.session
    click(house.slides.close_button)
    house.until(lambda: left.slide.closed)
    assert shown_in(folder)["threshold"] == 0.97
    mine = stamps(folder)
    menu = QMenu()
    fill_recent(menu, house.workspace)
    next(entry for entry in menu.actions() if entry.text() == "first.tif").trigger()
    house.until(lambda: house.session.slide.path == first and house.session.found is not None)
    house.until(lambda: house.session.coverage is not None)
    session = house.session
    assert session.threshold == desk.slider.value() == 0.97
    assert desk.findings.state.text.text().startswith("Earlier result of ")
    assert written_ids(folder) == shown_ids(session)
    # It can go below again, the scan goes on with what was chosen, and what is only looked at is not written anew.
    assert session.floor < THRESHOLD
    assert session.chosen_detection.threshold == 0.97
    house.qtbot.wait(1200)
    assert stamps(folder) == mine

    # A result of other settings comes beside it; both are listed, and each opens as it was left.
    controller = house.controller
    house.until(lambda: len(controller.results.earlier) == 1)
    click(desk.form.more.toggleButton())
    detail = desk.form.main.widgets["dense_coefficient"].native
    QTest.keyClick(detail, Qt.Key.Key_Down)
    desk.scan()
    house.until(lambda: desk.form.earlier.count() == 2)
    fine, coarse = controller.results.earlier
    assert (coarse.folder, fine.folder) == (folder, session.folder)
    assert fine.identity["dense_coefficient"] != coarse.identity["dense_coefficient"]
    assert coarse.model_name == "darkness"
    assert desk.form.earlier.currentIndex() == 0
    # The threshold that was chosen goes with the window, and so into the new scan.
    desk.written(fine.folder, 0.97, scanned_with=0.97)
    cells = session.heatmap.frame.cells.area
    desk.put_slider_to(0.9)
    QTest.keyClick(desk.form.earlier, Qt.Key.Key_Down)
    house.until(lambda: session.folder == folder and session.found is not None)
    assert session.heatmap.frame.cells.area != cells
    assert desk.slider.value() == 0.97
    house.until(lambda: shown_in(fine.folder)["threshold"] == 0.9)
    assert written_ids(folder) == shown_ids(session)
    desk.put_slider_to(0.98)
    desk.written(folder, 0.98)
    assert shown_in(fine.folder)["threshold"] == 0.9
    assert shown_in(other)["threshold"] == round(THRESHOLD - 0.05, 2)
