"""A training run on a synthetic cohort that the system kills, processes that read for it included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_cohort import tiny_cohort

from cli.conftest import Run
from napari_metastasis.models import load_model

SETTINGS = (
    "--device", "cpu", "--precision", "float32", "--batch-size", 8, "--epochs", 2, "--patches-per-epoch", 16,
    "--validation-patches", 8, "--workers", 1, "--mining-rounds", 1, "--mining-epochs", 2, "--mining-threshold", 0.0,
)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_weights(
    process: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    slides = tiny_cohort(tmp_path_factory)

    def command(output: str) -> tuple[object, ...]:
        return ("train", "detector", "--cohort", slides, "--output", output, "--name", output, *SETTINGS)

    whole = process(*command("whole"))
    assert whole.status == 0, whole.err
    killed = tmp_path / "killed"
    # In the middle of the first stage, and again in that of the second.
    for stage in ("stage-0", "stage-1"):
        running = subprocess.Popen(
            [sys.executable, "-m", "napari_metastasis", *map(str, command("killed"))],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 200
        while not (killed / stage / "last.ckpt").exists():
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert not (killed / stage / "killed.safetensors").exists()
    resumed = process(*command("killed"))
    assert resumed.status == 0, resumed.err
    assert load_model(killed / "killed.safetensors").weights_sha256 == (
        load_model(tmp_path / "whole" / "whole.safetensors").weights_sha256
    )
