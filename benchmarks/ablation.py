"""What each part of Fast ScanNet's recipe is worth: stride and hard-negative mining, on a cohort with a test split.

Run with ``python benchmarks/ablation.py COHORT FOLDER [--initial MODEL] [--epochs N] …``.
COHORT is a cohort file or folder, such as ``napari-metastasis sample cohort`` writes. One model is trained without
mining and one that goes on with it; both are scanned at the network's own stride and at half of it (Lin et al. 2019,
III). Every step is kept in FOLDER. Prints one table with 95 % intervals over slides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def run(*arguments: object) -> str:
    """Run the project's own command and return what it printed."""
    command = [sys.executable, "-m", "napari_metastasis", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def interval(figures: dict[str, object], name: str) -> str:
    """Return a figure with its interval, or a dash where the cohort does not define it."""
    if name not in figures:
        return "–"
    low, high = figures[f"{name}_ci95"]  # type: ignore[misc]
    return f"{figures[name]:.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    """Train, scan, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--patches-per-epoch", type=int, default=5120)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--initial", default="", help="weights to begin with, trained with free orientations")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    run(
        "train", "scannet", "--cohort", arguments.cohort, "--output", folder / "run", "--name", "ablation",
        "--epochs", arguments.epochs, "--patches-per-epoch", arguments.patches_per_epoch,
        "--mining-rounds", arguments.rounds,
        *(("--initial", arguments.initial, "--no-tie-orientations") if arguments.initial else ()),
    )  # fmt: skip
    print("| mining | stride, µm | FROC | slide AUC |")
    print("|---|---|---|---|")
    first, last = folder / "run" / "stage-0" / "ablation.safetensors", folder / "run" / "ablation.safetensors"
    for name, weights in (("without", first), ("with", last)):
        for dense in (1, 2):
            printed = run(
                "evaluate", "--cohort", arguments.cohort, "--split", "test", "--model", weights,
                "--dense-coefficient", dense, "--output", folder / f"{name}-{dense}", "--json",
            )  # fmt: skip
            figures = json.loads(printed)
            spec = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))["spec"]
            stride_um = spec["stride_px"] * spec["mpp"] / dense
            scores = f"{interval(figures, 'froc_score_linear')} | {interval(figures, 'auc')}"
            print(f"| {name} | {stride_um:.1f} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
