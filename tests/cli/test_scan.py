"""``scan`` on real slides, from the command line to the files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr

from cli.conftest import FIXED_ENGINE, Answer, Run

pytestmark = pytest.mark.shared

_KEYS = {"output", "slide_score", "lesions", "tissue_fraction", "seconds", "mpx_per_s"}


def _heatmap(folder: Path) -> npt.NDArray[np.float32]:
    return zarr.open_group(folder / "heatmap.ome.zarr", mode="r")["0"][:]


def test_json_is_all_of_standard_output_and_nothing_else_is_said(cmu_scan: Answer) -> None:
    assert cmu_scan.status == 0
    assert cmu_scan.out.count("\n") == 1
    assert set(cmu_scan.json) >= _KEYS
    # A scan of seconds has no line of progress in a file.
    assert cmu_scan.err == ""


def test_files_say_what_the_json_says(cmu_scan: Answer) -> None:
    folder = Path(cmu_scan.json["output"])
    lesions = cmu_scan.json["lesions"]
    heatmap = _heatmap(folder)
    assert np.nanmax(heatmap) == pytest.approx(cmu_scan.json["slide_score"], abs=1e-6)
    with (folder / "lesions.csv").open(encoding="utf-8") as file:
        assert [int(row["id"]) for row in csv.DictReader(file)] == [lesion["id"] for lesion in lesions]
    assert len(json.loads((folder / "lesions.geojson").read_text("utf-8"))["features"]) >= len(lesions)
    run = json.loads((folder / "run.json").read_text("utf-8"))
    assert run["coverage"]["tissue_fraction"] == pytest.approx(cmu_scan.json["tissue_fraction"])
    assert 0 < run["coverage"]["cells_answered"] == np.count_nonzero(~np.isnan(heatmap)) < heatmap.size


def test_table_for_people(here: Run, cmu: Path, model: Path, cmu_scan: Answer) -> None:
    # The same command on the same folder: everything is there already.
    output = cmu_scan.json["output"]
    answer = here("scan", cmu, "--model", model, *FIXED_ENGINE, "--output", output)
    assert answer.status == 0
    assert f"Results: {output}" in answer.out
    assert f"{cmu_scan.json['slide_score']:.3f}" in answer.out
    table, _, below = answer.out.partition("Verdict on the slide: ")
    assert table.count("micro") + table.count("macro") + table.count("itc") == len(cmu_scan.json["lesions"])
    assert below.startswith(f"{cmu_scan.json['verdict']['verdict']}\n")


def test_results_lie_beside_the_slide_unless_told_otherwise(here: Run, cmu: Path, model: Path, tmp_path: Path) -> None:
    slide = tmp_path / cmu.name
    slide.symlink_to(cmu)
    answer = here("scan", slide, "--model", model, *FIXED_ENGINE, "--json", "--region", 600, 600, 500, 500)
    assert Path(answer.json["output"]) == tmp_path / "CMU-1-Small-Region.metastasis"


def test_region_scans_nothing_else(here: Run, cmu: Path, model: Path, cmu_scan: Answer, tmp_path: Path) -> None:
    command = ("scan", cmu, "--model", model, *FIXED_ENGINE, "--json", "--no-tissue", "--output", tmp_path / "out")
    heatmap = _heatmap(Path(here(*command, "--region", 800, 1200, 600, 400).json["output"]))
    rows, columns = np.nonzero(~np.isnan(heatmap))
    scale = 0.972 / 0.499 * 8  # level-0 pixels in a cell
    for found, begin, size in ((columns, 800, 600), (rows, 1200, 400)):
        assert found.min() == pytest.approx(begin / scale, abs=1.5)
        assert found.max() == pytest.approx((begin + size) / scale, abs=1.5)
    whole = _heatmap(Path(cmu_scan.json["output"]))
    both = ~np.isnan(heatmap) & ~np.isnan(whole)
    assert both.any()
    np.testing.assert_allclose(heatmap[both], whole[both], atol=1e-5)


def test_threshold_changes_lesions_and_not_the_heatmap(here: Run, cmu: Path, model: Path, cmu_scan: Answer) -> None:
    output = cmu_scan.json["output"]
    before = _heatmap(Path(output))
    command = ("scan", cmu, "--model", model, *FIXED_ENGINE, "--json", "--output", output, "--threshold")
    high, usual = here(*command, 0.97).json, here(*command, 0.5).json
    np.testing.assert_array_equal(_heatmap(Path(output)), before)
    assert high["output"] == usual["output"] == output
    assert sum(lesion["area_mm2"] for lesion in high["lesions"]) < sum(
        lesion["area_mm2"] for lesion in usual["lesions"]
    )
    assert usual["lesions"] == cmu_scan.json["lesions"]


def test_dicom_copy_gives_the_same_heatmap(
    here: Run, shared_data: Path, cmu_scan: Answer, model: Path, tmp_path: Path
) -> None:
    dicom = shared_data / "slides" / "CMU-1-Small-Region-dicom"
    command = ("scan", dicom, "--model", model, *FIXED_ENGINE, "--json", "--output", tmp_path / "out")
    one, other = _heatmap(Path(cmu_scan.json["output"])), _heatmap(Path(here(*command).json["output"]))
    assert one.shape == other.shape
    both = ~np.isnan(one) & ~np.isnan(other)
    assert np.count_nonzero(both) > 0.99 * np.count_nonzero(~np.isnan(one))
    difference = np.abs(one - other)[both]
    # The copy was compressed again: its pixels differ by 5 grey levels on average.
    assert difference.mean() < 0.03
    assert np.percentile(difference, 99) < 0.1

    def alike(rows: int, columns: int) -> float:
        moved = np.roll(other, (rows, columns), (0, 1))
        shown = ~np.isnan(one) & ~np.isnan(moved)
        return float(np.corrcoef(one[shown], moved[shown])[0, 1])

    # And it lies in the same place, to the cell.
    shifts = [(rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)]
    assert max(shifts, key=lambda shift: alike(*shift)) == (0, 0)


def test_supplied_pixel_size_is_used_and_recorded(here: Run, shared_data: Path, model: Path, tmp_path: Path) -> None:
    slide = shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    command = ("scan", slide, "--model", model, *FIXED_ENGINE, "--json", "--output", tmp_path / "out")
    answer = here(*command, "--mpp", 0.25)
    assert answer.status == 0
    run = json.loads((Path(answer.json["output"]) / "run.json").read_text("utf-8"))
    assert (run["slide"]["mpp"], run["slide"]["mpp_supplied"]) == (0.25, True)
    cell_um = 0.972 * 8
    columns, rows = run["heatmap"]["cells"]
    width, height = run["slide"]["size"]
    assert columns == pytest.approx(width * 0.25 / cell_um, abs=1.1)
    assert rows == pytest.approx(height * 0.25 / cell_um, abs=1.1)


def test_ctrl_c_stops_with_one_line_and_the_same_command_goes_on(
    here: Run, cmu: Path, model: Path, cmu_scan: Answer, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    # Small pieces, so that there is always one left when the signal arrives.
    options = ("--engine", "torch", "--precision", "float32", "--roi-px", "256", "--no-tissue")
    command = ["scan", str(cmu), "--model", str(model), *options, "--json", "--output", str(output)]
    running = subprocess.Popen(
        [sys.executable, "-m", "napari_metastasis", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = output / "heatmap.ome.zarr" / "0" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_text("utf-8").count("\n") > 1):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert err.count("\n") == 1
    assert "the same command goes on" in err
    stopped = _heatmap(output)
    assert 0 < np.count_nonzero(~np.isnan(stopped)) < stopped.size
    again = here(*command).json
    assert again["finished"]
    finished = _heatmap(output)
    assert not np.isnan(finished).any()
    kept = ~np.isnan(stopped)
    np.testing.assert_array_equal(finished[kept], stopped[kept])
    whole = _heatmap(Path(cmu_scan.json["output"]))
    np.testing.assert_allclose(finished[~np.isnan(whole)], whole[~np.isnan(whole)], atol=1e-5)
