"""``scan`` of many slides and ``report``, from the command line to the files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from disc_slide import write_disc_slide

from cli.conftest import FIXED_ENGINE, Run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_slide(tmp_path_factory.mktemp("drawn") / "node.tif")


@pytest.fixture
def folder(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two slides and a file that is none, in a folder of the current one."""
    monkeypatch.chdir(tmp_path)
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a.tif", "b.tif"):
        shutil.copy(drawn, slides / name)
    (slides / "broken.svs").write_bytes(b"no slide")
    return slides


def rows_in(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_scanned_and_what_failed_is_named_at_the_end(
    here: Run, folder: Path, model: Path, tmp_path: Path
) -> None:
    answer = here("scan", "slides", "--model", model, *FIXED_ENGINE)
    assert answer.status == 1
    assert answer.err.count("\n") == 1
    assert "slides/broken.svs failed: expected a whole-slide image" in answer.err
    for words in (
        "a.tif",
        "b.tif",
        "Results: beside each slide",
        f"Summary: {tmp_path / 'summary.csv'}",
        f"Index: {tmp_path / 'index.html'}",
    ):
        assert words in answer.out
    rows = rows_in(tmp_path / "summary.csv")
    assert [(Path(row["slide"]).name, bool(row["error"])) for row in rows] == [
        ("a.tif", False),
        ("b.tif", False),
        ("broken.svs", True),
    ]
    for name in "ab":
        assert (folder / f"{name}.metastasis" / "report.html").exists()
    assert not list(tmp_path.rglob("overview.png"))


def test_many_slides_are_one_json_object(here: Run, folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\nslides/b.tif\n")
    output = tmp_path / "out"
    command = (folder / "a.tif", "list.csv", folder / "broken.svs", "--output", output, "--json", "--picture")
    answer = here("scan", *command, "--model", model, *FIXED_ENGINE)
    assert answer.status == 1
    assert answer.out.count("\n") == 1
    assert set(answer.json) == {"slides", "failed"}
    a, b = answer.json["slides"]
    (broken,) = answer.json["failed"]
    assert (a["slide"], a["output"]) == (str(folder / "a.tif"), str(output / "a.metastasis"))
    assert b["slide"] == "slides/b.tif"
    assert b["finished"]
    assert broken["slide"] == str(folder / "broken.svs")
    assert "no reader recognises" in broken["error"]
    assert sorted(path.name for path in output.iterdir()) == [
        "a.metastasis",
        "b.metastasis",
        "index.html",
        "summary.csv",
    ]
    assert (output / "b.metastasis" / "overview.png").exists()
    assert not list(folder.glob("*.metastasis"))
    again = here("scan", folder / "a.tif", "list.csv", "--output", output, "--json", "--model", model, *FIXED_ENGINE)
    assert again.status == 0
    assert again.err == ""
    assert [slide["mpx_per_s"] for slide in again.json["slides"]] == [0, 0]


def test_one_slide_has_the_json_of_one_slide_and_nothing_more(
    here: Run, folder: Path, model: Path, tmp_path: Path
) -> None:
    answer = here("scan", folder / "a.tif", "--json", "--model", model, *FIXED_ENGINE)
    assert answer.status == 0
    assert "slides" not in answer.json
    assert answer.json["output"] == str(folder / "a.metastasis")
    names = {path.name for path in (folder / "a.metastasis").iterdir()}
    assert not names & {"report.html", "overview.png"}
    assert not (tmp_path / "summary.csv").exists()
    drawn = here("scan", folder / "a.tif", "--picture", "--model", model, *FIXED_ENGINE)
    assert f"Picture: {folder / 'a.metastasis' / 'overview.png'}" in drawn.out
    assert (folder / "a.metastasis" / "overview.png").exists()


def test_what_was_found_is_printed_though_its_picture_cannot_be_written(here: Run, folder: Path, model: Path) -> None:
    command = ("scan", folder / "a.tif", "--picture", "--model", model, *FIXED_ENGINE)
    (folder / "a.metastasis" / "overview.png").mkdir(parents=True)
    answer = here(*command)
    assert answer.status == 1
    assert f"Results: {folder / 'a.metastasis'}" in answer.out
    assert "overview.png" in answer.err.splitlines()[-1]
    assert here(*command, "--json").json["output"] == str(folder / "a.metastasis")


@pytest.mark.parametrize("many", [("slides/a.tif", "slides/b.tif"), ("slides",), ("list.csv",)])
def test_a_region_of_many_slides_is_wrong_usage(here: Run, folder: Path, many: tuple[str, ...]) -> None:
    assert folder.exists()
    here("scan", *many, "--region", 0, 0, 100, 100).fails_with("expected one slide for --region", status=2)


def test_a_list_that_is_none_is_one_line(here: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\nslides/a.tif\n")
    here("scan", "list.csv").fails_with("list.csv", "slide")
    here("scan", "nothing.csv").fails_with("nothing.csv", "check the path")
    assert not list(folder.glob("*.metastasis"))


def test_an_output_that_cannot_hold_results_is_told_before_anything_is_scanned(
    here: Run, folder: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/inside"):
        here("scan", folder, "--model", model, *FIXED_ENGINE, "--output", output).fails_with("file", "folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_that_is_none_is_no_slides_fault(here: Run, folder: Path, tmp_path: Path) -> None:
    here("scan", folder, "--model", "nobody").fails_with("'nobody'")
    assert not (tmp_path / "summary.csv").exists()


def test_reports_are_written_into_results_and_bad_folders_are_named(
    here: Run, folder: Path, model: Path, tmp_path: Path
) -> None:
    here("scan", folder, "--model", model, *FIXED_ENGINE)
    for name in "ab":
        (folder / f"{name}.metastasis" / "report.html").unlink()
    answer = here("report", "slides")
    assert answer.status == 0
    assert answer.err == ""
    assert answer.out.splitlines() == [f"slides/{name}.metastasis/report.html" for name in "ab"]
    (folder / "a.metastasis" / "run.json").write_text("{")
    (folder / "b.tif").rename(tmp_path / "moved.tif")
    answer = here("report", folder, tmp_path / "nothing", folder / "b.metastasis")
    assert answer.status == 1
    assert answer.out.splitlines() == [str(folder / "b.metastasis" / "report.html")]
    damaged, without, missing = answer.err.splitlines()
    assert "a.metastasis" in damaged
    assert "b.metastasis" in without
    assert "no pictures" in without
    assert "nothing" in missing
    assert "no run.json" in missing
    moved = here("report", folder / "b.metastasis", "--slide", tmp_path / "moved.tif")
    assert (moved.status, moved.err) == (0, "")
    here("report", folder, "--slide", tmp_path / "moved.tif").fails_with("--slide", status=2)


def test_a_report_says_that_results_of_other_settings_lie_inside(here: Run, folder: Path, model: Path) -> None:
    for more in ((), ("--dense-coefficient", "1")):
        here("scan", folder / "a.tif", "--model", model, *FIXED_ENGINE, *more)
    (inside,) = (folder / "a.metastasis").glob("scan-*")
    answer = here("report", folder)
    assert answer.status == 0
    assert answer.err.splitlines() == [
        f"napari-metastasis: {folder / 'a.metastasis'} holds results of other settings as well, in {inside.name}; give "
        "one of these folders to report it"
    ]
    answer = here("report", inside)
    assert (answer.status, answer.err) == (0, "")
    assert (inside / "report.html").exists()


def test_a_report_of_another_slide_is_refused(here: Run, folder: Path, model: Path, tmp_path: Path) -> None:
    here("scan", folder / "a.tif", "--model", model, *FIXED_ENGINE)
    here("report", folder / "a.metastasis", "--slide", folder / "broken.svs").fails_with("broken.svs")
    here("report", folder / "a.metastasis", "--slide", tmp_path / "none.svs").fails_with("none.svs")


def test_the_slide_of_a_report_is_found_from_any_folder(
    here: Run, folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("scan", "slides/a.tif", "--output", tmp_path / "out", "--model", model, *FIXED_ENGINE)
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["slide"]["path"] == "slides/a.tif"
    assert (folder / "a.tif").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    answer = here("report", tmp_path / "out")
    assert (answer.status, answer.err) == (0, "")


@pytest.mark.parametrize(
    "command",
    [("report",), ("report", ".", "--slide"), ("scan",), ("evaluate", "--cohort"), ("evaluate", "--patches")],
)
def test_a_name_that_no_disk_takes_is_one_line(here: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    for name in ("a.metastasis", "b.metastasis"):
        (tmp_path / name).mkdir()
    answer = here(*(tmp_path if one == "." else one for one in command), "n" * 300)
    assert answer.status in (1, 2)
    assert answer.out == ""
    assert "unexpected" not in answer.err
    assert "n" * 300 in answer.err or "--slide" in answer.err
