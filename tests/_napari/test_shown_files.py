"""Files follow the screen, and a slide opens again as it was left, in a real window."""

from __future__ import annotations

import csv
import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from read_only import make_read_only
from result_files import shown_ids, shown_in, written_ids

from napari_metastasis._napari import shown_files, slide_controller, slide_results
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.scanning import MapStore
from napari_metastasis.settings import THRESHOLD
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.scan import heatmap_path

pytestmark = [pytest.mark.gui, pytest.mark.unseen]


@pytest.fixture
def scanned(window, make_disc: Callable, darkness_model: Path):
    """A window with a slide that was scanned, and the slide's result folder."""
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    return window, path.parent / "disc.metastasis"


def close_slide(window) -> None:
    window.viewer.layers.remove(window.controller.layers.slide)


def reopen(window, path: Path) -> None:
    window.open(path)
    window.until(lambda: window.session.found is not None)


def test_what_the_edge_of_the_scan_cuts_is_written_so_at_every_threshold(
    window, make_disc: Callable, darkness_model: Path
) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    center = phantom.center.to_um(0.5)
    window.viewer.add_shapes([[[center.y, center.x], [center.y + 300, center.x + 300]]], shape_type="rectangle")
    window.viewer.layers.selection.active.selected_data = {0}
    window.scan("shape")
    window.finish()
    folder = path.parent / "disc.metastasis"
    window.panel.results_part.threshold.setValue(0.9)
    window.until(lambda: shown_in(folder)["threshold"] == 0.9)
    window.until(lambda: not window.controller._files.pending)
    assert written_ids(folder) == shown_ids(window.session)
    assert any(cut for _, _, cut in written_ids(folder))
    recorded = json.loads((folder / "run.json").read_text())["coverage"]
    assert recorded["answered_cells"] == window.session.coverage.answered_cells
    assert not recorded["whole"]
    # Opened again it says so at once, and moving the slider does not forget it.
    close_slide(window)
    reopen(window, path)
    window.until(lambda: window.session.coverage is not None)
    assert window.session.origin.startswith("Earlier result of ")
    assert "not a result for the slide" in window.session.coverage.sentence
    window.panel.results_part.threshold.setValue(0.8)
    window.until(lambda: shown_in(folder)["threshold"] == 0.8)
    window.until(lambda: not window.controller._files.pending)
    assert written_ids(folder) == shown_ids(window.session)
    assert any(cut for _, _, cut in written_ids(folder))


def test_the_table_follows_what_was_said_also_where_the_window_closes_at_once(scanned) -> None:
    window, folder = scanned
    part = window.panel.results_part

    def said() -> list[tuple[str, str]]:
        with (folder / "lesions.csv").open() as table:
            return [(row["review"], row["counted"]) for row in csv.DictReader(table)]

    window.until(lambda: not window.controller._files.pending)
    count = len(window.session.found.rows)
    assert said() == [("pending", "1")] * count
    part.go_to(part.table.rows.lesions[0])
    part.decide("normal")
    window.until(lambda: said()[0] == ("rejected", "0"))
    window.until(lambda: not window.controller._files.pending)
    assert window.controller._files.settled
    result = read_result(folder)
    assert sum(result.counts.values()) == count - 1
    assert result.verdict.review == "1 rejected, not counted"
    assert "1 rejected, not counted" in part.summary.text()
    window.workspace.move_in_history(-1)
    window.workspace.close()
    assert said() == [("pending", "1")] * count


def test_the_window_closed_at_once_keeps_what_it_showed(scanned) -> None:
    window, folder = scanned
    window.panel.results_part.threshold.setValue(0.97)
    window.workspace.close()
    assert shown_in(folder)["threshold"] == 0.97
    assert window.session.slide.closed


