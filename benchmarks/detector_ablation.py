"""What each part of the detector's recipe is worth: short trainings that differ in one thing.

Run with ``python benchmarks/detector_ablation.py DATA FOLDER [--epochs 1] [--only NAME …]``. DATA holds
``pcam_train.zip``, ``pcam_valid.zip``, ``regions/`` and ``centre_colours/``. Every network is trained on the same
patches for as many epochs, and measured on the validation patches, on these in the colours of the centre that the
shipped model stands least, and on the regions, which none of them has seen. Intervals are over patches and over
regions: they say nothing of another training with another seed. A training that is finished is not repeated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accuracy import region_pixels
from colours import recoloured

from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.evaluation import cell_report, count_cells, evaluate_patches
from napari_metastasis.evaluation.resampling import Estimate
from napari_metastasis.models import Detector, load_detector
from napari_metastasis.settings import PatchScoringSettings

MPP = 0.7
#: Of the centres, the one in whose colours ``metastasis-lite`` tells patches apart least well.
PALEST = "colours of centre 4"
RESAMPLES, SEED = 2000, 2016
IMAGENET = "efficientnet-lite0-imagenet"
#: The recipe of the first training of ``metastasis-lite``.
RECIPE = {
    "architecture": "efficientnet-lite0-enlarged", "initial": IMAGENET, "batch-size": 64, "learning-rate": 0.0007,
    "weight-decay": 0.02, "label-smoothing": 0, "ema-decay": 0.998, "margin-share": 0.15, "mixup": 0.2,
    "affine-share": 0.7, "density-share": 0.4, "channel-gain": 0.25, "stain": 0.5, "hue": 0.1, "background": 0.1,
    "exposure": 0.2,
}  # fmt: skip
PLAIN_STAIN = {"density-share": 0, "channel-gain": 0, "stain": 0, "hue": 0, "background": 0, "exposure": 0}


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the table.

    Attributes
    ----------
    name
        What it says.
    run
        The training that it measures; lines may share one.
    changes
        Options that differ from the recipe; ``None`` leaves one out.
    stain
        How the regions are scanned.
    """

    name: str
    run: str
    changes: dict[str, str | float | None]
    stain: str = "auto"


VARIANTS = (
    Variant("the recipe", "recipe", {}),
    Variant("from random weights, at three times the rate", "scratch", {"initial": None, "learning-rate": 0.0021}),
    Variant("at 0.97 µm/px, 6 x 6 cells pooled", "coarse", {"architecture": "efficientnet-lite0"}),
    Variant("4 x 4 cells pooled", "pool", {"architecture": "efficientnet-lite0-enlarged-4x4"}),
    Variant("no augmentation of stain", "plain", dict(PLAIN_STAIN)),
    Variant("no augmentation of stain, slides normalised", "plain", dict(PLAIN_STAIN), stain="normalise"),
    Variant("the recipe, slides normalised", "recipe", {}, stain="normalise"),
    Variant("hard normal patches weigh by their loss", "hard", {"hard-normals": 1}),
)


def train(variant: Variant, data: Path, folder: Path, *, epochs: int, initial: str) -> Path:
    """Return the weights of a training, which a finished run has already."""
    weights = folder / variant.run / f"{variant.run}.safetensors"
    options = {**RECIPE, "initial": initial, **variant.changes}
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
    command = [
        sys.executable, "-m", "napari_metastasis", "train", "detector", "--patches", data / "pcam_train.zip",
        "--validation", data / "pcam_valid.zip", "--output", folder / variant.run, "--name", variant.run,
        "--epochs", epochs, *given,
    ]  # fmt: skip
    # The models are of no use to anybody by name.
    environment = {**os.environ, "XDG_DATA_HOME": str(folder.resolve())}
    subprocess.run(list(map(str, command)), check=True, env=environment)
    return weights


def figures(model: Detector, data: Path, stain: str) -> tuple[Estimate, ...]:
    """Return the AUC of patches, how many tumour patches are found at 1 %, and the AUCs of pale patches and regions."""
    patches = open_patches(data / "pcam_valid.zip")
    own, pale = (
        evaluate_patches(model, source, PatchScoringSettings(), views=1, device="cpu")
        for source in (patches, recoloured(patches, data / "centre_colours", SEED)[PALEST])
    )
    truth, answers = region_pixels(model, data / "regions", mpp=MPP, views=1, stain=stain)
    counts = [count_cells(each, mask, cell_um=MPP) for each, mask in zip(answers, truth, strict=True)]
    regions = cell_report(counts, threshold=0.5, prior=0, number=RESAMPLES, seed=SEED)
    return own.auc, own.sensitivity[0], pale.auc, regions.auc


def main(given: Sequence[str] | None = None) -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--initial", default=IMAGENET, help="ImageNet's weights, or their file")
    parser.add_argument("--only", nargs="+", choices=[variant.run for variant in VARIANTS])
    arguments = parser.parse_args(given)
    keep_freed_memory()
    print("| trained | patches, AUC | found at 1 % | palest centre's colours, AUC | regions, AUC |")
    print("|---|---|---|---|---|")
    for variant in VARIANTS:
        if arguments.only and variant.run not in arguments.only:
            continue
        weights = train(variant, arguments.data, arguments.folder, epochs=arguments.epochs, initial=arguments.initial)
        model = load_detector(weights)
        told = [
            f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})" for one in figures(model, arguments.data, variant.stain)
        ]
        print(f"| {variant.name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
