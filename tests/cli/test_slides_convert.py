"""``slides convert`` as a user runs it: stopped, killed, and run again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Run
from napari_metastasis.geometry import Size
from napari_metastasis.slides import converting, write_pyramid

SMALL = ("--tile-px", 32)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of noise: 12 pieces of 256 px with tiles of 32 px."""
    path = tmp_path_factory.mktemp("convert") / "slide.tif"
    pixels = np.random.default_rng(4).integers(120, 220, (700, 900, 3)).astype(np.uint8)
    write_pyramid(path, pixels, mpp=0.486, size=Size(900, 700), compression="deflate")
    return path


def hashes(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one.relative_to(path.parent).as_posix(): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.zarr.zip", "a.ome.tif"])
def test_a_slide_is_converted_and_scans(here: Run, slide: Path, model: Path, tmp_path: Path, name: str) -> None:
    answer = here("slides", "convert", slide, tmp_path / name, *SMALL, "--compression", "deflate")
    assert (answer.status, answer.out) == (0, f"{tmp_path / name}: 6 levels\n")
    fixed = ("--engine", "torch", "--precision", "float32", "--roi-px", "512", "--json", "--model", model)
    first = here("scan", slide, *fixed, "--output", tmp_path / "first").json
    again = here("scan", tmp_path / name, *fixed, "--output", tmp_path / "again").json
    assert again["lesions"] == first["lesions"]
    assert again["slide_score"] == first["slide_score"]
    assert again["coverage"] == first["coverage"]


def test_what_lies_there_is_kept(here: Run, slide: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.ome.zarr"
    output.mkdir()
    here("slides", "convert", slide, output).fails_with("which is there", "--overwrite")
    assert here("slides", "convert", slide, output, *SMALL, "--overwrite").status == 0
    here("slides", "convert", slide, tmp_path / "a.svs").fails_with("ends in .ome.zarr, .ome.zarr.zip or .ome.tif")
    here("slides", "convert", slide, tmp_path / "b.ome.tif", "--tile-px", 50).fails_with("multiple of 16")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_it_between_pieces(
    here: Run, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    output, make, made = tmp_path / "a.ome.zarr", converting.PyramidPieces.make, []

    def interrupted(*arguments: object) -> object:
        made.append(1)
        if len(made) == 3:
            os.kill(os.getpid(), getattr(signal, number))
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(converting.PyramidPieces, "make", interrupted)
    answer = here("slides", "convert", slide, output, *SMALL)
    assert answer.status == 128 + getattr(signal, number)
    assert answer.err.splitlines() == [
        "napari-metastasis: stopped; what was finished is kept, and the same command goes on from there"
    ]
    assert not output.exists()
    monkeypatch.undo()
    again = here("slides", "convert", slide, output, *SMALL)
    assert again.status == 0
    assert "went on with an earlier conversion: 3 pieces were there" in again.err


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
def test_what_is_killed_goes_on_and_ends_with_the_same_bytes(here: Run, slide: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "whole").mkdir()
    assert here("slides", "convert", slide, tmp_path / "whole" / name, *SMALL).status == 0
    output = tmp_path / name
    command = [sys.executable, "-m", "napari_metastasis", "slides", "convert", slide, output, *SMALL]
    killed = subprocess.Popen([str(one) for one in command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    finished = converting.unfinished_folder(output) / "finished"
    until = time.monotonic() + 120
    while len(list(finished.glob("*.npz"))) < 3 and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not output.exists()
    again = here("slides", "convert", slide, output, *SMALL)
    assert again.status == 0
    assert "went on with an earlier conversion" in again.err
    assert hashes(output) == hashes(tmp_path / "whole" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "whole"]
