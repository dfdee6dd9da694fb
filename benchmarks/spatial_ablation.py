"""What neighbours are worth: the encoder alone, an LSTM behind it, the spatial loss, orders that see two dimensions.

Run with ``python benchmarks/spatial_ablation.py COHORT FOLDER [--model NAME] [--epochs 4]``. COHORT is one with test
slides (``napari-metastasis sample cohort``). Every refiner is trained behind the same finished model, on the same
windows and mined places for as many steps, and differs in one thing. The control reads each patch alone, so that what
the others gain over it is their neighbours' doing and not the training slides'. What is done is kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ablation import false_detections, interval, run

from napari_metastasis.settings import DEFAULT_MODEL

#: Grids of 8 x 8 patches, each two strides from the next: 0.25 mm, and as much of a window in every variant.
_GRID = {"--grid": 8, "--grid-step": 2, "--window-step": 4}
_ALONE = {"--grid": 1, "--grid-step": 16, "--window-step": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "each patch alone, trained on the same": {**_ALONE, "--order": "raster-four", "--beta": 0},
    "LSTM, line by line": {**_GRID, "--order": "raster", "--beta": 0},
    "LSTM, line by line, spatial loss": {**_GRID, "--order": "raster", "--beta": 1},
    "lines and columns, both ways": {**_GRID, "--order": "raster-four", "--beta": 0},
    "lines and columns, both ways, spatial loss": {**_GRID, "--order": "raster-four", "--beta": 1},
    "every row, then every column, spatial loss": {**_GRID, "--order": "rows-columns", "--beta": 1},
}
#: What all of them share: not the paper's optimiser, which is for an encoder that learns along.
RECIPE: dict[str, Any] = {
    "--hidden": 32, "--projected": 31, "--residual": None, "--optimiser": "adamw", "--learning-rate": 0.003,
    "--batch-size": 32, "--ema-decay": 0.99, "--patches-per-epoch": 1600, "--validation-patches": 512,
    "--jitter-brightness": 0, "--jitter-contrast": 0, "--jitter-saturation": 0, "--jitter-hue": 0, "--stain": 0.35,
    "--hue": 0.06, "--background": 0.05, "--exposure": 0.3, "--gray-share": 0.1, "--blur-share": 0.25,
    "--noise-share": 0.2,
}  # fmt: skip


def options(values: dict[str, Any]) -> list[Any]:
    """Return options as a command line has them."""
    return [part for name, value in values.items() for part in ([name] if value is None else [name, value])]


def row(name: str, written: Path) -> str:
    """Return a line of the table from a report's figures."""
    figures = json.loads(written.read_text(encoding="utf-8"))
    scores = f"{interval(figures, 'froc_score_linear')} | {interval(figures, 'auc')}"
    itc = figures["sizes"]["itc"]
    found = f"{itc['found']} of {itc['lesions']}"
    return f"| {name} | {scores} | {false_detections(list(figures['slides'].values()))} | {found} |"


def main() -> None:
    """Train, scan, refine, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print("| what answers | FROC | slide AUC | false detections per slide | isolated tumour cells |")
    print("|---|---|---|---|---|")
    measure = ("evaluate", "--cohort", arguments.cohort, "--split", "test", "--model", arguments.model)
    raw = folder / "encoder"
    if not (raw / "report" / "evaluation.json").exists():
        run(folder, *measure, "--output", raw)
    print(row("the encoder alone", raw / "report" / "evaluation.json"), flush=True)
    for number, (name, variant) in enumerate(VARIANTS.items()):
        trained, scans = folder / f"refiner-{number}", folder / f"scans-{number}"
        weights = trained / "spatial" / f"ablation-{number}.safetensors"
        if not weights.exists():
            run(
                folder, "train", "spatial", "--cohort", arguments.cohort, "--encoder", arguments.model,
                "--output", trained, "--name", f"ablation-{number}", "--epochs", arguments.epochs,
                *options(RECIPE | variant),
            )  # fmt: skip
        written = scans / "report-refined" / "evaluation.json"
        if not written.exists():
            run(folder, *measure, "--output", scans, "--refiner", weights)
        print(row(name, written), flush=True)


if __name__ == "__main__":
    main()
