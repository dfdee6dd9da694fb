"""How well tumour is outlined on regions that a network did not see, and what each part of its training is worth.

    python benchmarks/segmentation_folds.py DATA FOLDER --initial MODEL [--only NAME …] [--threads 1] [-- OPTIONS]

DATA holds ``regions/`` (``images`` and ``masks``). Five folds of six neighbouring numbers, which may be of one slide: a
network is trained on the other 24. The six are its validation slides, which decide nothing: there is no early stop.
MODEL is a detector that has not seen the regions; with it the lines "on pretrained features" begin, and its own
heatmap, at the threshold that is best on the other folds, is the line to beat. What stands behind the dashes is handed
to ``train segmenter``, after ``--tile-px 372 --epochs 20 --patches-per-epoch 24 --validation-patches 4``.

The lines "half annotated in part" are of cohorts in which every second region is outlined in its left half alone, as by
somebody who was called away: what is not outlined there is ignored (Khalil et al. 2022, 3.2.4), or counts as normal.

Figures are of the pixels of all regions at 0.972 µm, each answered by the network that did not see it, as a scan
answers them (nothing is known around a region), at a probability of 0.5; precision, recall, F1 and mean IoU as in
Khalil et al. (2022), eq. 5 to 9, with 95 % intervals over regions. Masks are drawn in steps of some 16 px.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accuracy import region_pixels
from numpy.typing import NDArray
from PIL import Image

from napari_metastasis.cohorts.reference import open_reference
from napari_metastasis.evaluation import CellCounts, cell_report, count_cells
from napari_metastasis.evaluation.cells import BIN_LOG_ODDS, recalibrated
from napari_metastasis.geometry import Region
from napari_metastasis.models import Segmenter, list_models, load_detector, read_model
from napari_metastasis.slides import open_slide

FOLDS = 5
MPP = 0.7
#: Of every training: a tile is a whole region.
COMMON = ("--tile-px", "372", "--epochs", "20", "--patches-per-epoch", "24", "--validation-patches", "4")
RESAMPLES, SEED = 2000, 2016
LITE = ("--encoder", "efficientnet-lite0-enlarged")
SMALL = ("--width", "0.25", "--batch-norm")
PLAIN = ("--boosting-rounds", "0")
IGNORED, AS_NORMAL = "half annotated in part, the rest ignored", "half annotated in part, the rest as normal"
#: Options of ``train segmenter`` by what they are called in the table.
TRAININGS: dict[str, tuple[str, ...]] = {
    "on pretrained features, plain": (*LITE, *PLAIN, "--initial", "MODEL"),
    "on pretrained features, + boosting": (*LITE, "--initial", "MODEL"),
    IGNORED: (*LITE, *PLAIN, "--initial", "MODEL"),
    AS_NORMAL: (*LITE, *PLAIN, "--initial", "MODEL", "--no-focusing"),
    "FCN-32s, quarter width, plain": (*SMALL, *PLAIN),
    "FCN-32s, quarter width, + boosting": SMALL,
    "FCN-8s, quarter width, plain": (*SMALL, *PLAIN, "--decoder", "fcn-8s"),
    "U-Net, quarter width, plain": (*SMALL, *PLAIN, "--decoder", "u-net"),
    "SegNet, quarter width, plain": (*SMALL, *PLAIN, "--decoder", "segnet"),
}


def write_fold(path: Path, regions: Path, names: Sequence[str], held_out: Sequence[int], *, in_part: bool) -> None:
    """Write the cohort of a fold; every second region that is trained on may be annotated in part."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("slide", "annotation", "split", "mpp", "exhaustive"))
        for k, name in enumerate(names):
            split = "validation" if k in held_out else "train"
            half = in_part and k % 2 == 0 and k not in held_out
            mask = left_half(regions / "masks" / name, path.parent / "halves") if half else regions / "masks" / name
            rows.writerow((regions / "images" / name, mask, split, MPP, "no" if half else "yes"))


