"""What neighbours are worth on real tissue: five folds of regions, refined by what has not seen them.

Run with ``python benchmarks/spatial_regions.py DATA COHORT ENCODERS [--steps 200]``. DATA holds
``regions/`` (``images`` and ``masks``), COHORT is a synthetic one, and ENCODERS the folder of ``region_folds.py`` with
a model for each fold that has not seen the fold's regions. Behind it, refiners are trained on the regions of the other
folds and on the cohort's training slides. Their windows are encoded once, varied as in training, and every refiner is
trained on the same ones. Prints the area under the curve over the pixels of all regions, and what a refiner gains over
the encoder with its 95 % interval, regions being drawn again. ``--only`` measures one refiner of the table, and then
``--calibrate REFINER OUTPUT`` writes one that was trained on all regions with what its answers here were calibrated to,
as ``region_folds.py`` does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from model_scan import prepared_with
from mosaic import read_mask
from numpy.typing import NDArray
from pixels import pixel_probabilities
from refiner_variants import (
    AVERAGED,
    AVERAGING,
    BATCH,
    VARIANTS,
    auc_of,
    counted,
    encode,
    grid_settings,
    only_averaging,
    resampled,
    task_behind,
    together,
    train,
    training_settings,
)
from region_folds import CALIBRATION, FOLDS, MPP, certain, fold_figures, say_calibration, write_calibrated, write_cohort

from napari_metastasis.cli.memory import keep_freed_memory
from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.evaluation import CellCounts, count_cells, fit_calibration
from napari_metastasis.evaluation.resampling import estimate
from napari_metastasis.geometry import Region
from napari_metastasis.models import Detector, Refiner, SpatialNetwork, load_detector
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.settings import (
    RefineSettings,
    SamplingSettings,
    ScanSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.scan import PassRequest, ScanJob

_SCAN = ScanSettings(tissue_only=False)
_ALONE = "the encoder alone"


def answers(
    paths: list[Path], model: Detector, network: SpatialNetwork
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return of each region what the encoder and what the refiner says of its pixels, scanned as any slide is."""
    refiner = Refiner(spec=network.spec, network=network, weights_sha256="0" * 64, card={})
    requests = (PassRequest(task="refine", settings=RefineSettings(refine=True)),)
    found = []
    for path in paths:
        with tempfile.TemporaryDirectory() as work, open_slide(path, MPP) as slide:
            job = ScanJob(slide=path, mpp=MPP, passes=requests, scan=_SCAN, output=Path(work) / "out")
            with prepared_with(model, slide, job, refine=refiner) as prepared:
                for _ in prepared.run():
                    pass
                raw, refined = (
                    pixel_probabilities(one.cells.whole(), one.frame, Region.of(slide.size)).ravel()
                    for one in prepared.maps()
                )
                found.append((raw, refined))
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--windows", type=int, default=1024)
    parser.add_argument("--regions-share", type=float, default=0.75, help="of the windows")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", choices=tuple(VARIANTS), help="by its name in the table")
    parser.add_argument("--calibrate", nargs=2, type=Path, metavar=("REFINER", "OUTPUT"), help="with --only")
    arguments = parser.parse_args()
    if arguments.calibrate and not arguments.only:
        parser.error("--calibrate needs --only: the refiner whose answers are calibrated")
    return arguments


def _say_gains(counts: dict[str, list[NDArray[np.int64]]]) -> None:
    """Print the area under the curve of everybody who answers, and what each gains over the encoder."""
    print("\n| what answers | AUC over pixels (95 %) | gained over the encoder (95 %) |")
    print("|---|---|---|")
    units = resampled(np.zeros(len(counts[_ALONE]), np.int64))
    before = np.stack(counts[_ALONE])
    for name, found in counts.items():
        after = np.stack(found)

        def measure(drawn: NDArray[np.int64], after: NDArray[np.int64] = after) -> NDArray[np.float64]:
            areas = [auc_of(drawn, each) for each in (after, before)]
            return np.stack([areas[0], areas[0] - areas[1]], axis=1)

        area, gain = estimate(measure, units, width=4 * after.shape[1])
        gained = "" if name == _ALONE else f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        print(f"| {name} | {area.value:.4f} ({area.low:.4f}–{area.high:.4f}) | {gained} |", flush=True)


def main() -> None:
    """Encode, train, score and print."""
    arguments = _arguments()
    keep_freed_memory()
    variants = (arguments.only,) if arguments.only else tuple(VARIANTS)
    regions = arguments.data.resolve() / "regions"
    names = sorted(path.name for path in (regions / "images").iterdir())
    synthetic = list(read_cohort(arguments.cohort, validation_share=0.15, seed=2016).of("train"))
    # Of each region, for whoever answers.
    counts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in (_ALONE, AVERAGING, *variants)}
    # Of the last refiner, without pixels whose mask may be wrong, fold by fold.
    cells: list[list[CellCounts]] = []
    for fold, held_out in enumerate(np.array_split(np.arange(len(names)), FOLDS)):
        model = load_detector(arguments.encoders / f"encoder-{fold}.safetensors")
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "cohort.csv"
            write_cohort(listed, regions, [name for k, name in enumerate(names) if k not in held_out])
            seen = read_cohort(listed, validation_share=0.0, seed=2016).of("train")
            task = task_behind(model, AVERAGED)
            plan = BatchPlan(model.spec, SamplingSettings(), BATCH, 2016, crop=task.crop)
            batches = arguments.windows // BATCH
            of_regions = round(batches * arguments.regions_share)
            parts = [
                encode(task, SlideBatches(slides, plan), number)
                for slides, number in ((seen, of_regions), (synthetic, batches - of_regions))
            ]
        encoded = together(parts)
        paths = [regions / "images" / names[k] for k in held_out]
        masks = [read_mask(regions / "masks" / names[k]).ravel() for k in held_out]
        networks = {AVERAGING: only_averaging(model)}
        for name in variants:
            task = task_behind(model, grid_settings(name))
            networks[name] = train(task, encoded, training_settings(name), arguments.steps)
        for name, network in networks.items():
            both = answers(paths, model, network)
            counts[name] += [counted(refined, mask) for (_, refined), mask in zip(both, masks, strict=True)]
            if name == variants[-1]:
                kept = [certain(refined, mask) for (_, refined), mask in zip(both, masks, strict=True)]
                cells.append([count_cells(one, mask, cell_um=MPP) for one, mask in zip(kept, masks, strict=True)])
            if name == AVERAGING:
                counts[_ALONE] += [counted(raw, mask) for (raw, _), mask in zip(both, masks, strict=True)]
        for name, found in counts.items():
            of_fold = auc_of(np.ones((1, len(masks)), np.int64), np.stack(found[-len(masks) :]))
            print(f"fold {fold + 1}: {name}: {of_fold[0]:.4f}", flush=True)
    _say_gains(counts)
    fitted = fit_calibration(
        [one for fold in cells for one in fold], prior=CALIBRATION.prior, false_area=CALIBRATION.false_area
    )
    print(f"\n{variants[-1]}:")
    say_calibration(fold_figures(cells), fitted)
    if arguments.calibrate:
        write_calibrated(*arguments.calibrate, fitted, len(names))


if __name__ == "__main__":
    main()