def test_a_threshold_moved_during_a_scan_is_written_after_it(
    window, make_disc: Callable, lingering_model: Path
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(lingering_model, roi_px=256)
    window.scan("slide")
    window.until(lambda: window.session.activity.done > 0)
    window.panel.results_part.threshold.setValue(0.97)
    window.finish()
    folder = path.parent / "disc.metastasis"
    window.until(lambda: shown_in(folder)["threshold"] == 0.97)
    window.until(lambda: not window.controller._files.pending)
    assert written_ids(folder) == shown_ids(window.session)


def test_a_window_closed_during_a_scan_keeps_the_threshold_that_it_showed(
    window, make_disc: Callable, lingering_model: Path
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(lingering_model, roi_px=128)
    window.panel.scan_part.advanced.widgets["tissue_only"].value = False
    window.scan("slide")
    window.until(lambda: window.session.activity.done > 0)
    window.panel.results_part.threshold.setValue(0.97)
    window.workspace.close()
    folder = path.parent / "disc.metastasis"
    assert shown_in(folder)["threshold"] == 0.97
    assert window.session.slide.closed
    with MapStore.open(heatmap_path(folder)) as store:
        index = LesionIndex(store.values(), store.frame, window.session.detection)
    areas = [(row.id, f"{row.area_mm2:.6f}") for row in index.at(0.97).rows]
    assert [(number, area) for number, area, _ in written_ids(folder)] == areas


def test_files_that_are_being_written_when_the_window_closes_are_written(scanned, monkeypatch) -> None:
    window, folder = scanned
    whole = shown_files.write_shown_work
    begun = []

    def slow(*arguments):
        begun.append(True)
        time.sleep(0.3)
        return whole(*arguments)

    monkeypatch.setattr(shown_files, "write_shown_work", slow)
    window.panel.results_part.threshold.setValue(0.97)
    window.until(lambda: bool(begun))
    window.workspace.close()
    assert shown_in(folder)["threshold"] == 0.97
    assert begun == [True], "once is enough"


def test_what_is_said_while_files_are_written_stands_in_them_once_the_window_is_closed(scanned, monkeypatch) -> None:
    window, folder = scanned
    whole, written = shown_files.write_shown_work, []

    def slow(*arguments):
        found = whole(*arguments)
        written.append(True)
        time.sleep(0.5)
        return found

    monkeypatch.setattr(shown_files, "write_shown_work", slow)
    part = window.panel.results_part
    part.threshold.setValue(0.97)
    window.until(lambda: bool(written))
    part.go_to(part.table.rows.lesions[0])
    part.decide("normal")
    window.workspace.close()
    assert written == [True]
    with (folder / "lesions.csv").open() as table:
        assert next(csv.DictReader(table))["review"] == "rejected"


def test_a_disk_that_refuses_and_a_folder_that_is_gone_are_told_once_and_closing_stays_quiet(
    scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, folder = scanned
    told = []
    monkeypatch.setattr(slide_controller, "tell", lambda error: told.append(error) or str(error))
    before = {one: one.read_bytes() for one in folder.iterdir() if one.is_file()}
    with monkeypatch.context() as patched:
        make_read_only(patched, folder)
        window.panel.results_part.threshold.setValue(0.97)
        window.until(lambda: bool(told))
        assert "read-only" in window.session.activity.error
        assert "read-only" in window.panel.scan_part.error.text()
        window.panel.results_part.threshold.setValue(0.98)
        window.qtbot.wait(1500)
    assert len(told) == 1
    assert {one: one.read_bytes() for one in folder.iterdir() if one.is_file()} == before
    # Once the disk takes it again, so does the window.
    window.panel.results_part.threshold.setValue(0.96)
    window.until(lambda: shown_in(folder)["threshold"] == 0.96)
    window.until(lambda: not window.controller._files.pending)
    # A folder that is gone is told, and nothing is written in its place.
    told.clear()
    folder.rename(folder.with_name("elsewhere"))
    window.panel.results_part.threshold.setValue(0.97)
    window.until(lambda: bool(told))
    assert told[0].errno == errno.ENOENT
    assert len(window.session.found.rows) == 1, "the window goes on"
    window.workspace.close()
    assert not os.path.exists(folder)


def test_a_window_does_not_write_over_what_another_one_scanned(
    window, make_disc: Callable, darkness_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.viewer.scene.camera.zoom *= 4
    window.qtbot.wait(100)
    window.scan("view")
    window.finish()
    first = window.controller
    # The same slide again, as in another window: it shows what the first scan left, and scans the rest.
    window.workspace.add(open_slide(path))
    window.until(lambda: window.session.tissue is not None and window.session.found is not None)
    assert window.controller is not first
    window.scan("slide")
    window.finish()
    folder = path.parent / "disc.metastasis"
    window.until(lambda: not window.controller._files.pending)
    before = written_ids(folder)
    told = []
    monkeypatch.setattr(slide_controller, "tell", lambda error: told.append(str(error)) or str(error))
    first.session.set_threshold(0.97)
    window.until(lambda: bool(told))
    assert "another scan went on" in str(told[0])
    assert written_ids(folder) == before
    assert shown_in(folder)["threshold"] == THRESHOLD
    # Where it scans again itself, it shows all that is there.
    window.workspace.show(first)
    window.scan("view")
    window.finish()
    np.testing.assert_array_equal(first.session.probabilities, window.workspace.controllers[1].session.probabilities)


def test_earlier_results_of_other_settings_are_listed_and_shown_again(scanned) -> None:
    window, folder = scanned
    controller, session = window.controller, window.session
    window.until(lambda: len(controller.results.earlier) == 1)
    window.panel.results_part.threshold.setValue(0.97)
    window.until(lambda: not controller._files.pending)
    window.panel.scan_part.main.widgets["dense_coefficient"].value = 4
    window.scan("slide")
    window.finish()
    window.until(lambda: len(controller.results.earlier) == 2)
    fine, coarse = controller.results.earlier
    assert (coarse.folder, fine.folder) == (folder, session.folder)
    # Each says wherein it differs: here, in how far apart the answers are. The threshold is the same.
    listed = window.panel.scan_part.earlier
    texts = [listed.itemText(row) for row in range(listed.count())]
    assert [" ".join(text.split()) for text in texts] == [
        f"{one.when_text}, {one.coverage_text}, an answer every {one.cell_um:.3g} µm" for one in (fine, coarse)
    ]
    assert coarse.cell_um > fine.cell_um
    # The threshold that was chosen goes with the window, and so into the new scan.
    assert shown_in(session.folder)["threshold"] == 0.97
    window.panel.results_part.threshold.setValue(0.9)
    controller.results.show(coarse)
    window.until(lambda: session.folder == folder and session.found is not None)
    assert session.threshold == 0.97
    assert session.heatmap.frame.cells.area < fine.identity["dense_coefficient"] ** 2 * session.heatmap.frame.cells.area
    # What was shown of the other one is kept.
    window.until(lambda: shown_in(fine.folder)["threshold"] == 0.9)
    assert written_ids(folder) == shown_ids(session)
    window.panel.results_part.threshold.setValue(0.98)
    window.until(lambda: shown_in(folder)["threshold"] == 0.98)
    assert shown_in(fine.folder)["threshold"] == 0.9
    window.until(lambda: listed.currentText().endswith("from probability 0.98"))
    assert {listed.itemText(row)[-4:] for row in range(listed.count())} == {"0.90", "0.98"}


def test_the_window_says_that_it_looks_for_results_until_it_knows(scanned, monkeypatch: pytest.MonkeyPatch) -> None:
    window, _ = scanned
    path, first = window.session.slide.path, window.session.probabilities.copy()
    close_slide(window)
    assert not window.workspace.controllers
    assert len(window.viewer.layers) == 0
    whole = slide_results.load_earlier_work
    go_on = []

    def wait(slide, should_stop):
        while not go_on and not should_stop():
            time.sleep(0.01)
        return whole(slide, should_stop)

    monkeypatch.setattr(slide_results, "load_earlier_work", wait)
    window.open(path)
    session = window.session
    said: list[bool] = []
    session.looking_changed.connect(said.append)
    assert session.looking
    assert window.panel.scan_part.status.text() == "Looking for an earlier result…"
    go_on.append(True)
    window.until(lambda: not session.looking)
    assert said == [False]
    assert session.probabilities is not None, "it is known once it is shown"
    assert window.panel.results_part.state.text.text().startswith("Earlier result of ")
    np.testing.assert_array_equal(session.probabilities, first)
    # The scan's own threshold is no choice of the user.
    assert not session.threshold_chosen
    assert session.chosen_detection.threshold == 0
    window.until(lambda: session.found is not None)
    assert window.panel.results_part.table.rows.rowCount() == 1


@pytest.mark.usefixtures("refiner")
def test_a_refined_result_opens_refined_with_its_share(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.panel.scan_part.switches["refine"].widgets["refine"].value = True
    assert window.session.passes == frozenset()
    window.scan("slide")
    window.finish()
    assert window.session.passes == {"refine"}
    folder = window.session.folder
    assert shown_in(folder)["map"] == "refined"
    window.panel.scan_part.shares["refined"].setValue(0.25)
    window.until(lambda: shown_in(folder)["shares"] == {"refined": 0.25})
    close_slide(window)
    reopen(window, path)
    assert window.session.passes == {"refine"}
    assert window.session.share_of("refined") == 0.25
    assert window.panel.scan_part.shares["refined"].value() == 0.25
    assert written_ids(folder) == shown_ids(window.session)
    # A share of nothing, closed before its lesions were searched.
    window.panel.scan_part.shares["refined"].setValue(0.0)
    left = window.session
    close_slide(window)
    window.until(lambda: left.slide.closed)
    assert shown_in(folder)["shares"] == {"refined": 0.0}
    assert shown_in(folder)["map"] == "probability"
    # Scanned without the pass, the result is not refined any more.
    reopen(window, path)
    assert window.session.share_of("refined") == 0.0
    window.panel.scan_part.switches["refine"].widgets["refine"].value = False
    window.scan("slide")
    window.finish()
    assert window.session.passes == frozenset()
    close_slide(window)
    reopen(window, path)
    assert window.session.passes == frozenset()


def test_results_in_another_folder_are_found_again(
    window, make_disc: Callable, darkness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.panel.scan_part._results = tmp_path / "elsewhere"
    window.scan("slide")
    window.finish()
    folder = tmp_path / "elsewhere" / "disc.metastasis"
    assert window.session.folder == folder
    window.until(lambda: len(window.controller.results.earlier) == 1)
    close_slide(window)
    reopen(window, path)
    assert window.session.folder == folder
