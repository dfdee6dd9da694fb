"""The corrections of an open slide: saved after each change, kept where the disk refuses, put together with others'."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import shapely
from pytestqt.qtbot import QtBot
from read_only import make_read_only

from napari_metastasis._napari import corrections_keeper
from napari_metastasis._napari.corrections_keeper import CorrectionsKeeper
from napari_metastasis._napari.reviewer import known_reviewer, remember_reviewer
from napari_metastasis._napari.session import SlideSession
from napari_metastasis.annotations import Correction, Corrections, CorrectionStore, read_corrections

pytestmark = pytest.mark.gui


def correction(key: str, label: str = "tumour") -> Correction:
    return Correction(key=key, label=label, shape_px=shapely.box(0, 0, 10, 10))


class Opened:
    """One window's side of a slide: what is said of it, and who keeps that."""

    def __init__(self, path: Path, qtbot: QtBot) -> None:
        self.session = SlideSession(SimpleNamespace(name=path.stem, path=path, bounds=None, fingerprint="f"))
        self.said = self.session.corrections
        self.parent = corrections_keeper.QObject()
        self.keeper = CorrectionsKeeper(self.session, self.parent)
        self.session.looking_changed.emit(False)
        self.until = lambda condition: qtbot.waitUntil(condition, timeout=10_000)
        self.file = path.parent / f"{path.stem}.metastasis"

    def add(self, key: str, label: str = "tumour") -> None:
        self.said.do(f"Draw {key}", self.said.present.with_(correction(key, label)))

    def settle(self) -> Corrections:
        """Wait until all is saved, and return what the file holds."""
        self.until(lambda: self.keeper.settled)
        return CorrectionStore(self.file).read()


@pytest.fixture
def opened(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Opened]]:
    monkeypatch.setattr(corrections_keeper, "_AGAIN_MS", 20)
    monkeypatch.setattr(corrections_keeper, "_LOOK_MS", 10)
    all_of_them: list[Opened] = []

    def open_one() -> Opened:
        all_of_them.append(Opened(tmp_path / "slide.tif", qtbot))
        return all_of_them[-1]

    yield open_one
    for one in all_of_them:
        worker, _ = one.keeper.close()
        if worker is not None:
            worker.wait(10)


def test_every_change_is_saved_and_taken_back_and_another_session_reads_it(opened: Callable[[], Opened]) -> None:
    one = opened()
    # Said before the file was read.
    one.add("a")
    assert one.said.saving.kind == "saving"
    assert set(one.settle().by_key) == {"a"}
    one.add("b")
    one.add("c", "normal")
    assert set(one.settle().by_key) == {"a", "b", "c"}
    one.until(lambda: one.said.saving.text == "Saved")
    assert one.said.undo_text == "Draw c"
    assert [each.key for each in one.said.undo()] == ["c"]
    assert set(one.settle().by_key) == {"a", "b"}
    assert one.said.redo_text == "Draw c"
    other = opened()
    other.until(lambda: len(other.said.present) == 2)
    assert other.said.undo() == ()


