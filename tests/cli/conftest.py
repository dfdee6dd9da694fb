"""The command line as the tests run it: here, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from napari_metastasis.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the one object on standard output."""
        return json.loads(self.out)

    def fails_with(self, *words: str, status: int = 1) -> None:
        """Assert that it failed with one line on standard error, which names ``words``, and said nothing else."""
        assert self.status == status, self
        assert self.out == ""
        assert self.err.startswith("napari-metastasis: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err


Run = Callable[..., Answer]

#: Nothing is left to be measured, so that a scan of a small slide takes a second.
FIXED_ENGINE = ("--engine", "torch", "--precision", "float32", "--roi-px", "512")


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; also what C libraries write is caught."""

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Answer(int(ended.value.code or 0), written.out, written.err)

    return run


def _process(*arguments: object, cwd: Path) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "napari_metastasis", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run a command as a process of its own, as a user does."""

    return partial(_process, cwd=tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that nobody trained: enough for everything but finding metastases."""
    from untrained import untrained_model

    return untrained_model(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture(scope="session")
def cmu(shared_data: Path) -> Path:
    """A small real slide."""
    return shared_data / "slides" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def cmu_scan(cmu: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """The small slide's scan, undisturbed, as a process of its own."""
    output = tmp_path_factory.mktemp("cmu") / "output"
    return _process("scan", cmu, "--model", model, *FIXED_ENGINE, "--output", output, "--json", cwd=output.parent)


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    """Detections of a tumour slide with its mask, and of a normal slide, all in one folder."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    mask = np.zeros((60, 70), np.uint8)
    mask[20:40, 20:50] = 255
    (folder / "a_mask.png").write_bytes(imagecodecs.png_encode(mask))
    (folder / "a.csv").write_text("0.9,1000,1000\n0.2,10,10\n")
    (folder / "b.csv").write_text("0.3,5,5\n")
    return folder
