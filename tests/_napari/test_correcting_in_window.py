"""Drawing: what a person draws on the slide lies there in the file, each change is a step, and all of it is drawn."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from answered import answer
from hands import click, drag
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.compat import canvas_widget, window_of
from napari_metastasis._napari.draw_tool import Tool
from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.rotation import rotate
from napari_metastasis._napari.unsaved import UnsavedDialog
from napari_metastasis._napari.view_transform import view_transform
from napari_metastasis.annotations import Correction, Corrections, read_corrections, read_geojson
from napari_metastasis.geometry import Point
from napari_metastasis.workflows import review

pytestmark = pytest.mark.gui

BLOBS = ((500.0, 500.0, 90.0, 0.99), (1300.0, 500.0, 200.0, 0.7))


class Hand:
    """Draws at places of the slide."""

    def __init__(self, house) -> None:
        self.house, self.canvas = house, canvas_widget(house.viewer)

    def at(self, x: float, y: float) -> tuple[float, float]:
        view = view_transform(self.house.viewer, self.house.session.slide)
        return view.to_canvas(Point(x, y))

    def spot(self, x: float, y: float) -> QPoint:
        return QPoint(*(round(each) for each in self.at(x, y)))

    def drag(self, *places: tuple[float, float]) -> None:
        first, *others = [self.spot(*each) for each in places]
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=first)
        for each in others:
            QTest.mouseMove(self.canvas, each)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=others[-1])

    def interrupt(self, window: QWidget, *places: tuple[float, float]) -> None:
        """Drag over two places, hold Space, and go on to a third one with no button held."""
        first, then, last = (self.spot(*each) for each in places)
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=first)
        QTest.mouseMove(self.canvas, then)
        self.house.qtbot.keyPress(window, Qt.Key.Key_Space)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=then)
        self.house.qtbot.keyRelease(window, Qt.Key.Key_Space)
        QTest.mouseMove(self.canvas, last)

    def click(self, x: float, y: float) -> None:
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.spot(x, y))

    def key(self, key: Qt.Key, held: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        self.house.qtbot.keyClick(window_of(self.house.viewer), key, held)

    def undo(self) -> None:
        self.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)


@pytest.fixture
def drawing(house, make_disc: Callable[..., tuple[Path, object]]):
    path, _ = make_disc(0.5)
    house.open(path)
    answer(house, BLOBS)
    house.hand = Hand(house)
    house.file = path.parent / "disc.metastasis" / "annotations.geojson"
    house.said = house.session.corrections
    return house


def unfold(house) -> None:
    part = house.panel.correct_part
    part.fold.expand()
    house.until(lambda: min(button.height() for button in (*part.tools.values(), part.fill_button)) > 10)


def settle(house) -> Corrections:
    house.until(lambda: house.controller.corrections.settled)
    return read_corrections(house.file).corrections


@pytest.mark.parametrize("quarters", [0, 1])
def test_a_polygon_lies_in_the_file_where_it_was_drawn(drawing, quarters: int) -> None:
    house, hand = drawing, drawing.hand
    house.workspace.microscope.turn(quarters)
    # In µm, as a person reads them: 100 µm are 200 px of this slide.
    corners_um = [(300.0, 600.0), (420.0, 600.0), (420.0, 720.0), (300.0, 700.0)]
    corners = [(x / 0.5, y / 0.5) for x, y in corners_um]
    hand.key(Qt.Key.Key_P)
    for place in corners:
        hand.click(*place)
    # A click beside nothing, taken back; then the first corner closes it.
    hand.click(900, 1500)
    hand.undo()
    hand.click(*corners[0])
    (read,) = read_geojson_of(settle(house), house.file)
    pixel = view_transform(house.viewer, house.session.slide).px
    assert read.hausdorff_distance(shapely.Polygon(corners)) <= pixel
    (said,) = house.said.present
    assert (said.state, said.reviewer) == ("added", house.workspace.reviewer.name)
    # It is listed with the findings, where it lies.
    (row,) = [one for one in house.panel.results_part.table.rows.lesions if one.id < 0]
    assert row.area_mm2 == pytest.approx(0.12 * 0.11, rel=0.05)


def read_geojson_of(corrections: Corrections, path: Path) -> list[shapely.Geometry]:
    drawn = read_geojson(path)
    assert len(drawn.annotations) == len(corrections)
    return [one.outline_px for one in drawn.annotations]


def test_every_tool_is_a_step_that_is_saved_and_taken_back(drawing) -> None:
    house, hand, part = drawing, drawing.hand, drawing.panel.correct_part
    unfold(house)
    assert not part.undo_button.isEnabled()
    states = [house.said.present]

    def step(expected: dict[str, int]) -> None:
        found = [one.state for one in house.said.present]
        assert {state: found.count(state) for state in found} == expected
        states.append(house.said.present)

    click(part.tools[Tool.LASSO])
    hand.drag((300, 1300), (500, 1300), (500, 1500), (300, 1500))
    step({"added": 1})
    hand.key(Qt.Key.Key_B)
    assert part.tools[Tool.BRUSH].isChecked()
    assert part.size_row.isVisible()
    hand.drag((480, 1400), (700, 1400))
    step({"added": 1})
    (said,) = house.said.present
    assert said.shape_px.bounds[2] == pytest.approx(700 + house.workspace.correcting.tool.radius_of_slide_px, abs=4)
    click(part.labels["normal"])
    hand.drag((900, 1700), (1100, 1700))
    step({"added": 1, "normal": 1})
    click(part.labels["ignore"])
    hand.key(Qt.Key.Key_D)
    hand.click(1500, 1700)
    step({"added": 1, "normal": 1, "ignored": 1})
    assert part.counts.text() == "1 lesion drawn, 1 place marked normal, 1 to ignore"
    # A part of what the model found is rubbed out: that is a finding with another outline now.
    hand.key(Qt.Key.Key_E)
    hand.drag((1300, 300), (1300, 320))
    step({"added": 1, "normal": 1, "ignored": 1, "confirmed": 1})
    redrawn = next(one for one in house.said.present if one.state == "confirmed")
    assert redrawn.is_redrawn
    assert redrawn.shape_px.area < redrawn.found.outline_px.area
    hand.key(Qt.Key.Key_S)
    hand.drag((400, 1200), (400, 1600))
    step({"added": 2, "normal": 1, "ignored": 1, "confirmed": 1})
    click(part.labels["tumour"])
    hand.key(Qt.Key.Key_J)
    hand.drag((350, 1400), (450, 1400))
    step({"added": 1, "normal": 1, "ignored": 1, "confirmed": 1})
    # The finding is confirmed in the table, and all that was drawn is on the slide.
    rows = house.panel.results_part.table.rows
    assert sorted(rows.mark(row) for row in rows.lesions) == ["", "+", "✓"]
    painter = house.controller.layers.drawn
    house.until(lambda: painter.done)
    assert painter.count > 20
    # One tool at a time has the mouse.
    hand.key(Qt.Key.Key_M)
    assert house.workspace.correcting.tool.tool is None
    hand.key(Qt.Key.Key_B)
    assert not house.workspace.microscope.bar.ruler.isChecked()
    hand.key(Qt.Key.Key_Escape)
    assert house.workspace.correcting.tool.tool is None
    assert settle(house) == house.said.present
    for before in reversed(states[:-1]):
        assert part.undo_button.isEnabled()
        click(part.undo_button)
        assert house.said.present == before
    assert not part.undo_button.isEnabled()
    house.until(lambda: painter.count == 0)
    for after in states[1:]:
        click(part.redo_button)
        assert house.said.present == after
    assert settle(house) == states[-1]


def test_a_click_chooses_what_was_drawn_and_it_is_filled_and_removed(drawing) -> None:
    house, hand, part = drawing, drawing.hand, drawing.panel.correct_part
    holed = shapely.box(300, 1300, 500, 1500).difference(shapely.box(380, 1380, 420, 1420))
    house.said.do("Draw", Corrections.of([Correction(key="a", label="normal", shape_px=holed)]))
    assert not part.fill_button.isEnabled()
    hand.click(340, 1340)
    assert house.said.selected == "a"
    unfold(house)
    click(part.fill_button)
    assert house.said.present["a"].shape_px.area == 200 * 200
    hand.key(Qt.Key.Key_Delete)
    assert not house.said.present
    hand.undo()
    hand.undo()
    assert house.said.present["a"].shape_px.equals(holed)
    # Broken lines are broken alike at every angle.
    house.said.select("")
    turned = shapely.affinity.rotate(shapely.box(750, 1350, 950, 1550), 45)
    house.said.do("Draw", house.said.present.with_(Correction(key="b", label="normal", shape_px=turned)))
    painter = house.controller.layers.drawn
    house.until(lambda: painter.done)
    pixels = house.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    shares = []
    for shape in (holed, turned):
        start, end = (np.array(hand.at(*corner)) for corner in shape.exterior.coords[:2])
        steps = np.linspace(start, end, 4 * int(np.hypot(*(end - start))))[12:-12]
        seen = pixels[steps[:, 1].astype(int), steps[:, 0].astype(int)]
        shares.append(np.abs(seen - DRAWN["normal"].rgb).max(axis=1) < 60)
    length = [np.diff(np.flatnonzero(np.diff(share.astype(int))))[::2].mean() / 4 for share in shares]
    assert [share.mean() for share in shares] == pytest.approx([0.58, 0.58], abs=0.15)
    assert length[0] == pytest.approx(length[1], abs=1.2)
    house.said.undo()
    # Space leaves the mouse to napari, which moves the slide.
    hand.key(Qt.Key.Key_B)
    window = window_of(house.viewer)
    house.qtbot.keyPress(window, Qt.Key.Key_Space)
    drag(hand.canvas, hand.at(900, 1000), hand.at(1200, 1000))
    house.qtbot.keyRelease(window, Qt.Key.Key_Space)
    assert len(house.said.present) == 1
    drag(hand.canvas, hand.at(900, 1000), hand.at(1200, 1000))
    assert len(house.said.present) == 2
    # In the midst of a stroke it ends that: its release is napari's, and no button is held afterwards.
    hand.interrupt(window, (900, 1600), (1000, 1600), (1100, 1600))
    assert len(house.said.present) == 3
    assert house.said.present[house.said.selected].shape_px.bounds[2] < 1060
    hand.key(Qt.Key.Key_Escape)
    assert len(house.said.present) == 3


def test_outlines_of_other_programs_come_in_as_one_step_and_go_out(
    drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, part = drawing, drawing.panel.correct_part
    said = Corrections.of(
        [
            Correction(key="a", label="tumour", shape_px=shapely.box(300, 1300, 500, 1500)),
            Correction(key="b", label="normal", shape_px=shapely.box(700, 1300, 900, 1500)),
        ]
    )
    house.said.do("Draw", said)
    for to, name in (("geojson", "o.geojson"), ("asap", "o.xml"), ("dsa", "o.json")):
        part.exchange.export_file(tmp_path / name, to)
        house.until(lambda name=name: (tmp_path / name).exists() and not part.exchange.busy)
        house.said.do("Remove all", Corrections())
        part.exchange.import_file(tmp_path / name)
        house.until(lambda: len(house.said.present) == 2)
        assert {one.label: one.shape_px.area for one in house.said.present} == {"tumour": 40_000, "normal": 40_000}
        assert house.said.undo_text == f"Import {name}"
    part.exchange.export_file(house.file, "geojson")
    assert "Choose another name" in part.error.text()

    def never_ends(*_: object, tell: Callable[[float], None], **__: object) -> None:
        while True:
            tell(0.25)
            time.sleep(0.01)

    # A person sees how far a large file is read, and need not wait for it.
    unfold(house)
    before = house.said.present
    with monkeypatch.context() as patch:
        patch.setattr(review, "read_from", never_ends)
        part.exchange.import_file(tmp_path / "o.xml")
        house.until(lambda: part.exchange.reading.text() == "Reading o.xml… 25 %")
        assert part.exchange.import_button.text() == "Stop reading"
        click(part.exchange.import_button)
        house.until(lambda: not part.exchange.busy)
    assert (part.exchange.import_button.text(), part.exchange.reading.isVisible()) == ("Import…", False)
    assert house.said.present is before
    rotate(house.viewer, 0)


def test_a_window_whose_disk_is_full_asks_before_it_closes(drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    house, window = drawing, window_of(drawing.viewer)
    settle_first = drawing.controller.corrections
    house.until(lambda: settle_first.settled)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        house.said.do("Draw", Corrections.of([Correction(key="a", label="tumour", shape_px=shapely.box(0, 0, 9, 9))]))
        part = house.panel.correct_part
        house.until(lambda: "the disk is full" in part.error.text())
        window.close()
        assert window.isVisible()
        dialog = window.findChild(UnsavedDialog)
        assert "disc is not saved" in dialog.text()
        dialog.stay_button.click()
        assert window.isVisible()
    # Undone and drawn again, it is tried at once, and nothing is asked any more.
    house.hand.undo()
    house.hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert set(settle(house).by_key) == {"a"}
    house.until(lambda: part.error.text() == "" and part.saving.text() == "Saved")


def test_corners_are_dragged_added_and_removed_each_in_a_step_of_its_own(drawing) -> None:
    house, hand, part = drawing, drawing.hand, drawing.panel.correct_part
    tool, pixel = house.workspace.correcting.corners.tool, view_transform(house.viewer, house.session.slide).px
    square = shapely.box(300, 1300, 500, 1500)
    house.said.do("Draw", Corrections.of([Correction(key="a", label="normal", shape_px=square)]))
    hand.key(Qt.Key.Key_A)
    assert tool.corners is None
    assert "Click an outline" in part.hint.text()
    # A click beside corners is napari's: it chooses an outline.
    hand.click(400, 1400)
    house.until(lambda: len(tool.handles_px) == 4)

    def corners() -> shapely.Geometry:
        return house.said.present["a"].shape_px

    hand.drag((500, 1300), (560, 1280), (600, 1250))
    expected = shapely.Polygon([(600, 1250), (500, 1500), (300, 1500), (300, 1300)])
    assert corners().hausdorff_distance(expected) <= 2 * pixel
    assert house.said.undo_text == "Move a corner"
    # On an edge, the mouse finds a new one, and takes it along.
    hand.drag((400, 1500), (400, 1560), (400, 1600))
    assert len(tool.handles_px) == 5
    assert corners().bounds[3] == pytest.approx(1600, abs=2 * pixel)
    assert house.said.undo_text == "Add a corner"
    # What would cross itself is refused, in a line.
    before = house.said.present
    hand.drag((300, 1300), (450, 1400), (620, 1450))
    assert house.said.present is before
    assert "would cross itself" in part.hint.text()
    assert tool.corners.area.equals(corners())
    # The chosen one is taken away, once; then nothing is.
    hand.click(400, 1600)
    hand.key(Qt.Key.Key_Delete)
    assert house.said.undo_text == "Remove a corner"
    hand.key(Qt.Key.Key_Delete)
    assert corners().hausdorff_distance(expected) <= 2 * pixel
    QTest.mouseClick(hand.canvas, Qt.MouseButton.RightButton, pos=hand.spot(300, 1300))
    house.until(lambda: len(tool.handles_px) == 3)
    QTest.mouseClick(hand.canvas, Qt.MouseButton.RightButton, pos=hand.spot(300, 1500))
    assert "at least 3 corners" in part.hint.text()
    for _ in range(4):
        hand.undo()
    assert corners().equals(square)
    house.until(lambda: len(tool.handles_px) == 4)
    assert settle(house)["a"].shape_px.equals(square)
    # A drag that is dropped was none.
    QTest.mousePress(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.spot(500, 1300))
    QTest.mouseMove(hand.canvas, hand.spot(600, 1200))
    hand.key(Qt.Key.Key_Escape)
    QTest.mouseRelease(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.spot(600, 1200))
    assert corners().equals(square)
    hand.interrupt(window_of(house.viewer), (500, 1300), (560, 1280), (600, 1200))
    assert corners().hausdorff_distance(shapely.Polygon([(560, 1280), (500, 1500), (300, 1500), (300, 1300)])) < 4
    hand.undo()
    house.until(lambda: tool.corners is not None and tool.corners.area.equals(square))
    # A finding is confirmed by its new outline, and its row stays where the view is.
    hand.click(1300, 500)
    house.until(lambda: tool.corners is not None and 100 < tool.corners.places_px[:, 1].mean() < 900)
    handles = tool.handles_px
    assert 8 <= len(handles) <= len(tool.corners)
    top = handles[handles[:, 1].argmin()].tolist()
    hand.drag(top, (top[0], top[1] - 60), (top[0], top[1] - 120))
    found = next(one for one in house.said.present if one.key != "a")
    assert (found.state, found.is_redrawn) == ("confirmed", True)
    assert found.shape_px.bounds[1] == pytest.approx(top[1] - 120, abs=3 * pixel)
    assert found.shape_px.area > found.found.outline_px.area
    where = view_transform(house.viewer, house.session.slide)
    hand.undo()
    assert view_transform(house.viewer, house.session.slide) == where
    assert len(house.said.present) == 1
    house.until(lambda: tool.corners is not None and tool.corners.area.equals(found.found.outline_px))
    # Of thousands of corners, those are shown that a hand can tell apart; a corner takes those beside it along.
    disc = shapely.Point(400, 1400).buffer(200, quad_segs=1000)
    house.said.do("Draw", Corrections.of([Correction(key="b", label="tumour", shape_px=disc)]))
    hand.click(400, 1400)
    house.until(lambda: tool.corners is not None and len(tool.corners) == 4000)
    assert 10 < len(tool.handles_px) < 60
    right = tool.handles_px[tool.handles_px[:, 0].argmax()].tolist()
    hand.drag(right, (right[0] + 60, right[1]), (right[0] + 100, right[1]))
    assert len(tool.corners) == 4000
    grown = house.said.present["b"].shape_px
    assert grown.bounds[2] == pytest.approx(right[0] + 100, abs=2 * pixel)
    assert grown.area - disc.area > 1000
    hand.key(Qt.Key.Key_Escape)
    hand.key(Qt.Key.Key_Escape)
    assert tool.corners is None
