"""What training on regions is worth on regions it did not see: five folds of neighbouring numbers.

Run with ``python benchmarks/region_folds.py DATA FOLDER --initial MODEL [--share 0.5] [-- OPTIONS OF train detector]``.
DATA holds ``regions/`` (``images`` and ``masks``), ``pcam_train.zip`` and ``pcam_valid.zip``. Each fold trains on from
the same weights, which must not have seen the regions, on labelled patches and on the regions of the other folds;
neighbouring numbers stay together, for they may be of one slide. With ``--share``, what is measured lies between the
weights of ``--average-with`` and the trained ones (``average_weights.py``).

Figures are of the pixels of all regions, each answered by the model that did not see it, with intervals over regions.
Temperature, shift and threshold are fitted on the other folds' answers, so that a fold's own say nothing of them.
Masks are drawn in steps of some 16 px: benign pixels nearer to tumour than two of these may be tumour, and count only
in the AUC of each fold and of all.
``--calibrate MODEL OUTPUT`` fits them on all folds together, and writes the model, one that was trained on all regions,
with them.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from accuracy import region_pixels
from average_weights import averaged
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import roc_auc_score

from napari_metastasis.cohorts.cohort import CohortSlide, read_cohort
from napari_metastasis.evaluation import Calibration, CellCounts, CellReport, cell_report, count_cells, fit_calibration
from napari_metastasis.evaluation.cells import recalibrated
from napari_metastasis.models import list_models, load_detector, read_model, save_model
from napari_metastasis.settings import CalibrationSettings
from napari_metastasis.workflows.calibrate import calibrated

FOLDS = 5
MPP = 0.7
UNCERTAIN_PX = 32
RESAMPLES, SEED = 2000, 2016
CALIBRATION = CalibrationSettings()


@dataclass(frozen=True, slots=True)
class FoldFigures:
    """What was measured of the folds' answers.

    Attributes
    ----------
    own
        Of the networks' own answers, at a threshold of 0.5.
    calibrated
        Of answers calibrated on the other folds.
    benign, tumour
        Shares of benign and of tumour pixels over the threshold that was calibrated on the other folds.
    share
        Of tumour among the regions' pixels: the prior that calibration is measured at.
    """

    own: CellReport
    calibrated: CellReport
    benign: float
    tumour: float
    share: float


def fold_figures(counts: Sequence[Sequence[CellCounts]]) -> FoldFigures:
    """Return the figures of regions, fold by fold, by the own log-odds of networks that did not see them."""
    every = [one for fold in counts for one in fold]
    normal, tumour = (sum(int(getattr(one, kind).sum()) for one in every) for kind in ("normal", "tumour"))
    share = tumour / (normal + tumour)
    seen: list[CellCounts] = []
    over = np.zeros(2)
    for held_out, fold in enumerate(counts):
        others = [one for k, regions in enumerate(counts) if k != held_out for one in regions]
        # At the regions' own share of tumour, for that is what they can tell of calibration.
        found = fit_calibration(others, prior=share, false_area=CALIBRATION.false_area)
        moved = [recalibrated(one, found.temperature, found.shift, share) for one in fold]
        at = cell_report(moved, threshold=found.threshold, prior=share, number=1, seed=SEED)
        in_fold = [sum(int(getattr(one, kind).sum()) for one in fold) for kind in ("normal", "tumour")]
        over += np.multiply(in_fold, (at.false_positive_area.value, at.found_area.value))
        seen += moved
    report = {"threshold": 0.5, "prior": share, "number": RESAMPLES, "seed": SEED}
    return FoldFigures(
        cell_report(every, **report), cell_report(seen, **report), over[0] / normal, over[1] / tumour, share
    )


def certain(answers: NDArray[np.float32], tumour: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a region's answers, NaN where benign pixels lie so near to tumour that their mask may be wrong."""
    side = math.isqrt(tumour.size)
    apart = distance_transform_edt(~tumour.reshape(side, side)).ravel()
    return np.where((apart > 0) & (apart <= UNCERTAIN_PX), np.float32(np.nan), answers)


