"""``evaluate --detections … --truth …``: from files to figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Run


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["masks", "outlines"])
def test_the_organisers_own_object(process: Run, shared_data: Path, kind: str) -> None:
    folder = shared_data / "froc_case"
    answer = process("evaluate", "--detections", folder, "--truth", folder, "--truth-from", kind, "--json")
    assert answer.status == 0
    assert "taken as normal, for want of truth: " in answer.err
    assert len(answer.err.splitlines()) == 1
    expected = json.loads((folder / "expected.json").read_text())
    for slide, counts in expected.pop("slides").items():
        assert counts.items() <= answer.json["slides"][slide].items()
    # Exactly, to the last digit.
    assert expected.items() <= answer.json.items()
    for name in ("froc_score_linear", "froc_score_step", "auc"):
        low, high = answer.json[f"{name}_ci95"]
        assert low <= answer.json[name] <= high


def test_tables_report_and_nothing_overwritten(here: Run, detections: Path, tmp_path: Path) -> None:
    command = ("evaluate", "--detections", detections, "--truth", detections, "--output", tmp_path / "out")
    answer = here(*command)
    assert answer.status == 0
    assert answer.err == "napari-metastasis: taken as normal, for want of truth: b\n"
    assert "FROC score (linear)" in answer.out
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in answer.out
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written == here("evaluate", "--detections", detections, "--truth", detections, "--json").json
    # Other figures than those that lie there.
    (detections / "b.csv").write_text("0.4,5,5\n")
    changed = here(*command)
    assert changed.status == 1
    assert changed.out == ""
    assert changed.err.splitlines()[1:] == [
        "napari-metastasis: expected the same report or a folder without an earlier report, got "
        f"{tmp_path / 'out' / 'report.html'}; choose another folder, or replace it with --overwrite"
    ]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == written
    page = (tmp_path / "out" / "report.html").read_text()
    replaced = here(*command, "--overwrite")
    assert replaced.status == 0
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert figures != written
    assert figures == here("evaluate", "--detections", detections, "--truth", detections, "--json").json
    assert (tmp_path / "out" / "report.html").read_text() != page
    # The same again, with it or without.
    before = (tmp_path / "out" / "report.html").stat().st_mtime_ns
    assert here(*command, "--overwrite").status == here(*command).status == 0
    assert (tmp_path / "out" / "report.html").stat().st_mtime_ns == before


def test_there_is_nothing_to_overwrite_without_a_report(here: Run, detections: Path) -> None:
    answer = here("evaluate", "--detections", detections, "--truth", detections, "--overwrite")
    assert answer.status == 2
    assert "expected --output with --overwrite" in answer.err


def test_bad_files_are_named_at_the_end_and_the_rest_is_scored(here: Run, detections: Path) -> None:
    (detections / "c.csv").write_text("0.9;1;1\n")
    (detections / "d.csv").write_text("")
    (detections / "d.xml").write_text("not xml")
    answer = here("evaluate", "--detections", detections, "--truth", detections, "--json")
    assert answer.status == 1
    assert set(answer.json["slides"]) == {"a", "b"}
    assert [one["slide"] for one in answer.json["left_out"]] == ["c", "d"]
    normal, *lines = answer.err.splitlines()
    assert normal.endswith(": b")
    assert len(lines) == 3
    assert "c.csv" in lines[0]
    assert "d.xml" in lines[1]
    assert "got 2 that cannot be read" in lines[2]


def test_slides_that_are_not_scored_are_a_note(here: Run, detections: Path) -> None:
    (detections / "Test_114.csv").write_text("")
    command = ("evaluate", "--detections", detections, "--truth", detections, "--json")
    answer = here(*command)
    assert answer.status == 0
    assert "Test_114" in answer.err
    assert "Test_114" not in answer.json["slides"]
    kept = here(*command, "--keep-flawed")
    assert "left out" not in kept.err
    assert "Test_114" in kept.json["slides"]


def test_the_pixel_size_decides_what_is_a_target(here: Run, detections: Path) -> None:
    command = ("evaluate", "--detections", detections, "--truth", detections, "--json")
    assert here(*command).json["slides"]["a"]["targets"] == 1
    smaller = here(*command, "--mpp", "0.1").json
    assert smaller["slides"]["a"]["targets"] == 0
    assert "froc_score_linear" not in smaller


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--patches", "--detections")),
        (("--patches", "p", "--detections", "d"), ("--patches", "choose one")),
        (("--detections", "d"), ("--detections with --truth",)),
        (("--patches", "p", "--truth", "t"), ("--truth", "leave them out")),
        (("--patches", "p", "--output", "o"), ("--output", "leave it out")),
        (("--cohort", "c", "--detections", "d", "--truth", "t"), ("--cohort", "choose one")),
        (("--cohort", "c", "--split", "all"), ("--split", "'all'")),
        (("--camelyon16", "c", "--split", "train"), ("--cohort", "--split")),
        (("--detections", "d", "--truth", "t", "--mpp", "0"), ("mpp", "0.05")),
        # What changes nothing is refused, not ignored.
        (("--detections", "d", "--truth", "t", "--model", "m"), ("--detections", "--model", "leave it out")),
        (("--detections", "d", "--truth", "t", "--split-seed", "1"), ("--split-seed",)),
        (("--cohort", "c", "--truth-from", "masks"), ("--cohort", "--truth-from")),
        (("--camelyon16", "c", "--truth-from", "auto"), ("--camelyon16", "--truth-from")),
        (("--cohort", "c", "--mpp", "0.25"), ("--mpp",)),
        (("--patches", "p", "--threshold", "0.7"), ("--patches", "--threshold")),
        (("--patches", "p", "--detection-threshold", "0.7"), ("--detection-threshold",)),
        (("--patches", "p", "--engine", "torch"), ("--engine",)),
        (
            ("--patches", "p", "--overwrite"),
            ("expected --overwrite with slides or detections, got it with --patches; leave it out",),
        ),
    ],
)
def test_wrong_usage(here: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    here("evaluate", *arguments).fails_with(*words, status=2)


def test_missing_folders_are_one_line(here: Run, detections: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    here("evaluate", "--detections", gone, "--truth", detections).fails_with("detections", "gone", "check the path")
    here("evaluate", "--detections", detections, "--truth", gone).fails_with("truth", "gone", "check the path")


def test_help_lists_the_choices(here: Run) -> None:
    text = " ".join(here("evaluate", "--help").out.replace("│", " ").split())
    assert "[auto | masks | outlines]" in text


def test_detections_are_scored_without_torch(detections: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from napari_metastasis.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    command = ["evaluate", "--detections", str(detections), "--truth", str(detections), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 2
