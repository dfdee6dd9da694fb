"""What a result folder says of itself is checked before it is believed."""

from __future__ import annotations

import json

import pytest

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import read_detections_csv
from napari_metastasis.evaluation.scan_records import read_scan_record
from napari_metastasis.settings import THRESHOLD
from napari_metastasis.workflows.scan.earlier import recorded_notes
from napari_metastasis.workflows.scan.record import _earlier_scans
from napari_metastasis.workflows.scan.result_folder import record_of
from napari_metastasis.workflows.scan.shown import Shown, read_shown

RECORD = {
    "slide": {"size": [600, 400], "bounds": [10, 20, 300, 200]},
    "model": {"name": "mine", "weights_sha256": "0" * 64},
    "stain": {"density": [0.3, 0.5, 0.2], "reference": [0.4, 0.6, 0.3], "normalised": False},
    "scans": [{"region": None, "finished": True, "notes": ["a note"]}],
}


def test_a_whole_record_is_read(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    found = read_scan_record(tmp_path)
    assert (found.size, found.corner, found.model) == ((600.0, 400.0), (10.0, 20.0), "mine")
    assert recorded_notes(record_of(tmp_path)) == ("Stain 0.77 × as dense as in training", "a note")
    assert len(_earlier_scans(tmp_path)) == 1


PART = {**RECORD, "scans": [{"region": {"x": 0}, "finished": True}]}


def test_a_part_of_a_slide_is_refused_by_its_share_and_views_that_cover_one_are_taken(tmp_path):
    coverage = {"tissue_cells": 1000, "answered_cells": 362, "whole": False}
    (tmp_path / "run.json").write_text(json.dumps({**PART, "coverage": coverage}))
    with pytest.raises(EvaluationError, match="expected a finished scan of the whole slide, got one of 36 % of the"):
        read_scan_record(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**PART, "coverage": {**coverage, "whole": True}}))
    assert read_scan_record(tmp_path).model == "mine"


WHOLE, VIEW = {"region": None, "finished": True}, {"region": {"x": 0}, "finished": True}
STOPPED = {"region": None, "finished": False}


@pytest.mark.parametrize(
    ("scans", "counted", "share", "whole"),
    [
        ([WHOLE], None, 1.0, True),
        # Refined in a second go, which was stopped or was one of a view.
        ([WHOLE, STOPPED], None, 1.0, False),
        ([WHOLE, VIEW], None, 1.0, False),
        ([VIEW], None, 1.0, False),
        ([WHOLE, STOPPED], 999, 1.0, False),
        ([WHOLE, VIEW], 999, 1.0, False),
        ([WHOLE, STOPPED], 1000, 1.0, True),
        ([VIEW], 1000, 1.0, True),
        # Nothing is read of what has no share.
        ([WHOLE, STOPPED], 999, 0.0, True),
    ],
)
def test_a_slide_that_later_passes_left_out_a_part_of_is_not_whole(tmp_path, scans, counted, share, whole):
    coverage = {"tissue_cells": 1000, "answered_cells": 1000, "whole": True}
    task = {"task": "refine", "map": "refined", "share": share, "model": RECORD["model"]}
    task |= {} if counted is None else {"tissue_cells_answered": counted}
    record = {**RECORD, "scans": scans, "coverage": coverage, "passes": [task]}
    (tmp_path / "run.json").write_text(json.dumps(record))
    if whole:
        told = "refined 100% by mine (00000000)" if share else "probability"
        assert read_scan_record(tmp_path).read_from == told
        return
    with pytest.raises(EvaluationError, match="got one whose later passes left out a part of it in"):
        read_scan_record(tmp_path)


def test_a_map_of_a_pass_that_was_ended_by_force_makes_no_whole(tmp_path):
    """A window shows it, and writes its files from it."""
    coverage = {"tissue_cells": 1000, "answered_cells": 1000, "whole": True}
    shown = {"threshold": 0.5, "shares": {"refined": 1.0}, "map": "refined"}
    (tmp_path / "run.json").write_text(json.dumps({**RECORD, "coverage": coverage, "passes": [], "shown": shown}))
    with pytest.raises(EvaluationError, match="got one whose later passes left out a part of it in"):
        read_scan_record(tmp_path)
    shown["shares"]["refined"] = 0.0
    (tmp_path / "run.json").write_text(json.dumps({**RECORD, "coverage": coverage, "passes": [], "shown": shown}))
    assert read_scan_record(tmp_path).read_from == "refined"