def left_half(mask: Path, folder: Path) -> Path:
    """Write a mask without what its right half holds, and return where."""
    folder.mkdir(exist_ok=True)
    half = folder / f"{mask.stem}.png"
    with Image.open(mask) as image:
        values = np.array(image.convert("L"))
    values[:, values.shape[1] // 2 :] = 0
    Image.fromarray(values).save(half)
    return half


@torch.inference_mode()
def pixels(segmenter: Segmenter, regions: Path, name: str) -> CellCounts:
    """Return how a region's pixels are answered, as a scan answers them."""
    network, built = segmenter.dense(1), segmenter.spec.built
    with open_slide(regions / "images" / name, MPP) as slide:
        frame = slide.frame(segmenter.spec.mpp)
        mask = open_reference(regions / "masks" / name, slide=slide.size, bounds=slide.bounds, tumour_value=255)
        side = -(-max(frame.size.width, frame.size.height) // built.block_px) * built.block_px
        around = built.field_px // 2
        image = slide.read(frame, Region(-around, -around, side + built.field_px, side + built.field_px))
        truth = mask.over(frame, Region.of(frame.size))
    logits = network.logits(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    answers = logits.softmax(dim=1)[0, 1, : frame.size.height, : frame.size.width].numpy()
    return count_cells(answers, truth, cell_um=frame.effective_mpp)


def best_threshold(counts: Sequence[CellCounts]) -> float:
    """Return the probability at which the mean IoU of pixels is the highest."""
    normal, tumour = (np.sum([getattr(one, kind) for one in counts], axis=0) for kind in ("normal", "tumour"))
    hit, false = (np.cumsum(part[::-1])[::-1] for part in (tumour, normal))
    missed, right = tumour.sum() - hit, normal.sum() - false
    with np.errstate(invalid="ignore", divide="ignore"):
        miou = (hit / (hit + false + missed) + right / (right + false + missed)) / 2
    edges = BIN_LOG_ODDS - (BIN_LOG_ODDS[1] - BIN_LOG_ODDS[0]) / 2
    return float(1 / (1 + np.exp(-edges[int(np.nanargmax(miou))])))


def say(name: str, counts: Sequence[CellCounts], threshold: float) -> None:
    """Print a row of the table."""
    report = cell_report(counts, threshold=threshold, prior=0.0, number=RESAMPLES, seed=SEED)
    figures = (report.precision, report.found_area, report.f1, report.miou)
    print(f"| {name} |", *(f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f}) |" for one in figures), flush=True)


def heatmap_counts(model: str, regions: Path, names: Sequence[str]) -> list[CellCounts]:
    """Return how a detector's heatmap answers for the regions' pixels."""
    truth, answers = region_pixels(load_detector(model), regions, mpp=MPP, views=1)
    # In the order of their names, as they are listed here.
    assert len(truth) == len(names)
    return [count_cells(np.ravel(one), np.ravel(mask), cell_um=MPP) for one, mask in zip(answers, truth, strict=True)]


def thresholded(counts: Sequence[CellCounts], folds: Sequence[NDArray[np.intp]]) -> list[CellCounts]:
    """Return counts whose best threshold, of each fold on the others, is moved to 0.5."""
    moved: list[CellCounts] = []
    for held_out in folds:
        threshold = best_threshold([one for k, one in enumerate(counts) if k not in held_out])
        shift = math.log(1 - threshold) - math.log(threshold)
        moved += [recalibrated(counts[k], 1.0, shift, 0.5) for k in held_out]
    return moved


def train(options: Sequence[str], cohort: Path, output: Path, threads: int) -> Path:
    """Train a segmenter, unless it lies there, and return its weights."""
    command = [
        sys.executable, "-m", "napari_metastasis", "train", "segmenter", "--cohort", cohort, "--output", output,
        "--name", output.name, *options,
    ]  # fmt: skip
    environment = {
        **os.environ, "XDG_DATA_HOME": str(output.parent.resolve()), "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, env=environment, stdout=subprocess.DEVNULL)
    return output / f"{output.name}.safetensors"


def main() -> None:
    """Train every network on every fold, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--initial", required=True, help="a detector that has not seen the regions")
    parser.add_argument("--only", nargs="*", default=list(TRAININGS), choices=list(TRAININGS))
    parser.add_argument("--threads", type=int, default=2)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    regions, folder = arguments.data.resolve() / "regions", arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    # By its path: the folds do not see the user's own models.
    path = next((entry.path for entry in list_models() if entry.name == arguments.initial), arguments.initial)
    names = sorted(one.name for one in (regions / "images").iterdir())
    folds = np.array_split(np.arange(len(names)), FOLDS)
    print("| network | precision | recall | F1 | mIoU |\n|---|---|---|---|---|")
    say(
        "its heatmap, at the other folds' best threshold",
        thresholded(heatmap_counts(arguments.initial, regions, names), folds),
        0.5,
    )
    for name in arguments.only:
        chosen = [str(path) if option == "MODEL" else option for option in TRAININGS[name]]
        counts: list[CellCounts] = []
        for number, held_out in enumerate(folds):
            in_part = name in (IGNORED, AS_NORMAL)
            cohort = folder / f"fold-{number}{'-in-part' if in_part else ''}.csv"
            write_fold(cohort, regions, names, held_out.tolist(), in_part=in_part)
            slug = "".join(letter if letter.isalnum() else "-" for letter in name)
            weights = train([*chosen, *COMMON, *options], cohort, folder / f"{slug}-{number}", arguments.threads)
            segmenter = read_model(weights)
            assert isinstance(segmenter, Segmenter)
            counts += [pixels(segmenter, regions, names[k]) for k in held_out]
        say(name, counts, 0.5)


if __name__ == "__main__":
    main()
