"""What a person leaves on a slide comes back with it: in this window, in another one, and with other pixel sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QObject

from napari_metastasis._napari.ruler import Measured
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_marks import SlideMarks, marks_path
from napari_metastasis.geometry import Point, Size

pytestmark = [pytest.mark.gui, pytest.mark.unseen]

SIZE = Size(4000, 3001)
LINE = (Point(10.5, 20.0), Point(310.5, 420.0))


def opened(known_as: str, mpp: float = 0.5, size: Size = SIZE) -> SlideSession:
    return SlideSession(SimpleNamespace(content_fingerprint=known_as, mpp=mpp, size=size))


@pytest.fixture
def window(qtbot) -> Callable[[], SlideMarks]:
    """Make the marks of another window, which remembers what the ones before it kept."""
    owners = []

    def make() -> SlideMarks:
        owners.append(QObject())
        marks = SlideMarks(owners[-1])
        with qtbot.waitSignal(marks._reader.ended):
            pass
        return marks

    return make


def leave_marks(marks: SlideMarks, session: SlideSession) -> np.ndarray:
    marks.lines(session).append(Measured(*LINE, session.slide.mpp))
    mask = marks.looked_at(session).mask
    mask[3:7, 100:210] = mask[-1, -1] = True
    return mask.copy()


def test_marks_come_back_with_their_slide(window: Callable[[], SlideMarks], qtbot) -> None:
    marks, session = window(), opened("a")
    mask = leave_marks(marks, session)
    marks.keep(session)
    again, other = opened("a"), opened("b")
    assert marks.lines(again) == [Measured(*LINE, 0.5)]
    np.testing.assert_array_equal(marks.looked_at(again).mask, mask)
    assert marks.lines(other) == []
    assert not marks.looked_at(other).mask.any()
    # Another day, with another size of its pixels.
    marks.close()
    qtbot.waitUntil(lambda: marks_path().exists() and set(json.loads(marks_path().read_text())) == {"a"})
    later, finer = window(), opened("a", mpp=0.25)
    assert later.lines(finer) == [Measured(*LINE, 0.25)]
    np.testing.assert_array_equal(later.looked_at(finer).mask, mask)
    # What is taken away stays away.
    later.lines(finer).clear()
    later.keep(finer)
    assert later.lines(opened("a")) == []


def test_marks_that_come_late_join_those_that_were_made_meanwhile(window: Callable[[], SlideMarks], qtbot) -> None:
    first, session = window(), opened("a")
    mask = leave_marks(first, session)
    first.close()
    qtbot.waitUntil(marks_path().exists)
    owner = QObject()
    late = SlideMarks(owner)
    drawn = Measured(Point(0, 0), Point(5, 5), 0.5)
    late.lines(session).append(drawn)
    late.looked_at(session).mask[0, 0] = True
    with qtbot.waitSignal(late.recalled) as told:
        pass
    assert told.args == [session]
    assert late.lines(session) == [Measured(*LINE, 0.5), drawn]
    mask[0, 0] = True
    np.testing.assert_array_equal(late.looked_at(session).mask, mask)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"lines": [[1, 2, 3], [1, 2, 3, 1e999], "abcd", None, [[], 2, 3, 4]], "looked_at": "!"},
        {"lines": {"a": 1}, "looked_at": 7},
        {"lines": None, "looked_at": "eJwDAAAAAAE="},
    ],
)
def test_damaged_marks_are_none(window: Callable[[], SlideMarks], entry: object) -> None:
    marks_path().parent.mkdir(parents=True, exist_ok=True)
    marks_path().write_text(json.dumps({"a": entry}).replace("Infinity", "1e308"))
    marks, session = window(), opened("a")
    assert [line for line in marks.lines(session) if line.end.y < 1e300] == []
    assert not marks.looked_at(session).mask.any()


def test_a_mask_of_a_slide_of_another_size_is_none(window: Callable[[], SlideMarks]) -> None:
    marks, session = window(), opened("a")
    leave_marks(marks, session)
    marks.keep(session)
    assert not marks.looked_at(opened("a", size=Size(4000, 1000))).mask.any()


def test_only_the_slides_of_late_are_remembered(
    window: Callable[[], SlideMarks], monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:
    monkeypatch.setattr("napari_metastasis._napari.slide_marks._MOST", 2)
    marks = window()

    def kept() -> set[str]:
        return set(json.loads(Path(marks_path()).read_text())) if marks_path().exists() else set()

    for name, expected in (("a", {"a"}), ("b", {"a", "b"}), ("c", {"b", "c"})):
        session = opened(name)
        leave_marks(marks, session)
        marks.keep(session)
        qtbot.waitUntil(lambda expected=expected: kept() == expected)
