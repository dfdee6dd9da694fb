"""What training on regions is worth on regions it did not see: five folds of neighbouring numbers.

Run with ``python benchmarks/region_folds.py DATA FOLDER --initial MODEL [--share 0.5] [-- OPTIONS OF train detector]``.
DATA holds ``regions/`` (``images`` and ``masks``), ``pcam_train.zip`` and ``pcam_valid.zip``. Each fold trains on from
the same weights, which must not have seen the regions, on labelled patches and on the regions of the other folds;
neighbouring numbers stay together, for they may be of one slide. With ``--share``, what is measured lies between the
weights of ``--average-with`` and the trained ones (``average_weights.py``). The figure is the area under the curve over
the pixels of all regions, each scored by the model that did not see it.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from accuracy import region_pixels
from average_weights import averaged
from sklearn.metrics import roc_auc_score

from napari_metastasis.models import list_models, load_detector, save_model

FOLDS = 5
MPP = 0.7


def write_cohort(path: Path, regions: Path, names: list[str]) -> None:
    """Write a cohort of these regions, all of them to train on."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("slide", "annotation", "split", "mpp"))
        for name in names:
            rows.writerow((regions / "images" / name, regions / "masks" / name, "train", MPP))


def main() -> None:
    """Train a model for each fold, score the regions that it did not see, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--initial", required=True)
    parser.add_argument("--average-with", help="a model that has not seen the regions either; --initial by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from that model to the trained weights")
    # What stands behind the dashes is another command's; argparse would call it unknown.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    regions, folder = arguments.data.resolve() / "regions", arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    # By its path: the folds do not see the user's own models.
    beginning = next((entry.path for entry in list_models() if entry.name == arguments.initial), arguments.initial)
    names = sorted(path.name for path in (regions / "images").iterdir())
    initial = load_detector(arguments.initial)
    other = load_detector(arguments.average_with) if arguments.average_with else initial
    _, of_initial = region_pixels(initial, regions, mpp=MPP, views=1)
    labels, before, after = [], [], []
    for fold, held_out in enumerate(np.array_split(np.arange(len(names)), FOLDS)):
        listed = folder / f"fold-{fold}.csv"
        write_cohort(listed, regions, [name for k, name in enumerate(names) if k not in held_out])
        command = [
            sys.executable, "-m", "napari_metastasis", "train", "detector", "--cohort", listed,
            "--patches", arguments.data / "pcam_train.zip", "--validation", arguments.data / "pcam_valid.zip",
            "--validation-share", 0, "--initial", beginning, "--mining-rounds", 0, "--output", folder / f"fold-{fold}",
            "--name", f"fold-{fold}", *options,
        ]  # fmt: skip
        # The models of the folds are of no use to anybody by name.
        environment = {**os.environ, "XDG_DATA_HOME": str(folder.resolve())}
        subprocess.run(list(map(str, command)), check=True, env=environment)
        trained = load_detector(folder / f"fold-{fold}" / f"fold-{fold}.safetensors")
        between = replace(trained, network=averaged(other, trained, arguments.share))
        # For what else has to be measured by models that have not seen these regions.
        save_model(folder / f"encoder-{fold}.safetensors", between.network, between.spec, {})
        truth, answers = region_pixels(between, regions, mpp=MPP, views=1)
        for k in held_out:
            labels.append(truth[k])
            after.append(answers[k])
            before.append(of_initial[k])
        of_fold = [np.concatenate(parts[-len(held_out) :]) for parts in (labels, before, after)]
        figures = [roc_auc_score(of_fold[0], scores) for scores in of_fold[1:]]
        print(f"| {fold + 1} | {figures[0]:.4f} | {figures[1]:.4f} |", flush=True)
    pooled = [roc_auc_score(np.concatenate(labels), np.concatenate(scores)) for scores in (before, after)]
    print(f"| all | {pooled[0]:.4f} | {pooled[1]:.4f} |")


if __name__ == "__main__":
    main()
