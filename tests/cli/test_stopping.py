"""Ctrl-C, and what stands for it, before anything was scanned; and remarks on standard error."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import FIXED_ENGINE, Run
from napari_metastasis.cohorts import patches
from napari_metastasis.geometry import Size
from napari_metastasis.scanning.engines import choose as choice
from napari_metastasis.slides import write_pyramid
from napari_metastasis.workflows.scan import prepare


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A small slide of pale noise."""
    path = tmp_path / "slide.tif"
    pixels = np.random.default_rng(4).integers(120, 220, (300, 400, 3)).astype(np.uint8)
    write_pyramid(path, pixels, mpp=1.944, size=Size(400, 300))
    return path


@pytest.mark.parametrize(
    ("stage", "number"),
    [("tissue", "SIGINT"), ("tuning", "SIGINT"), ("tissue", "SIGTERM"), ("tissue", "SIGHUP")],
)
def test_a_signal_while_the_scan_is_prepared(
    here: Run, slide: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: str
) -> None:
    room, name = (prepare, "tissue_mask") if stage == "tissue" else (choice, "tune")
    whole = getattr(room, name)

    def interrupted(*arguments: object, **options: object) -> object:
        os.kill(os.getpid(), getattr(signal, number))
        return whole(*arguments, **options)

    monkeypatch.setattr(room, name, interrupted)
    monkeypatch.setattr(choice, "default_cache_path", lambda: tmp_path / "tuning.json")
    fixed = FIXED_ENGINE if stage == "tissue" else ("--engine", "torch", "--precision", "float32")
    answer = here("scan", slide, "--model", model, "--mpp", 0.972, *fixed, "--output", tmp_path / "out")
    assert answer.status == 128 + getattr(signal, number)
    assert answer.out == ""
    assert answer.err.splitlines() == [
        "napari-metastasis: stopped; what was finished is kept, and the same command goes on from there"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_patches_are_measured(
    here: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    for name in ("0/a.png", "1/a.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.full((96, 96, 3), 200, np.uint8)).save(tmp_path / name)

    def interrupted(*_: object) -> object:
        os.kill(os.getpid(), getattr(signal, number))
        # What broke after that, as a terminal that has closed does, broke for that.
        try:
            time.sleep(5)
        finally:
            raise OSError(errno.EIO, "no terminal")

    monkeypatch.setattr(patches, "open_patches", interrupted)
    answer = here("evaluate", "--patches", tmp_path, "--model", model)
    assert (answer.status, answer.out) == (128 + getattr(signal, number), "")
    assert answer.err == "napari-metastasis: stopped\n"


@pytest.mark.parametrize("more", [(), ("--debug",)])
def test_a_slide_too_coarse_is_one_line(
    here: Run, slide: Path, model: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    answer = here("scan", slide, "--model", model, *FIXED_ENGINE, "--json", "--output", tmp_path / "out", *more)
    assert answer.status == 0
    assert answer.json["finished"]
    (line,) = answer.err.splitlines()
    assert line.startswith("napari-metastasis: expected a slide of at most 0.972 µm per pixel for untrained, got 1.944")
