"""Files follow what is shown, and a result opens again as it was left."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from read_only import make_read_only
from scans import SCAN, scan_with

from napari_metastasis import scanning
from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Region
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.scanning import Coverage, seen_values
from napari_metastasis.settings import THRESHOLD, DetectionSettings, RefineSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows import scan as workflows_scan
from napari_metastasis.workflows.scan import (
    Shown,
    default_output,
    earlier_result,
    earlier_results,
    heatmap_path,
    journals_of,
    load_result,
    places,
    read_shown,
    remember_place,
    result_files,
    write_shown,
)
from napari_metastasis.workflows.scan.places import places_path, remembered_places
from napari_metastasis.workflows.scan.result_files import one_writer

TABLES = ("detections.csv", "lesions.csv", "lesions.geojson")
#: Low enough for cells around the disc that the usual threshold leaves out.
LOW = 0.05


def run(slide, model, output, **changes):
    return scan_with(slide, model, output, scan=SCAN, **changes)


def record_in(folder):
    return json.loads((folder / "run.json").read_text())


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def never():
    return False


def found_at(earlier, threshold, share=1.0):
    """Return what a window shows of an earlier result."""
    own, *later = earlier.maps
    seen = seen_values(own, [(one, share) for one in later]).values
    read_from = later[-1].kind.name if later and share else own.kind.name
    shown = Shown(threshold, {one.kind.name: share for one in later}, read_from)
    return LesionIndex(seen, own.frame, DetectionSettings(floor=0.01), map=read_from).at(threshold), shown


def show(slide, folder, threshold, **how):
    """Write the files of a result at another threshold, as the window does."""
    earlier = load_result(slide, earlier_results(slide, folder)[0])
    found, shown = found_at(earlier, threshold, **how)
    return write_shown(earlier.folder, slide, found, shown, coverage={}, journals=earlier.journals, should_stop=never)


def test_a_scan_says_what_its_files_show(slide, model, refiner, tmp_path):
    run(slide, model, tmp_path, detection=DetectionSettings(threshold=0.4))
    stored = record_in(tmp_path)
    assert {key: stored["shown"][key] for key in ("threshold", "shares", "map")} == {
        "threshold": 0.4,
        "shares": {},
        "map": "probability",
    }
    assert datetime.fromisoformat(stored["shown"]["at"]).tzinfo is not None
    assert read_shown(stored) == Shown(0.4)
    run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=True, refined_share=0.25))
    assert read_shown(record_in(tmp_path)) == Shown(THRESHOLD, {"refined": 0.25}, "refined")


@pytest.mark.parametrize("header", [False, True])
def test_files_at_another_threshold_are_those_of_a_scan_at_it(slide, model, tmp_path, header):
    run(slide, model, tmp_path / "low", detection=DetectionSettings(threshold=LOW, floor=0.01), csv_header=header)
    run(slide, model, tmp_path / "out", csv_header=header)
    before, usual = record_in(tmp_path / "out"), tables(tmp_path / "out")
    assert show(slide, tmp_path / "out", LOW)
    assert tables(tmp_path / "out") == tables(tmp_path / "low") != usual
    after = record_in(tmp_path / "out")
    assert read_shown(after) == Shown(LOW)
    assert after["settings"] == before["settings"], "the scan's own threshold stays"
    changing = {"shown", "lesions", "slide_score", "files"}
    assert list(after) == list(before)
    assert {key: after[key] for key in after.keys() - changing} == {
        key: before[key] for key in before.keys() - changing
    }
    assert after["lesions"] == record_in(tmp_path / "low")["lesions"]
    # A later scan writes with its own threshold again, and says so.
    run(slide, model, tmp_path / "out", csv_header=header)
    assert tables(tmp_path / "out") == usual
    assert read_shown(record_in(tmp_path / "out")) == Shown(THRESHOLD)


def test_a_header_is_kept_where_an_earlier_record_does_not_speak_of_it(slide, model, tmp_path):
    run(slide, model, tmp_path, csv_header=True)
    older = {key: value for key, value in record_in(tmp_path).items() if key not in ("files", "shown")}
    (tmp_path / "run.json").write_text(json.dumps(older))
    show(slide, tmp_path, LOW)
    assert (tmp_path / "detections.csv").read_text().startswith("p,x,y\n")
    assert record_in(tmp_path)["files"]["csv_header"] is True


def test_findings_of_nothing_are_written_too(slide, model, tmp_path):
    run(slide, model, tmp_path)
    assert show(slide, tmp_path, 1.0)
    assert (tmp_path / "detections.csv").read_text() == ""
    assert record_in(tmp_path)["lesions"] == 0
    assert earlier_result(slide, tmp_path).threshold == 1.0


def test_a_result_opens_as_it_was_left(slide, model, refiner, tmp_path):
    run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=True))
    earlier = earlier_result(slide, tmp_path)
    assert (earlier.shown, earlier.own_threshold) == (Shown(THRESHOLD, {"refined": 1.0}, "refined"), THRESHOLD)
    show(slide, tmp_path, 0.3, share=0.0)
    earlier = earlier_result(slide, tmp_path)
    assert (earlier.shown, earlier.own_threshold) == (Shown(0.3, {"refined": 0.0}, "probability"), THRESHOLD)
    assert [one.kind.name for one in earlier.maps] == ["probability", "refined"]


def test_a_map_that_the_last_scan_did_not_make_is_no_part_of_its_result(slide, model, refiner, tmp_path):
    run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=True))
    run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=False))
    earlier = earlier_result(slide, tmp_path)
    assert [one.kind.name for one in earlier.maps] == ["probability"]
    assert earlier.shown.shares == {}


def test_records_of_earlier_versions_say_it_in_their_settings(slide, model, refiner, tmp_path):
    detection = DetectionSettings(threshold=0.4)
    how = {"refiner": refiner, "refine": RefineSettings(refine=True, refined_share=0.5), "detection": detection}
    run(slide, model, tmp_path, **how)
    older = {key: value for key, value in record_in(tmp_path).items() if key not in ("files", "shown")}
    (tmp_path / "run.json").write_text(json.dumps(older))
    earlier = earlier_result(slide, tmp_path)
    assert (earlier.shown, earlier.own_threshold) == (Shown(0.4, {"refined": 0.5}, "refined"), 0.4)
    assert len(earlier.maps) == 2


def test_a_scan_that_was_killed_shows_all_that_there_is(slide, model, refiner, tmp_path):
    run(slide, model, tmp_path, region=Region(400, 300, 400, 400))
    stored = (tmp_path / "run.json").read_text()
    run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=True))
    # The record of the first, as if the second one had been killed before it wrote its own.
    (tmp_path / "run.json").write_text(stored)
    assert [one.kind.name for one in earlier_result(slide, tmp_path).maps] == ["probability", "refined"]
    (tmp_path / "run.json").unlink()
    earlier = earlier_result(slide, tmp_path)
    assert [one.kind.name for one in earlier.maps] == ["probability", "refined"]
    assert earlier.threshold == THRESHOLD
    # It has no files yet; those of what is shown are written, and the record says at least what of.
    found, shown = found_at(earlier, 0.3)
    assert write_shown(tmp_path, slide, found, shown, coverage={}, journals=earlier.journals, should_stop=never)
    assert earlier_result(slide, tmp_path).shown == Shown(0.3, {"refined": 1.0}, "refined")


def test_findings_of_maps_that_another_scan_went_on_with_are_not_written(slide, model, tmp_path):
    run(slide, model, tmp_path, region=Region(400, 300, 400, 400))
    earlier = earlier_result(slide, tmp_path)
    run(slide, model, tmp_path)
    before = tables(tmp_path), record_in(tmp_path)
    found, shown = found_at(earlier, 0.3)
    with pytest.raises(StorageError, match=r"another scan went on with; open the slide again"):
        write_shown(tmp_path, slide, found, shown, coverage={}, journals=earlier.journals, should_stop=never)
    assert (tables(tmp_path), record_in(tmp_path)) == before


def test_nothing_is_written_once_it_is_not_wanted(slide, model, tmp_path):
    run(slide, model, tmp_path)
    earlier, before = earlier_result(slide, tmp_path), tables(tmp_path)
    found, shown = found_at(earlier, LOW)
    assert not write_shown(
        tmp_path, slide, found, shown, coverage={}, journals=earlier.journals, should_stop=lambda: True
    )
    assert tables(tmp_path) == before


def test_a_disk_that_takes_nothing_leaves_every_file_whole(slide, model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    run(slide, model, output)
    before = tables(output), record_in(output)
    with monkeypatch.context() as patched:
        make_read_only(patched, output)
        with pytest.raises(StorageError, match="read-only"):
            show(slide, output, LOW)
    assert (tables(output), record_in(output)) == before


def test_a_folder_that_is_gone_is_said_and_not_made_again(slide, model, tmp_path):
    output = tmp_path / "out"
    run(slide, model, output)
    earlier = earlier_result(slide, output)
    found, shown = found_at(earlier, LOW)
    output.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"got it deleted, renamed or unmounted"):
        write_shown(output, slide, found, shown, coverage={}, journals=earlier.journals, should_stop=never)
    assert not output.exists()


def test_results_of_another_slide_are_left_alone(slide, slide_path, model, tmp_path):
    run(slide, model, tmp_path)
    earlier = earlier_result(slide, tmp_path)
    found, shown = found_at(earlier, LOW)
    before = tables(tmp_path)
    with (
        open_slide(slide_path, swap_red_blue=True) as other,
        pytest.raises(StorageError, match="got those of another slide"),
    ):
        write_shown(tmp_path, other, found, shown, coverage={}, journals=earlier.journals, should_stop=never)
    assert tables(tmp_path) == before


def test_writers_wait_for_each_other(slide, model, tmp_path, monkeypatch):
    run(slide, model, tmp_path)
    begun, written = threading.Event(), []

    def write():
        begun.set()
        written.append(show(slide, tmp_path, LOW))

    before = tables(tmp_path)
    writer = threading.Thread(target=write)
    with one_writer(tmp_path):
        writer.start()
        begun.wait()
        writer.join(0.5)
        assert writer.is_alive()
        assert tables(tmp_path) == before
    writer.join()
    assert written == [True]
    monkeypatch.setattr(result_files, "_PATIENCE_S", 0.1)
    with one_writer(tmp_path), pytest.raises(StorageError, match="another one is at work"):
        show(slide, tmp_path, 0.5)


def test_every_result_of_a_slide_is_listed(slide, model, refiner, tmp_path):
    assert earlier_results(slide, tmp_path) == ()
    coarse = replace(SCAN, dense_coefficient=1)
    first = scan_with(slide, model, tmp_path, scan=coarse, detection=DetectionSettings(threshold=0.4))
    other = run(slide, model, tmp_path, refiner=refiner, refine=RefineSettings(refine=True))
    latest, earliest = earlier_results(slide, tmp_path)
    assert (latest.folder, earliest.folder) == (other.output, first.output)
    assert earliest.shown == Shown(0.4)
    assert latest.model_name == model.name
    assert latest.when.tzinfo is not None
    assert abs((datetime.now().astimezone() - latest.when).total_seconds()) < 600
    assert latest.when_text.startswith(f"{latest.when.day} ")
    assert latest.when_text.endswith(f" {latest.when:%H:%M}")
    assert latest.cell_um != earliest.cell_um
    assert earliest.cell_um == record_in(earliest.folder)["heatmap"]["cell_um"]
    loaded = load_result(slide, earliest)
    np.testing.assert_array_equal(loaded.maps[0].values, first.probabilities)
    assert loaded.threshold == 0.4
    # The one that was shown last comes first.
    found, shown = found_at(loaded, 0.3)
    write_shown(loaded.folder, slide, found, shown, coverage={}, journals=loaded.journals, should_stop=never)
    assert earlier_results(slide, tmp_path)[0].folder == first.output
    assert earlier_result(slide, tmp_path).shown == Shown(0.3)


@pytest.mark.parametrize(
    ("coverage", "text"),
    [
        ({"tissue_cells": 1000, "answered_cells": 364}, "36 % of the tissue"),
        ({"tissue_cells": 1000, "answered_cells": 999}, "99 % of the tissue"),
        ({"tissue_cells": 1000, "answered_cells": 4}, "less than 1 % of the tissue"),
        ({"tissue_cells": 1000, "answered_cells": 1000}, "whole slide"),
        ({"tissue_cells": 0, "answered_cells": 0}, "no tissue found"),
        ({"tissue_cells": 10, "answered_cells": 11}, ""),
        ({"tissue_cells": "10", "answered_cells": 10}, ""),
        ({"tissue_cells": None}, ""),
        ({}, ""),
    ],
)
def test_a_list_says_how_much_a_result_answers_for(slide, model, tmp_path, coverage, text):
    run(slide, model, tmp_path, region=Region(400, 300, 200, 200))
    record = record_in(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**record, "coverage": coverage}))
    (scan,) = earlier_results(slide, tmp_path)
    assert scan.coverage_text == text
    assert scan.summary == scan.origin + (f", {text}" if text else "")


def test_a_record_does_not_speak_for_what_was_scanned_after_it(slide, model, tmp_path):
    run(slide, model, tmp_path, region=Region(400, 300, 200, 200))
    record = record_in(tmp_path)
    record["coverage"] = {"tissue_cells": 100, "answered_cells": 10}
    record["scans"][-1]["ended"] = "2020-02-03T12:00:00+00:00"
    (tmp_path / "run.json").write_text(json.dumps(record))
    (scan,) = earlier_results(slide, tmp_path)
    assert scan.coverage_text == "10 % of the tissue"
    assert "3 Feb 2020" in scan.when_text
    run(slide, model, tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record))
    (scan,) = earlier_results(slide, tmp_path)
    assert scan.coverage_text == ""
    assert "2020" not in scan.when_text


def test_a_result_that_is_another_one_by_now_is_not_loaded(slide, model, tmp_path):
    run(slide, model, tmp_path / "out")
    (scan,) = earlier_results(slide, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="got none or another one"):
        load_result(slide, scan)
    assert earlier_result(slide, tmp_path / "out") is None


def test_the_record_says_what_the_files_answer_for(slide, model, tmp_path):
    run(slide, model, tmp_path, region=Region(400, 300, 200, 200))
    before = record_in(tmp_path)["coverage"]
    earlier = earlier_result(slide, tmp_path)
    found, shown = found_at(earlier, 0.3)
    coverage = Coverage(1000, 10).to_json()
    write_shown(tmp_path, slide, found, shown, coverage=coverage, journals=earlier.journals, should_stop=never)
    assert record_in(tmp_path)["coverage"] == {**before, **coverage}
    assert earlier_result(slide, tmp_path).scan.coverage == Coverage(1000, 10)


def test_journals_tell_what_was_answered(slide, model, tmp_path):
    assert journals_of(tmp_path) == {}
    run(slide, model, tmp_path, region=Region(400, 300, 200, 200))
    before = journals_of(tmp_path)
    assert before.keys() == {heatmap_path(tmp_path).name}
    run(slide, model, tmp_path, region=Region(400, 300, 200, 200))
    assert journals_of(tmp_path) == before
    run(slide, model, tmp_path)
    assert journals_of(tmp_path)[heatmap_path(tmp_path).name] > before[heatmap_path(tmp_path).name]


def test_results_lie_beside_the_slide_unless_told_otherwise(slide):
    assert earlier_results(slide) == ()
    assert not default_output(slide).exists()


def test_results_are_read_and_written_without_torch(slide, slide_path, model, tmp_path):
    """It takes seconds to load, in which a window that is opened would show nothing."""
    run(slide, model, tmp_path)
    script = (
        "import sys; from pathlib import Path; from napari_metastasis.slides import open_slide; "
        "from napari_metastasis.workflows.scan import earlier_result, write_shown; "
        "slide = open_slide(Path(sys.argv[1])); earlier = earlier_result(slide, Path(sys.argv[2])); "
        "assert earlier.maps[0].values.size; assert 'torch' not in sys.modules; slide.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(slide_path), str(tmp_path)], check=True, timeout=120)


@pytest.mark.parametrize("room", [scanning, workflows_scan])
def test_what_is_imported_on_first_use_is_there(room):
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        room.another  # noqa: B018


@pytest.fixture
def no_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))


@pytest.mark.usefixtures("no_places")
def test_results_in_a_folder_that_was_chosen_are_found_again(slide, model, tmp_path):
    output = tmp_path / "chosen" / "node.metastasis"
    run(slide, model, output)
    assert earlier_result(slide) is None
    remember_place(slide, tmp_path / "gone")
    remember_place(slide, output)
    remember_place(slide, output)
    assert remembered_places(slide) == (output, tmp_path / "gone")
    assert earlier_result(slide).folder == output
    assert len(earlier_results(slide)) == 1


@pytest.mark.usefixtures("no_places")
@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": 3}', '{"a": [3, null]}', "{", "[" * 5000])
def test_a_damaged_list_of_folders_is_begun_anew(slide, tmp_path, text):
    places_path().parent.mkdir(parents=True)
    places_path().write_text(text)
    assert remembered_places(slide) == ()
    remember_place(slide, tmp_path)
    assert remembered_places(slide) == (tmp_path,)


@pytest.mark.usefixtures("no_places")
def test_what_is_remembered_stays_small_and_a_disk_that_refuses_is_no_obstacle(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_MOST_SLIDES", 3)
    places_path().parent.mkdir(parents=True)
    places_path().write_text(json.dumps({name: ["/a"] for name in "abcde"}))
    for number in range(12):
        remember_place(slide, tmp_path / str(number))
    assert list(json.loads(places_path().read_text())) == ["d", "e", slide.fingerprint]
    assert remembered_places(slide) == tuple(tmp_path / str(number) for number in range(11, 3, -1))
    with monkeypatch.context() as patched:
        make_read_only(patched, tmp_path / "user")
        remember_place(slide, tmp_path / "another")
    assert tmp_path / "another" not in remembered_places(slide)