@pytest.mark.parametrize("refusal", ["full", "read-only"])
def test_what_the_disk_refuses_is_kept_said_and_saved_once_it_can_be(
    opened: Callable[[], Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    one = opened()
    one.add("a")
    one.settle()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if refusal == "full":
            patch.setattr(os, "fsync", full)
        else:
            make_read_only(patch, tmp_path)
        one.add("b")
        one.until(lambda: one.said.saving.kind == "failed")
        said = "the disk is full" if refusal == "full" else "nothing may be written"
        assert said in one.said.saving.text
        assert "Kept in memory" in one.said.saving.text
        assert one.keeper.failed
        # Work goes on, and may be taken back.
        one.add("c")
        one.add("d")
        one.said.undo()
    assert set(read_corrections(one.file / "annotations.geojson").corrections.by_key) == {"a"}
    assert set(one.settle().by_key) == {"a", "b", "c"}
    one.until(lambda: one.said.saving.text == "Saved")
    assert not one.keeper.failed


def test_two_windows_on_one_slide_see_what_the_other_said(opened: Callable[[], Opened]) -> None:
    one, other = opened(), opened()
    one.add("a")
    one.settle()
    other.until(lambda: "a" in other.said.present)
    # Both at once, before either looks.
    for side, key in ((one, "b"), (other, "c")):
        side.add(key)
        side.add("a", "normal" if side is one else "ignore")
    one.until(lambda: {*one.said.present.by_key} == {"a", "b", "c"} == {*other.said.present.by_key})
    one.until(lambda: one.keeper.settled and other.keeper.settled and one.said.present == other.said.present)
    assert CorrectionStore(one.file).read() == one.said.present
    notes = one.said.note + other.said.note
    assert "another window" in notes
    assert "Both had changed the same place" in notes
    # Neither side's word is lost where both spoke of one place, whichever stands.
    backups = [read_corrections(path).corrections for path in (one.file / "annotations.backups").iterdir()]
    assert {held["a"].label for held in (*backups, one.said.present) if "a" in held} >= {"normal", "ignore"}
    # What this window did can be taken back, and leaves the other's as it is.
    one.said.undo()
    one.said.undo()
    assert {*one.said.present.by_key} == {"a", "c"}
    other.until(lambda: {*other.said.present.by_key} == {"a", "c"})


def test_a_damaged_file_is_left_as_it_is_and_what_is_said_waits(opened: Callable[[], Opened]) -> None:
    one = opened()
    one.add("a")
    one.settle()
    path = one.file / "annotations.geojson"
    whole = path.read_text()
    path.write_text("{")
    one.until(lambda: one.said.saving.kind == "failed")
    one.add("b")
    one.until(lambda: one.keeper.failed)
    assert path.read_text() == "{"
    path.write_text(whole)
    assert set(one.settle().by_key) == {"a", "b"}


def test_what_was_said_last_is_left_to_be_saved_when_a_slide_closes(opened: Callable[[], Opened]) -> None:
    one = opened()
    one.add("a")
    worker, left = one.keeper.close()
    if worker is not None:
        worker.wait(10)
    assert left is not None
    left(lambda: False)
    assert set(CorrectionStore(one.file).read().by_key) == {"a"}


def test_what_no_disk_takes_at_the_end_is_back_when_the_slide_is_opened_again(
    opened: Callable[[], Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    slides = tmp_path / "slide.metastasis"
    one = opened()
    one.add("a")
    one.settle()
    with monkeypatch.context() as patch:
        make_read_only(patch, slides)
        one.add("b")
        one.until(lambda: one.keeper.failed)
        worker, left = one.keeper.close()
        if worker is not None:
            worker.wait(10)
        assert left is not None
        left(lambda: False)
    assert {*CorrectionStore(slides).read().by_key} == {"a"}
    again = opened()
    again.until(lambda: {*again.said.present.by_key} == {"a", "b"})
    assert "could not be saved" in again.said.note
    assert {*again.settle().by_key} == {"a", "b"}
    # It is there once: what is taken away later does not come back.
    again.said.do("Remove", again.said.present.without("b"))
    again.settle()
    third = opened()
    third.until(lambda: {*third.said.present.by_key} == {"a"})
    assert third.said.note == ""


def test_corrections_go_with_the_slide_to_a_result_that_has_none(opened: Callable[[], Opened], tmp_path: Path) -> None:
    one = opened()
    one.add("a")
    one.settle()
    for name in ("elsewhere", "others"):
        (tmp_path / name).mkdir()
    CorrectionStore(tmp_path / "others").save(Corrections.of([correction("z")]))
    for name, keys in (("elsewhere", {"a"}), ("others", {"z"})):
        one.session.folder = tmp_path / name
        one.session.maps_replaced.emit()
        one.until(lambda keys=keys: {*one.said.present.by_key} == keys and one.keeper.settled)
        assert one.keeper.path == tmp_path / name / "annotations.geojson"
        assert {*CorrectionStore(tmp_path / name).read().by_key} == keys
    assert {*CorrectionStore(one.file).read().by_key} == {"a"}


def test_a_reviewer_is_remembered_and_is_the_one_who_is_logged_in_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert known_reviewer() == "ada"
    assert remember_reviewer("  Dr. Ada\nLovelace ") == "Dr. Ada Lovelace"
    assert known_reviewer() == "Dr. Ada Lovelace"
    remember_reviewer(" ")
    assert known_reviewer() == "ada"
