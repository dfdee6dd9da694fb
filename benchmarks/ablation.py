"""What each part of Fast ScanNet's recipe is worth: stride and hard-negative mining, on a cohort with a test split.

Run with ``python benchmarks/ablation.py COHORT FOLDER [--epochs N] …``.
COHORT is a cohort file or folder, such as ``napari-metastasis sample cohort`` writes. From one first stage two models
go on, for as many steps at the same rate: one with mined patches and one without. Both are scanned at the network's
own stride and at half of it (Lin et al. 2019, III), and so is the first stage. Every step is kept in FOLDER. Prints
one table with 95 % intervals over slides.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.evaluation.resampling import Resamples, estimate
from napari_metastasis.settings import EvaluationSettings, MiningSettings, TrainSettings


def run(folder: Path, *arguments: object) -> None:
    """Run the project's own command; the models are of no use to anybody by name, and stay in ``folder``."""
    command = [sys.executable, "-m", "napari_metastasis", *map(str, arguments)]
    environment = {**os.environ, "XDG_DATA_HOME": str(folder.resolve())}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def interval(figures: dict[str, object], name: str) -> str:
    """Return a figure with its interval, or a dash where the cohort does not define it."""
    if name not in figures:
        return "–"
    low, high = figures[f"{name}_ci95"]  # type: ignore[misc]
    return f"{figures[name]:.3f} ({low:.3f}–{high:.3f})"


def false_detections(slides: list[dict[str, Any]]) -> str:
    """Return their mean over slides with its interval, resampled as the other figures are."""
    values = np.array([[slide["false_positives"]] for slide in slides], dtype=np.float64)
    is_tumour = np.array([slide["tumour"] for slide in slides], dtype=np.int64)
    scoring = EvaluationSettings()
    resamples = Resamples(is_tumour, number=scoring.resamples, seed=scoring.seed)
    (mean,) = estimate(lambda counts: counts @ values / len(values), resamples, width=1)
    return f"{mean.value:.1f} ({mean.low:.1f}–{mean.high:.1f})"


def main() -> None:
    """Train, scan, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--patches-per-epoch", type=int, default=5120)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    train = (
        "train", "detector", "--cohort", arguments.cohort, "--epochs", arguments.epochs,
        "--patches-per-epoch", arguments.patches_per_epoch, "--validation-patches", 512,
    )  # fmt: skip
    run(folder, *train, "--output", folder / "with", "--name", "ablation-with", "--mining-rounds", 1)
    run(
        folder, *train, "--output", folder / "without", "--name", "ablation-without", "--mining-rounds", 0,
        "--initial", folder / "with" / "stage-0" / "ablation-with.safetensors",
        "--learning-rate", TrainSettings().learning_rate * MiningSettings().mining_rate,
    )  # fmt: skip
    print("| mining | stride, µm | FROC | slide AUC | false detections per slide |")
    print("|---|---|---|---|---|")
    for name, weights in (
        ("before", folder / "with" / "stage-0" / "ablation-with.safetensors"),
        ("without", folder / "without" / "ablation-without.safetensors"),
        ("with", folder / "with" / "ablation-with.safetensors"),
    ):
        for dense in (1, 2):
            scans = folder / f"scans-{name}-{dense}"
            written = scans / "report" / "evaluation.json"
            if not written.exists():
                run(
                    folder, "evaluate", "--cohort", arguments.cohort, "--split", "test", "--model", weights,
                    "--dense-coefficient", dense, "--output", scans,
                )  # fmt: skip
            figures = json.loads(written.read_text(encoding="utf-8"))
            spec = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))["spec"]
            stride_um = spec["stride_px"] * spec["mpp"] / dense
            scores = f"{interval(figures, 'froc_score_linear')} | {interval(figures, 'auc')}"
            false = false_detections(list(figures["slides"].values()))
            print(f"| {name} | {stride_um:.1f} | {scores} | {false} |", flush=True)


if __name__ == "__main__":
    main()