@pytest.mark.parametrize(
    "coverage",
    [None, [], "ab", {}, {"whole": 1}, {"tissue_cells": 5, "answered_cells": 9}, {"tissue_cells": 0, "whole": "yes"}],
)
def test_a_coverage_that_cannot_be_so_makes_no_slide_whole(tmp_path, coverage):
    (tmp_path / "run.json").write_text(json.dumps({**PART, "coverage": coverage}))
    with pytest.raises(EvaluationError):
        read_scan_record(tmp_path)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("slide", [None, [], {}, {"size": None}, {"size": [600]}, {"size": "ab"}, {"size": [0, 400]}]),
        ("slide", [{"size": [10**400, 1]}, {"size": [1e300, 1]}, {"size": [float("nan"), 1]}, {"size": [True, 1]}]),
        ("slide", [{"size": [600, 400], "bounds": bounds} for bounds in ([], [1], "ab", {}, [-1, 0, 1, 1])]),
        ("slide", [{"size": [600, 400], "bounds": [700, 0, 1, 1]}]),
        ("model", [None, [], {"name": "a"}, {"name": 3, "weights_sha256": ""}, {"name": "a\nb", "weights_sha256": ""}]),
        ("model", [{"name": "\ud800", "weights_sha256": ""}]),
        ("shown", [None, [], {}, {"shares": None}, {"shares": {"refined": 1.0}}, {"shares": {}, "threshold": "0.5"}]),
        ("passes", [None, 3, [None], [{"map": "refined"}], [{"map": [], "share": 1.0}]]),
        ("settings", [None, 3, {"detection": 3}, {"detection": {"threshold": True}}]),
        ("scans", [None, {}, [], [None], ["ab"], [{"finished": True}], [{"finished": "no", "region": None}], "ab"]),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_so_is_refused_in_one_line(tmp_path, part, values):
    for value in values:
        (tmp_path / "run.json").write_text(json.dumps({**RECORD, part: value}))
        with pytest.raises(EvaluationError) as caught:
            read_scan_record(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"ab"', "[" * 5000, '{"a": 1e400}', r'"\ud800"', "\0"])
def test_what_is_no_record_is_refused_or_taken_for_none(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(EvaluationError):
        read_scan_record(tmp_path)
    record = record_of(tmp_path)
    assert (read_shown(record), recorded_notes(record), _earlier_scans(tmp_path)) == (Shown(THRESHOLD), (), [])


@pytest.mark.parametrize(
    "stain",
    [
        {"density": [], "reference": [1, -1, 0], "normalised": False},
        {"density": [0.1, 0.2, 0.3], "reference": [1, -1, 0], "normalised": False},
        {"density": [1e308, 1e308, 1e308], "reference": [0.1, 0.2, 0.3], "normalised": False},
        {"density": "abc", "reference": [0.1, 0.2, 0.3], "normalised": False},
        {"density": [0.1], "reference": [0.1, 0.2, 0.3], "normalised": False},
    ],
)
def test_a_stain_that_no_slide_has_is_not_told(stain):
    assert recorded_notes({**RECORD, "stain": stain}) == ()


def test_thresholds_and_notes_of_another_kind_are_not_believed():
    for threshold in (True, "0.5", None, [0.5], 0, 1.5, -1):
        assert read_shown({"settings": {"detection": {"threshold": threshold}}}) == Shown(THRESHOLD)
        assert read_shown({"shown": {"threshold": threshold, "shares": {}, "map": "probability"}}) == Shown(THRESHOLD)
    assert recorded_notes({**RECORD, "scans": [{"notes": "abc"}]}) == ()


@pytest.mark.parametrize("row", ["0.5,1e300,2", "0.5,1,-1e9", "0.5,nan,2", "0.5,1,inf", "1e400,1,2", "nan,1,2"])
def test_detections_that_lie_on_no_slide_are_refused(tmp_path, row):
    (tmp_path / "a.csv").write_text(f"{row}\n")
    with pytest.raises(EvaluationError, match="expected probabilities of 0 to 1"):
        read_detections_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ["p,x,x,y\n0.5,1,2,3\n", '0.5,1,2\n0.5,"1,2\n0.6,3,4\n', "0.5,1,2\n0.5,1\0,2\n"])
def test_tables_that_could_be_read_two_ways_are_refused(tmp_path, text):
    """An open quote would take all detections behind it for one cell."""
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(EvaluationError, match="line"):
        read_detections_csv(tmp_path / "a.csv")
