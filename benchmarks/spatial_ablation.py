"""What neighbours are worth: the encoder alone, an LSTM behind it, the spatial loss, orders that see two dimensions.

Run with ``python benchmarks/spatial_ablation.py COHORT FOLDER [--model NAME] [--steps 300]``. COHORT is one with test
slides (``napari-metastasis sample cohort``). The model, which stays as it is, is scanned over the training slides for
its false positives; windows of these slides, a quarter of them around such places, are encoded once, varied as in
training, and every refiner is trained on the same ones, differing in one thing. Two controls tell what is the
neighbours' doing: a refiner that reads each patch alone, and one that was not trained and averages. What is done is
kept in FOLDER, so that other options need another one; the table has 95 % intervals over slides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from ablation import false_detections, interval, run
from refiner_variants import (
    AVERAGED,
    AVERAGING,
    BATCH,
    VARIANTS,
    Encoded,
    auc_of,
    counted,
    encode,
    grid_settings,
    only_averaging,
    resampled,
    task_behind,
    train,
    training_settings,
)

from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, read_cohort
from napari_metastasis.cohorts.reference import open_reference, tumour_value_of
from napari_metastasis.evaluation.resampling import estimate
from napari_metastasis.models import Detector, load_detector, save_model
from napari_metastasis.sampling.hard_negative_batches import with_hard_negatives
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.scanning import MapStore, never
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    AugmentSettings,
    MiningSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.train.mine import MiningSteps, mine_cohort
from napari_metastasis.workflows.train.plan import CohortTraining


def encode_windows(cohort: Cohort, model: Detector, folder: Path, windows: int) -> Encoded:
    """Mine the model's false positives on the training slides, and encode windows around them and elsewhere."""
    kept = folder / "windows.pt"
    if kept.exists():
        return Encoded(**torch.load(kept, weights_only=True))
    weights = folder / f"{model.spec.name}.safetensors"
    save_model(weights, model.network, model.spec, model.card)
    slides = cohort.of("train")
    sampling = SamplingSettings(tumour_value=tumour_value_of(cohort.slides))
    mining = MiningSettings()
    how = CohortTraining(
        train=TrainSettings(), augment=AugmentSettings(), sampling=sampling, mining=mining, scan=ScanSettings(),
        tissue=TissueSettings(),
    )  # fmt: skip
    steps = MiningSteps(lambda *_: None, never, lambda slide, why: print(f"{slide.name} is passed over: {why}"))
    mined = mine_cohort(slides, weights, folder / "mining", how, steps)
    task = task_behind(model, AVERAGED)
    plan = BatchPlan(model.spec, sampling, BATCH, 2016, crop=task.crop)
    encoded = encode(task, with_hard_negatives(slides, mined, plan, mining), windows // BATCH)
    torch.save(asdict(encoded), kept)
    return encoded


def cell_auc(scans: Path, slides: Sequence[CohortSlide], pattern: str) -> str:
    """Return the area under the curve over the cells of all slides, with its interval over slides.

    Cells that are tumour throughout are told from those that hold none; those on an outline are left out.
    """
    counts = []
    tumour_value = tumour_value_of(slides)
    for slide in slides:
        (path,) = (scans / f"{slide.name}.metastasis").glob(pattern)
        with MapStore.open(path) as heatmap:
            frame, answers = heatmap.frame, heatmap.values()
        with open_slide(slide.path) as opened:
            truth = open_reference(slide.annotation, slide=opened.size, bounds=opened.bounds, tumour_value=tumour_value)
            cells = truth.over_cells(frame)
            truth.close()
        known = np.isfinite(answers) & (cells.full | ~cells.may_hold)
        counts.append(counted(answers[known], cells.full[known]))
    together = np.stack(counts)
    is_tumour = np.array([slide.annotation is not None for slide in slides], dtype=np.int64)
    (found,) = estimate(lambda drawn: auc_of(drawn, together)[:, None], resampled(is_tumour), width=together.shape[1])
    return f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})"


def row(name: str, report: Path, slides: Sequence[CohortSlide]) -> str:
    """Return a line of the table from a report's figures and the maps beside it."""
    figures = json.loads((report / "evaluation.json").read_text(encoding="utf-8"))
    scores = f"{interval(figures, 'froc_score_linear')} | {interval(figures, 'auc')}"
    pattern = "refined*.ome.zarr" if report.name.endswith("refined") else "heatmap*.ome.zarr"
    of_cells = cell_auc(report.parent, slides, pattern)
    itc = figures["sizes"]["itc"]
    found = f"{itc['found']} of {itc['lesions']}"
    return f"| {name} | {scores} | {of_cells} | {false_detections(list(figures['slides'].values()))} | {found} |"


def main() -> None:
    """Encode, train, scan, refine, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    model = load_detector(arguments.model)
    cohort = read_cohort(arguments.cohort, validation_share=0.15, seed=2016)
    slides = cohort.of("test")
    columns = ("what answers", "FROC score", "slide AUC", "cell AUC", "false detections per slide", "ITC found")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    measure = ("evaluate", "--cohort", arguments.cohort, "--split", "test", "--model", arguments.model)
    raw = folder / "encoder"
    if not (raw / "report" / "evaluation.json").exists():
        run(folder, *measure, "--output", raw)
    print(row("the encoder alone", raw / "report", slides), flush=True)
    encoded = encode_windows(cohort, model, folder, arguments.windows)
    for number, name in enumerate((AVERAGING, *VARIANTS)):
        weights, scans = folder / f"refiner-{number}.safetensors", folder / f"scans-{number}"
        if not weights.exists():
            if name == AVERAGING:
                network = only_averaging(model)
            else:
                task = task_behind(model, grid_settings(name), f"refiner-{number}")
                network = train(task, encoded, training_settings(name), arguments.steps)
            save_model(weights, network, network.spec, {"description": name})
        if not (scans / "report-refined" / "evaluation.json").exists():
            run(folder, *measure, "--output", scans, "--refiner", weights)
        print(row(name, scans / "report-refined", slides), flush=True)


if __name__ == "__main__":
    main()
