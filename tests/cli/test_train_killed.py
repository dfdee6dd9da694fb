"""A training run on a synthetic cohort that the system kills, processes that read for it included."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from forked import run_forked
from tiny_cohort import tiny_cohort

from napari_metastasis.models import load_model

SETTINGS = (
    "--device", "cpu", "--precision", "float32", "--batch-size", 8, "--epochs", 2, "--patches-per-epoch", 16,
    "--validation-patches", 8, "--workers", 1, "--mining-rounds", 1, "--mining-epochs", 2, "--mining-threshold", 0.0,
    "--mined-per-slide", 4,
)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    slides = tiny_cohort(tmp_path_factory)

    def command(output: str) -> list[str]:
        return ["train", "detector", *map(str, ("--cohort", slides, "--output", output, "--name", output, *SETTINGS))]

    # In the middle of the first stage, and again in that of the second.
    moments = [tmp_path / "killed" / stage / "last.ckpt" for stage in ("stage-0", "stage-1")]
    plan = [(command("whole"), None), *((command("killed"), moment) for moment in moments), (command("killed"), None)]
    assert run_forked(tmp_path, plan) == [0, -signal.SIGKILL, -signal.SIGKILL, 0]
    assert load_model(tmp_path / "killed" / "killed.safetensors").weights_sha256 == (
        load_model(tmp_path / "whole" / "whole.safetensors").weights_sha256
    )
