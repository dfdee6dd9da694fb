"""Whatever a slide is called: results lie under its name, are UTF-8, and no terminal obeys it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from cli.conftest import FIXED_ENGINE, Answer, Run
from napari_metastasis.cli import console
from napari_metastasis.cli.readable import readable, readable_json
from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")

NAMES = {
    "no UTF-8": b"caf\xe9",
    "codes": b"\x1b[31mred\x1b]0;title\x07",
    "eight-bit codes": "a\x9b31m".encode(),
    "turned": "a\u202eb".encode(),
    "two lines": b"two\nlines",
    "markup": b"[bold]x[red] :smile:",
    "dash": b"-x",
    "formula": b"=1+1",
    "long": b"y" * 240,
}


@pytest.fixture(params=list(NAMES.values()), ids=list(NAMES))
def name(request: pytest.FixtureRequest) -> str:
    return os.fsdecode(request.param)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = np.full((400, 400, 3), 245, np.uint8)
    picture[60:-60, 60:-60] = (225, 150, 195)
    path = tmp_path_factory.mktemp("pixels") / "slide.tif"
    write_pyramid(path, picture, mpp=0.972, size=Size(400, 400), compression="deflate")
    return path


def check(answer: Answer) -> None:
    """Assert that nothing went out that a terminal obeys."""
    for text in (answer.out, answer.err):
        assert readable(text.replace("\n", ""), io.TextIOWrapper(io.BytesIO(), "utf-8")) == text.replace("\n", "")


def test_a_slide_of_any_name_is_scanned(
    here: Run, model: Path, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"{name}.tif").symlink_to(pixels)
    monkeypatch.chdir(tmp_path)
    command = ("scan", "--model", model, *FIXED_ENGINE)
    answer = here(*command, "--", f"{name}.tif")
    assert answer.status == 0, answer.err
    check(answer)
    folder = tmp_path / f"{name}.metastasis"
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) == 4
    for path in files:
        path.read_text("utf-8")
    # What JSON escapes is read back as the name that it was.
    assert json.loads((folder / "run.json").read_text("utf-8"))["slide"]["path"] == f"{name}.tif"
    again = here(*command, "--json", "--", f"{name}.tif")
    check(again)
    assert again.json["output"] == folder.name
    wrong = here("scan", "--model", f"{name}.safetensors", "--", f"{name}.tif")
    wrong.fails_with("safetensors")
    check(wrong)


def test_detections_of_any_name_are_scored(here: Run, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    mask = np.zeros((60, 70), np.uint8)
    mask[20:40, 20:50] = 255
    (folder / f"{name}_mask.png").write_bytes(imagecodecs.png_encode(mask))
    (folder / f"{name}.csv").write_text("0.9,1000,1000\n")
    (folder / f"bad{name[:200]}.csv").write_text("no numbers\n")
    command = ("evaluate", "--detections", folder, "--truth", folder, "--output", tmp_path / f"out{name}")
    answer = here(*command)
    assert answer.status == 1
    assert answer.err.count("\n") == 2
    check(answer)
    # A name that is as long as a terminal is wide leaves room for what is said of it.
    assert " 0.900 " in answer.out
    assert "lesions" in answer.out
    again = here(*command, "--json")
    check(again)
    assert list(again.json["slides"]) == [name]
    assert json.loads((tmp_path / f"out{name}" / "evaluation.json").read_text("utf-8")) == again.json
    (tmp_path / f"out{name}" / "report.html").read_text("utf-8")


def test_a_name_too_long_for_its_result_folder_names_the_option(
    here: Run, model: Path, pixels: Path, tmp_path: Path
) -> None:
    slide = tmp_path / f"{'z' * 246}.tif"
    slide.symlink_to(pixels)
    command = ("scan", slide, "--model", model, *FIXED_ENGINE)
    here(*command).fails_with("too long; choose a shorter one with --output")
    assert here(*command, "--output", tmp_path / "out").status == 0


def test_a_cohort_whose_name_is_too_long_for_its_evaluation_names_the_option(
    here: Run, model: Path, tmp_path: Path
) -> None:
    listed = tmp_path / f"{'z' * 240}.csv"
    listed.write_text("slide,split\nnone.tif,test\n")
    here("evaluate", "--cohort", listed, "--model", model).fails_with("too long; choose a shorter one with --output")


def test_what_is_behind_two_dashes_is_no_option(here: Run) -> None:
    here("scan", "--", "--debug").fails_with("--debug does not exist")


def test_a_traceback_is_readable(process: Run) -> None:
    answer = process("scan", "--debug", "\x1b[31mred.tif")
    assert answer.status == 1
    assert "Traceback" in answer.err
    assert "\\x1b[31mred.tif does not exist" in answer.err
    check(answer)


def test_escapes_are_those_of_the_place() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    text = 'µ\udcff\x1b\x9b\u2028\U000e0001"\\'
    assert readable(text, stream) == '\\xb5\\udcff\\x1b\\x9b\\u2028\\U000e0001"\\'
    escaped = readable_json(json.dumps(text, ensure_ascii=False), stream)
    assert json.loads(escaped) == text
    assert escaped.isascii()
    assert readable("µm, “x” – ½", io.TextIOWrapper(io.BytesIO(), "utf-8")) == "µm, “x” – ½"


def test_the_bar_takes_no_name_for_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with console.show_progress("[bold]x[red] :smile: \x1b]0;title\x07", unit="Mpx") as progress:
        progress(1, 2)
    assert "[bold]x[red] :smile: \\x1b]0;title\\x07" in shown.getvalue()
    assert "\x1b]" not in shown.getvalue()


@pytest.mark.parametrize(("out", "err"), [("/dev/full", "room to write standard output, got a full disk"), ("", "")])
def test_an_output_that_takes_nothing_is_one_line_or_none(model: Path, out: str, err: str) -> None:
    command = [sys.executable, "-m", "napari_metastasis", "models", "show", str(model), "--json"]
    if out:
        with open(out, "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    else:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        os.close(write)
    assert done.returncode == 1
    assert err in done.stderr
    assert done.stderr.count("\n") == bool(err)
