"""Ctrl-C before anything was scanned, and remarks on standard error."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import FIXED_ENGINE, Run
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


@pytest.mark.parametrize("stage", ["tissue", "tuning"])
def test_ctrl_c_while_the_scan_is_prepared(
    here: Run, slide: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    room, name = (prepare, "tissue_mask") if stage == "tissue" else (choice, "tune")
    whole = getattr(room, name)

    def interrupted(*arguments: object, **options: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return whole(*arguments, **options)

    monkeypatch.setattr(room, name, interrupted)
    monkeypatch.setattr(choice, "default_cache_path", lambda: tmp_path / "tuning.json")
    fixed = FIXED_ENGINE if stage == "tissue" else ("--engine", "torch", "--precision", "float32")
    answer = here("scan", slide, "--model", model, "--mpp", 0.972, *fixed, "--output", tmp_path / "out")
    assert answer.status == 130
    assert answer.out == ""
    assert answer.err.splitlines() == [
        "napari-metastasis: stopped; what was finished is kept, and the same command goes on from there"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [(), ("--debug",)])
def test_a_slide_too_coarse_is_one_line(
    here: Run, slide: Path, model: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    answer = here("scan", slide, "--model", model, *FIXED_ENGINE, "--json", "--output", tmp_path / "out", *more)
    assert answer.status == 0
    assert answer.json["finished"]
    (line,) = answer.err.splitlines()
    assert line.startswith("napari-metastasis: expected a slide of at most 0.972 µm per pixel for untrained, got 1.944")
