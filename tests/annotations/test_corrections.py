"""What a person says of a slide: states, undo and redo, and what two people made of the same corrections."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import shapely

from napari_metastasis.annotations import Correction, Corrections, Finding, History
from napari_metastasis.annotations.corrections import LABELS, now, relabelled

SQUARE = shapely.box(0, 0, 10, 10)
FOUND = Finding(model="m", map="heatmap", threshold=0.5, probability=0.9, outline_px=SQUARE)


def correction(key="a", label="tumour", shape=SQUARE, **more):
    return Correction(key=key, label=label, shape_px=shape, **more)


@pytest.mark.parametrize(
    ("label", "of_finding", "of_drawing"),
    [
        ("tumour", "confirmed", "added"),
        ("normal", "rejected", "normal"),
        ("ignore", "ignored", "ignored"),
        ("undecided", "pending", "pending"),
    ],
)
def test_the_state_says_what_became_of_a_finding_or_of_a_drawing(label, of_finding, of_drawing):
    assert correction(label=label, found=FOUND).state == of_finding
    assert correction(label=label).state == of_drawing
    assert label in LABELS


def test_an_outline_that_a_person_changed_is_told_from_the_models():
    assert not correction(found=FOUND).is_redrawn
    assert not correction(found=FOUND, shape=shapely.box(0, 0, 10, 10).normalize()).is_redrawn
    assert correction(found=FOUND, shape=shapely.box(0, 0, 10, 11)).is_redrawn
    assert not correction().is_redrawn
    # One object where nothing was redrawn, off the grid and after another step too: windows compare no corners.
    found = replace(FOUND, outline_px=shapely.box(0, 0, 10.0001, 10))
    same = correction(found=found, shape=shapely.box(0, 0, 10.0001, 10))
    for one in (same, relabelled(same, "normal", reviewer="B")):
        assert one.shape_px is one.found.outline_px


def test_steps_are_taken_back_and_done_again_and_a_new_step_forgets_what_was_undone():
    one, two = Corrections.of([correction("a")]), Corrections.of([correction("a"), correction("b")])
    history = History(Corrections())
    assert (history.undo_text, history.redo_text, history.undo(), history.redo()) == ("", "", False, False)
    history.do("Accept lesion 1", one)
    history.do("Draw", two)
    assert history.undo_text == "Draw"
    assert history.undo()
    assert (history.present, history.undo_text, history.redo_text) == (one, "Accept lesion 1", "Draw")
    assert history.undo()
    assert history.present == Corrections()
    assert history.redo()
    assert history.redo()
    assert (history.present, history.redo_text) == (two, "")
    history.undo()
    history.do("Reject lesion 1", one.without("a"))
    assert not history.redo()


def test_of_too_many_steps_the_earliest_are_forgotten_and_the_last_never_is():
    states = [Corrections.of([correction(str(key)) for key in range(count)]) for count in range(9)]
    history = History(states[0], most=40)
    for count, state in enumerate(states[1:], 1):
        history.do(f"Step {count}", state)
    taken_back = 0
    while history.undo():
        taken_back += 1
    # A step costs what was there before it, and the five corners of what it draws.
    assert taken_back == 3
    assert history.present == states[5]
    tiny = History(states[0], most=0)
    tiny.do("Step", states[1])
    assert tiny.undo()


def test_steps_of_before_leave_what_another_person_did_meanwhile():
    one, two = (Corrections.of([correction(key) for key in keys]) for keys in ("a", "ab"))
    history = History(one)
    history.do("Draw b", two)
    history.do("Remove a", two.without("a"))
    history.undo()
    history.rebase(two.with_(correction("b", label="normal"), correction("z")))
    assert history.undo()
    # The step that drew b is taken back; what another person made of it is, with it.
    assert {each.key: each.label for each in history.present} == {"a": "tumour", "z": "tumour"}
    assert history.redo()
    assert {each.key: each.label for each in history.present} == {"a": "tumour", "b": "normal", "z": "tumour"}
    assert history.redo()
    assert {*history.present.by_key} == {"b", "z"}


def test_earlier_corrections_stay_as_they_were():
    before = Corrections.of([correction("a"), correction("b")])
    after = before.with_(correction("a", label="normal")).without("b")
    assert [(one.key, one.label) for one in before] == [("a", "tumour"), ("b", "tumour")]
    assert [(one.key, one.label) for one in after] == [("a", "normal")]
    assert "b" in before
    assert "b" not in after


class TestMerging:
    base = Corrections.of([correction("a"), correction("b"), correction("c")])

    def test_what_one_of_both_changed_is_taken(self):
        mine = self.base.with_(correction("a", label="normal"), correction("d"))
        theirs = self.base.with_(correction("e")).without("b")
        together, disputed = mine.merged(theirs, self.base)
        assert {one.key: one.label for one in together} == {"a": "normal", "c": "tumour", "d": "tumour", "e": "tumour"}
        assert disputed == ()

    def test_the_later_of_two_changes_stands_and_is_said(self):
        early, late = now(), now() + timedelta(minutes=1)
        mine = self.base.with_(correction("a", label="normal", at=early))
        theirs = self.base.with_(correction("a", label="ignore", at=late))
        for one, other in ((mine, theirs), (theirs, mine)):
            together, disputed = one.merged(other, self.base)
            assert together["a"].label == "ignore"
            assert disputed == ("a",)

    def test_what_one_removed_and_the_other_changed_is_kept(self):
        mine, theirs = self.base.without("a"), self.base.with_(correction("a", label="normal"))
        for one, other in ((mine, theirs), (theirs, mine)):
            together, disputed = one.merged(other, self.base)
            assert together["a"].label == "normal"
            assert disputed == ("a",)

    def test_what_both_did_alike_is_no_dispute(self):
        both = self.base.without("a").with_(replace(self.base["b"], comment="x"))
        assert both.merged(both, self.base) == (both, ())


def test_a_place_that_is_said_to_be_something_else_has_a_new_reviewer_and_time():
    old = correction(at=now() - timedelta(days=1), reviewer="A", comment="pale", found=FOUND)
    new = relabelled(old, "normal", reviewer="B")
    assert (new.label, new.reviewer, new.comment, new.found, new.key) == ("normal", "B", "pale", FOUND, old.key)
    assert new.at > old.at


def test_keys_are_uuids_and_never_the_same():
    keys = {Correction.new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 36 and key[14] == "4" for key in keys)
