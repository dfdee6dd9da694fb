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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from mosaic import read_mask
from numpy.typing import NDArray
from region_folds import FOLDS, MPP, write_cohort
from sklearn.metrics import roc_auc_score
from spatial_ablation import AUGMENTATION, AVERAGED, VARIANTS, grid_settings, training_settings
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from napari_metastasis.evaluation import pixel_probabilities
from napari_metastasis.geometry import Region
from napari_metastasis.models import Model, Refiner, SpatialNetwork, load_model
from napari_metastasis.pipeline import prepare_scan
from napari_metastasis.scanning import choose_engine
from napari_metastasis.settings import (
    GridSettings,
    RefineSettings,
    SamplingSettings,
    ScanSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
    TissueSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.cohort import CohortSlide, read_cohort
from napari_metastasis.training.sampling import SlideStream
from napari_metastasis.training.spatial import SpatialTraining
from napari_metastasis.training.spatial_loop import RefinerJob
from napari_metastasis.training.trainer import quiet_lightning
from napari_metastasis.training.windows import FixedEncoder

_BATCH = 32
_SCAN = ScanSettings(tissue_only=False)
#: Regions are drawn again as often for an interval, and their pixels thinned, for neighbours say the same.
_RESAMPLES, _EVERY = 500, 16


@dataclass(frozen=True)
class Encoded:
    """Windows as a model encodes them: N x (1 + C) x K x K, log-odds first, and labels N x K x K."""

    features: Tensor
    labels: Tensor


class Draws(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches of stored windows, each depending on its number alone."""

    def __init__(self, encoded: Encoded, settings: SpatialTrainSettings, steps: int) -> None:
        self._encoded, self._settings, self._steps = encoded, settings, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        draws = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + number)
        rows = torch.randint(0, len(self._encoded.labels), (self._settings.batch_size,), generator=draws)
        return self._encoded.features[rows].float(), self._encoded.labels[rows].long(), torch.zeros(len(rows))


class Stored(nn.Module):
    """Stands for the encoder, and for the augmentation, where what arrives is encoded already."""

    def forward(self, encoded: Tensor, draw: int | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return what arrives; as an encoder, log-odds and features."""
        if draw is not None:
            return encoded
        return encoded[:, 0], encoded[:, 1:].permute(0, 2, 3, 1)


def encode(job: RefinerJob, slides: Sequence[CohortSlide], windows: int, seed: int) -> Encoded:
    """Encode windows of these slides, varied as in training."""
    stream = SlideStream(slides, job.model.spec, SamplingSettings(), _BATCH, seed, cut=job.cut)
    encoder = FixedEncoder(job.model, job.dense_coefficient)
    varied = Augmenter(SpatialAugmentSettings(**AUGMENTATION), seed, turn=False)
    features, labels = [], []
    for number in range(windows // _BATCH):
        batch = stream.batch(number)
        image = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            log_odds, hidden = encoder(varied(image / 255, number) * 255)
        features.append(torch.cat([log_odds[:, None], hidden.permute(0, 3, 1, 2)], dim=1).half())
        labels.append(torch.from_numpy(batch.labels))
    return Encoded(torch.cat(features), torch.cat(labels))


def train(job: RefinerJob, encoded: Encoded, settings: SpatialTrainSettings, steps: int) -> SpatialNetwork:
    """Return a refiner that was trained on stored windows, by the same steps as any other."""
    lightning.seed_everything(settings.seed, verbose=False)
    module = SpatialTraining(
        job.spec, settings, SpatialAugmentSettings(), total_steps=steps, fixed=Stored()  # type: ignore[arg-type]
    )  # fmt: skip
    module.augment = Stored()  # type: ignore[assignment]

    with quiet_lightning():
        trainer = lightning.Trainer(
            max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", gradient_clip_val=1.0,
        )  # fmt: skip
        trainer.fit(module, DataLoader(Draws(encoded, settings, steps), batch_size=None))
    return module.finished.spatial.eval().requires_grad_(requires_grad=False)


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
    averaging = "its log-odds, averaged over neighbours"
    refined: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (averaging, *VARIANTS)}
    raw: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.bool_]] = []
    for fold, held_out in enumerate(np.array_split(np.arange(len(names)), FOLDS)):
        model = load_model(arguments.encoders / f"encoder-{fold}.safetensors")
        with tempfile.TemporaryDirectory() as folder:
            listed = Path(folder) / "cohort.csv"
            write_cohort(listed, regions, [name for k, name in enumerate(names) if k not in held_out])
            seen = read_cohort(listed, validation_share=0.0, seed=2016).of("train")
            job = RefinerJob("fold", model, AVERAGED, _SCAN.dense_coefficient)
            of_regions = round(arguments.windows * arguments.regions_share)
            parts = [encode(job, seen, of_regions, 0), encode(job, synthetic, arguments.windows - of_regions, 1)]
        encoded = Encoded(*(torch.cat(each) for each in zip(*((p.features, p.labels) for p in parts), strict=True)))
        paths = [regions / "images" / names[k] for k in held_out]
        labels += [read_mask(regions / "masks" / names[k]).ravel() for k in held_out]

        def behind(grid: GridSettings, model: Model = model) -> RefinerJob:
            return RefinerJob("fold", model, grid, _SCAN.dense_coefficient)

        networks = {averaging: SpatialNetwork(behind(AVERAGED).spec).eval()}
        for name in VARIANTS:
            networks[name] = train(behind(grid_settings(name)), encoded, training_settings(name), arguments.steps)
        for name, network in networks.items():
            both = answers(paths, model, network)
            refined[name] += [of_refiner for _, of_refiner in both]
            if name == averaging:
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
