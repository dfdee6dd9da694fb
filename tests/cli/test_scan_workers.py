"""``scan --workers`` as a user runs it: Ctrl-C in the middle, the same command again, what stands on the terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disc_slide import write_disc_slide

from cli.conftest import Run

COUNT = 4
#: Small pieces, so that it can be met in the middle.
HOW = ("--engine", "torch", "--precision", "float32", "--roi-px", "192", "--device", "cpu")
#: Seconds for a process to come as far as it has to; this machine may be busy.
PATIENCE_S = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Slides, and a file that is none."""
    slides = tmp_path / "slides"
    slides.mkdir()
    first = write_disc_slide(slides / "a.tif")
    for name in "bcd":
        shutil.copy(first, slides / f"{name}.tif")
    (slides / "broken.svs").write_bytes(b"no slide")
    return slides


def without_progress(err: str) -> list[str]:
    """Return the lines of standard error, without those that come every half minute where a machine is busy."""
    return [line for line in err.splitlines() if not line.endswith(" min left")]


def wait_for_the_end_of(group: int) -> None:
    """Wait until no process of a group is left: no worker outlives its command."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its command")


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(
    here: Run, folder: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ["scan", folder, "--model", model, *HOW, "--output", output, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_metastasis", *map(str, command), "--workers", "2"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + PATIENCE_S
        while not list(output.glob("*.metastasis/heatmap.ome.zarr/0/journal.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        # A terminal sends it to every process.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert without_progress(err) == [
        "napari-metastasis: stopped; what was finished is kept, and the same command goes on from there"
    ]
    wait_for_the_end_of(process.pid)
    answer = here(*command, "--workers", "1")
    assert answer.status == 1
    (failed,) = without_progress(answer.err)
    assert "broken.svs failed: expected a whole-slide image" in failed
    # In their order, whichever came first.
    assert [Path(one["slide"]).name for one in answer.json["slides"]] == [f"{name}.tif" for name in "abcd"]
    assert all(one["finished"] for one in answer.json["slides"])
    assert [Path(one["slide"]).name for one in answer.json["failed"]] == ["broken.svs"]


def test_workers_are_for_whole_slides_and_of_one_kind(here: Run, folder: Path, model: Path) -> None:
    region = ("--region", "0", "0", "500", "500")
    here("scan", folder / "a.tif", "--model", model, *region, "--workers", "2").fails_with(
        "expected --region without --workers or --scheduler", status=2
    )
    here("scan", folder, "--workers", "2", "--scheduler", "tcp://host:8786").fails_with("leave one out", status=2)
    here("evaluate", "--patches", folder, "--workers", "2").fails_with("--workers", status=2)
