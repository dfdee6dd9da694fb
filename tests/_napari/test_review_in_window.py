"""Review: a person decides on one finding after the other with keys, takes back, and sees how much is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import shapely
from answered import answer
from hands import click
from qtpy.QtCore import Qt

from napari_metastasis._napari.compat import window_of
from napari_metastasis._napari.outline_styles import style_of_lesions
from napari_metastasis._napari.ranking import Ranking
from napari_metastasis.annotations import Correction, CorrectionStore
from napari_metastasis.geometry import Point
from napari_metastasis.lesions import count_text

pytestmark = pytest.mark.gui

#: The largest is neither the most probable nor the one that the model is least sure of.
BLOBS = (
    (500.0, 500.0, 90.0, 0.99),
    (1300.0, 500.0, 200.0, 0.7),
    (2000.0, 1500.0, 120.0, 0.55),
    (800.0, 1500.0, 60.0, 0.9),
)


@pytest.fixture
def reviewing(house, make_disc: Callable[..., tuple[Path, object]]):
    """The window with four findings."""
    path, _ = make_disc(0.5)
    house.open(path)
    house.file = path.parent / "disc.metastasis"
    answer(house, BLOBS)
    house.until(lambda: house.workspace.reviewer.name != "")
    return house


def key(house, key_: Qt.Key, *held: Qt.KeyboardModifier) -> None:
    modifiers = Qt.KeyboardModifier.NoModifier
    for one in held:
        modifiers |= one
    house.qtbot.keyClick(window_of(house.viewer), key_, modifiers)


def marks(house) -> dict[int, str]:
    rows = house.panel.results_part.table.rows
    return {lesion.id: rows.mark(lesion) for lesion in rows.lesions}


def blob(house) -> tuple[float, ...]:
    """Return the disc that is chosen and in the middle of the window."""
    session = house.session
    row = next(one for one in session.found.rows if one.id == session.selected)
    y, x = house.viewer.scene.camera.center[-2:]
    at = Point(row.x, row.y).to_um(session.slide.mpp)
    assert (x, y) == pytest.approx((at.x, at.y), abs=1)
    return min(BLOBS, key=lambda one: (one[0] - row.x) ** 2 + (one[1] - row.y) ** 2)


def test_keys_decide_and_go_on_and_a_step_back_shows_the_finding_again(reviewing) -> None:
    house, part = reviewing, reviewing.panel.results_part
    session, bar = house.session, part.review
    assert bar.counter.text() == "0 of 4 reviewed, 4 left"
    bar.order.setCurrentIndex(bar.order.findData(Ranking.DOUBT))
    # The first press only shows what is to be decided on.
    key(house, Qt.Key.Key_C)
    assert not session.corrections.present
    assert blob(house) == BLOBS[2]
    # The model is least sure of 0.55, then of 0.7, 0.9, 0.99.
    seen = []
    for press in (Qt.Key.Key_R, Qt.Key.Key_C, Qt.Key.Key_I):
        seen.append(blob(house))
        key(house, press)
    assert seen == [BLOBS[2], BLOBS[1], BLOBS[3]]
    assert blob(house) == BLOBS[0]
    assert bar.counter.text() == "3 of 4 reviewed, 1 left"
    assert sorted(marks(house).values()) == ["", "–", "✓", "✗"]
    assert [one.state for one in session.corrections.present] == ["rejected", "confirmed", "ignored"]
    assert {one.reviewer for one in session.corrections.present} == {house.workspace.reviewer.name}
    assert all(one.found.model == "chosen" and not one.is_redrawn for one in session.corrections.present)
    # What was taken away does not count, and that is said; in the table it is struck out.
    house.until(lambda: "not counted" in part.summary.text())
    counted = [row for row in session.found.rows if session.reviewed.review(row.id).counts]
    assert len(counted) == 2
    assert (
        part.summary.text() == f"{count_text(row.size_class for row in counted)}; 1 rejected and 1 ignored, not counted"
    )
    struck = [part.table.rows.index(row, 1).data(Qt.ItemDataRole.FontRole) for row in range(4)]
    assert sum(font is not None and font.strikeOut() for font in struck) == 2
    # What was decided looks otherwise on the slide.
    style = style_of_lesions(session.found, session.reviewed, None, session.corrections.present, most=0)
    assert len({style[row.id] for row in session.found.rows}) >= 3
    key(house, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert blob(house) == BLOBS[3]
    assert bar.counter.text() == "2 of 4 reviewed, 2 left"
    key(house, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier)
    assert bar.counter.text() == "3 of 4 reviewed, 1 left"
    house.until(lambda: house.controller.corrections.settled)
    assert CorrectionStore(house.file).read() == session.corrections.present


def test_buttons_show_what_was_said_and_take_it_back_and_a_comment_stays(reviewing) -> None:
    house, part = reviewing, reviewing.panel.results_part
    session, bar = house.session, part.review
    part.go_to(part.table.rows.lesions[0])
    number = session.selected
    bar.comment.setText("sinus; histiocytes")
    bar.comment.editingFinished.emit()
    (said,) = session.corrections.present
    assert (said.state, said.comment) == ("pending", "sinus; histiocytes")
    assert bar.counter.text() == "0 of 4 reviewed, 4 left"
    click(bar.buttons["normal"])
    assert marks(house)[number] == "✗"
    assert session.selected != number
    assert not bar.buttons["normal"].isChecked()
    part.go_to(next(row for row in part.table.rows.lesions if row.id == number))
    assert bar.buttons["normal"].isChecked()
    assert bar.comment.text() == "sinus; histiocytes"
    assert bar.said.text().startswith(f"Rejected by {house.workspace.reviewer.name}, ")
    click(bar.buttons["normal"])
    assert marks(house)[number] == ""
    assert session.selected == number
    assert [one.comment for one in session.corrections.present] == ["sinus; histiocytes"]
    # Letters that are written are no keys.
    bar.comment.setFocus()
    house.qtbot.keyClicks(bar.comment, "CRI")
    assert bar.counter.text() == "0 of 4 reviewed, 4 left"


def test_what_was_decided_outlives_the_threshold_and_is_listed_where_it_is_not_shown(reviewing) -> None:
    house, part = reviewing, reviewing.panel.results_part
    session, bar = house.session, part.review
    for row in list(part.table.rows.lesions):
        part.go_to(row)
        part.decide("normal" if row.probability < 0.8 else "tumour")
    assert bar.counter.text() == "All 4 findings reviewed"
    session.set_threshold(0.8)
    house.until(lambda: len(session.found.rows) == 2)
    house.until(lambda: bar.counter.text() == "All 2 findings reviewed")
    assert bar.hidden.text() == "2 decided findings are not shown at this threshold"
    hidden = [row for row in part.table.rows.lesions if row.id < 0]
    assert [part.table.rows.mark(row) for row in hidden] == ["✗", "✗"]
    # One can go there, and think again.
    part.go_to(hidden[0])
    assert part.position.text() == "3 of 4"
    part.decide("tumour")
    assert [part.table.rows.mark(row) for row in part.table.rows.lesions if row.id == hidden[0].id] == ["✓"]
    # A lesion that a person drew is listed, too.
    drawn = Correction(key="drawn", label="tumour", shape_px=shapely.box(100, 1800, 180, 1900))
    session.corrections.do("Draw", session.corrections.present.with_(drawn))
    assert [part.table.rows.mark(row) for row in part.table.rows.lesions].count("+") == 1
    # What speaks against what was said of a finding is told.
    part.go_to(next(row for row in part.table.rows.lesions if row.id > 0))
    against = Correction(key="against", label="normal", shape_px=session.found.lesion(session.selected).outline_px)
    session.corrections.do("Draw", session.corrections.present.with_(against))
    assert "look again" in bar.said.text()
    assert marks(house)[session.selected] == "?"
    house.workspace.move_in_history(-1)
    session.set_threshold(0.5)
    house.until(lambda: bar.hidden.text() == "")
    assert len(session.found.rows) == 4
    assert bar.counter.text() == "All 4 findings reviewed"