def write_cohort(path: Path, regions: Path, names: list[str], others: Sequence[CohortSlide] = ()) -> None:
    """Write a cohort of these regions and of other slides, all of them to train on."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("slide", "annotation", "split", "mpp"))
        for name in names:
            rows.writerow((regions / "images" / name, regions / "masks" / name, "train", MPP))
        for slide in others:
            rows.writerow((slide.path.resolve(), slide.annotation and slide.annotation.resolve(), "train", slide.mpp))


def say_calibration(figures: FoldFigures, after: Calibration) -> None:
    """Print the figures of folds, and the calibration that was fitted on all of them."""
    own, seen = figures.own, figures.calibrated
    for name, one in (
        ("pixel AUC, without those near an outline", own.auc),
        ("tumour pixels found where 1 % of benign ones are marked", own.sensitivity[0]),
        ("benign pixels over 0.5, as they are", own.false_positive_area),
        (f"calibration error at {figures.share:.0%} of tumour, as they are", own.calibration_error),
        ("the same, calibrated on the other folds", seen.calibration_error),
    ):
        print(f"| {name} | {one.value:.4f} | {one.low:.4f}–{one.high:.4f} |")
    print(f"| benign pixels over the other folds' threshold | {figures.benign:.4f} | |")
    print(f"| tumour pixels over it | {figures.tumour:.4f} | |")
    print(
        f"temperature {after.temperature:.3f}, shift {after.shift:.3f}, threshold {after.threshold:.3f} "
        f"at a prior of {after.prior:g}"
    )


def write_calibrated(weights: Path, output: Path, found: Calibration, regions: int) -> None:
    """Write a model, calibrated by the folds."""
    model = read_model(weights)
    made = calibrated(model, found)
    said = {
        **asdict(found),
        "on": f"{regions} regions of lymph nodes in {FOLDS} folds, answered by models that had not seen them",
    }
    save_model(output, made.network, made.spec, {**model.card, "calibration": said})


def main() -> None:
    """Train a model for each fold, score the regions that it did not see, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--initial", required=True)
    parser.add_argument("--average-with", help="a model that has not seen the regions either; --initial by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from that model to the trained weights")
    parser.add_argument(
        "--calibrate", nargs=2, metavar=("MODEL", "OUTPUT"), help="write MODEL, calibrated on all folds"
    )
    parser.add_argument("--also", type=Path, help="a cohort whose training slides are trained on in every fold, too")
    # What stands behind the dashes is another command's; argparse would call it unknown.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    regions, folder = arguments.data.resolve() / "regions", arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    # By its path: the folds do not see the user's own models.
    beginning = next((entry.path for entry in list_models() if entry.name == arguments.initial), arguments.initial)
    names = sorted(path.name for path in (regions / "images").iterdir())
    others = read_cohort(arguments.also, validation_share=0, seed=0).of("train") if arguments.also else ()
    initial = load_detector(arguments.initial)
    other = load_detector(arguments.average_with) if arguments.average_with else initial
    _, of_initial = region_pixels(initial, regions, mpp=MPP, views=1)
    labels, before, after = [], [], []
    counts: list[list[CellCounts]] = []
    print("| fold | AUC before | after |\n|---|---|---|")
    for fold, held_out in enumerate(np.array_split(np.arange(len(names)), FOLDS)):
        listed = folder / f"fold-{fold}.csv"
        write_cohort(listed, regions, [name for k, name in enumerate(names) if k not in held_out], others)
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
        counts.append([count_cells(certain(answers[k], truth[k]), truth[k], cell_um=MPP) for k in held_out])
        of_fold = [np.concatenate(parts[-len(held_out) :]) for parts in (labels, before, after)]
        figures = [roc_auc_score(of_fold[0], scores) for scores in of_fold[1:]]
        print(f"| {fold + 1} | {figures[0]:.4f} | {figures[1]:.4f} |", flush=True)
    pooled = [roc_auc_score(np.concatenate(labels), np.concatenate(scores)) for scores in (before, after)]
    print(f"| all | {pooled[0]:.4f} | {pooled[1]:.4f} |\n")
    every = [one for fold in counts for one in fold]
    found = fit_calibration(every, prior=CALIBRATION.prior, false_area=CALIBRATION.false_area)
    say_calibration(fold_figures(counts), found)
    if arguments.calibrate:
        write_calibrated(*map(Path, arguments.calibrate), found, len(every))


if __name__ == "__main__":
    main()
