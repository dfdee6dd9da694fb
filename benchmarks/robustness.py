"""How steady a model is under changes of stain, light, focus, compression and scale.

Run with ``python benchmarks/robustness.py PATCHES [--model NAME] [--json]``. Every line is the area under the
curve on the same patches, changed by one seeded shift; the interval is a bootstrap's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from shifts import SHIFTS, ShiftedPatches

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.evaluation import evaluate_patches
from napari_metastasis.models import load_detector
from napari_metastasis.settings import DEFAULT_MODEL, PatchScoringSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patches", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--views", type=int, default=1, choices=(1, 8))
    parser.add_argument("--seed", type=int, default=2016)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model, source = load_detector(arguments.model), open_patches(arguments.patches)
    figures = {}
    for name in SHIFTS:
        report = evaluate_patches(
            model,
            ShiftedPatches(source, name, arguments.seed),
            PatchScoringSettings(),
            views=arguments.views,
            device="cpu",
        )
        figures[name] = [round(value, 4) for value in (report.auc.value, *report.auc.ci95)]
        if not arguments.json:
            value, low, high = figures[name]
            print(f"| {name} | {value:.4f} | {low:.4f}–{high:.4f} |", flush=True)
    if arguments.json:
        print(json.dumps({"model": model.spec.name, "weights_sha256": model.weights_sha256, **figures}))


if __name__ == "__main__":
    main()
