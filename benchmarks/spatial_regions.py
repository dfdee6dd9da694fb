"""What neighbours are worth on real tissue: five folds of regions, refined by what has not seen them.

Run with ``python benchmarks/spatial_regions.py DATA COHORT ENCODERS [--steps 200]``. DATA holds
``regions/`` (``images`` and ``masks``), COHORT is a synthetic one, and ENCODERS the folder of ``region_folds.py`` with
a model for each fold that has not seen the fold's regions. Behind it, refiners are trained on the regions of the other
folds and on the cohort's training slides. Their windows are encoded once, varied as in training, and every refiner is
trained on the same ones. Prints the area under the curve over the pixels of all regions, and what a refiner gains over
the encoder with its 95 % interval, regions being drawn again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from mosaic import read_mask
from numpy.typing import NDArray
from refiner_variants import (
    AVERAGED,
    AVERAGING,
    BATCH,
    VARIANTS,
    encode,
    grid_settings,
    job_behind,
    only_averaging,
    together,
    train,
    training_settings,
)
from region_folds import FOLDS, MPP, write_cohort
from sklearn.metrics import roc_auc_score

from napari_metastasis.evaluation import pixel_probabilities
from napari_metastasis.geometry import Region
from napari_metastasis.models import Model, Refiner, SpatialNetwork, load_model
from napari_metastasis.pipeline import prepare_scan
from napari_metastasis.scanning import choose_engine
from napari_metastasis.settings import (
    RefineSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.training.cohort import read_cohort
from napari_metastasis.training.sampling import SlideStream

_SCAN = ScanSettings(tissue_only=False)
#: Regions are drawn again as often for an interval, and their pixels thinned, for neighbours say the same.
_RESAMPLES, _EVERY = 500, 16


def answers(
    paths: list[Path], model: Model, network: SpatialNetwork
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return of each region what the encoder and what the refiner says of its pixels, scanned as any slide is."""
    refiner = Refiner(spec=network.spec, network=network, weights_sha256="0" * 64, card={})
    chosen = choose_engine(model, _SCAN, refiner=refiner)
    found = []
    try:
        for path in paths:
            with (
                tempfile.TemporaryDirectory() as work,
                open_slide(path, MPP) as slide,
                prepare_scan(
                    slide, model, scan=_SCAN, tissue=TissueSettings(), refiner=refiner,
                    refine=RefineSettings(refine=True), output=Path(work) / "out", chosen=chosen,
                ) as prepared,
            ):  # fmt: skip
                for _ in prepared.run():
                    pass
                assert prepared.refinement is not None
                maps = [(prepared.heatmap, prepared.frame), (prepared.refinement.heatmap, prepared.refinement.frame)]
                raw, refined = (
                    pixel_probabilities(heatmap.probabilities(), frame, Region.of(slide.size)).ravel()
                    for heatmap, frame in maps
                )
                found.append((raw, refined))
    finally:
        chosen.engine.close()
    return found


def pooled(labels: list[NDArray[np.bool_]], scores: list[NDArray[np.float32]]) -> float:
    """Return the area under the curve over the pixels of all of them."""
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))


def gain_interval(
    labels: list[NDArray[np.bool_]], before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]
) -> tuple[float, float]:
    """Return the 95 % interval of what is gained, regions being drawn again."""
    draws = np.random.default_rng(2016)
    thin = [[each[::_EVERY] for each in part] for part in (labels, before, after)]
    gains = []
    for _ in range(_RESAMPLES):
        drawn = draws.integers(0, len(labels), len(labels))
        truth, old, new = ([part[k] for k in drawn] for part in thin)
        gains.append(pooled(truth, new) - pooled(truth, old))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Encode, train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--windows", type=int, default=1024)
    parser.add_argument("--regions-share", type=float, default=0.75, help="of the windows")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    regions = arguments.data.resolve() / "regions"
    names = sorted(path.name for path in (regions / "images").iterdir())
    synthetic = list(read_cohort(arguments.cohort, validation_share=0.15, seed=2016).of("train"))
    refined: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (AVERAGING, *VARIANTS)}
    raw: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.bool_]] = []
    for fold, held_out in enumerate(np.array_split(np.arange(len(names)), FOLDS)):
        model = load_model(arguments.encoders / f"encoder-{fold}.safetensors")
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "cohort.csv"
            write_cohort(listed, regions, [name for k, name in enumerate(names) if k not in held_out])
            seen = read_cohort(listed, validation_share=0.0, seed=2016).of("train")
            job = job_behind(model, AVERAGED)
            batches = arguments.windows // BATCH
            of_regions = round(batches * arguments.regions_share)
            parts = [
                encode(job, SlideStream(slides, model.spec, SamplingSettings(), BATCH, 2016, cut=job.cut), number)
                for slides, number in ((seen, of_regions), (synthetic, batches - of_regions))
            ]
        encoded = together(parts)
        paths = [regions / "images" / names[k] for k in held_out]
        labels += [read_mask(regions / "masks" / names[k]).ravel() for k in held_out]
        networks = {AVERAGING: only_averaging(model)}
        for name in VARIANTS:
            job = job_behind(model, grid_settings(name))
            networks[name] = train(job, encoded, training_settings(name), arguments.steps)
        for name, network in networks.items():
            both = answers(paths, model, network)
            refined[name] += [of_refiner for _, of_refiner in both]
            if name == AVERAGING:
                raw += [of_encoder for of_encoder, _ in both]
            of_fold = pooled(labels[-len(paths) :], refined[name][-len(paths) :])
            print(f"fold {fold + 1}: {name}: {of_fold:.4f}", flush=True)
    print("\n| what answers | AUC over pixels | gained over the encoder (95 %) |")
    print("|---|---|---|")
    print(f"| the encoder alone | {pooled(labels, raw):.4f} | |")
    for name, scores in refined.items():
        low, high = gain_interval(labels, raw, scores)
        gained = pooled(labels, scores) - pooled(labels, raw)
        print(f"| {name} | {pooled(labels, scores):.4f} | {gained:+.4f} ({low:+.4f} to {high:+.4f}) |")


if __name__ == "__main__":
    main()
