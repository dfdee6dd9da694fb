"""What neighbours are worth: the encoder alone, an LSTM behind it, the spatial loss, orders that see two dimensions.

Run with ``python benchmarks/spatial_ablation.py COHORT FOLDER [--model NAME] [--epochs 4]``. COHORT is one with test
slides (``napari-metastasis sample cohort``). Every refiner is trained behind the same finished model, on the same
windows and mined places for as many steps, and differs in one thing. The control reads each patch alone, so that what
the others gain over it is their neighbours' doing and not the training slides'. What is done is kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ablation import false_detections, interval, run
from numpy.typing import NDArray

from napari_metastasis.evaluation.resampling import Resamples, estimate
from napari_metastasis.models import Model, SpatialNetwork, load_model, save_refiner
from napari_metastasis.scanning import Heatmap
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    EvaluationSettings,
    GridSettings,
    ScanSettings,
    SpatialTrainSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.training.cohort import CohortSlide, read_cohort
from napari_metastasis.training.spatial_loop import RefinerJob
from napari_metastasis.training.truth import open_truth

#: Grids of 8 x 8 patches, each two strides from the next: 0.25 mm, and as much of a window in every variant.
_GRID = {"grid": 8, "grid_step": 2, "window_step": 4}
_ALONE = {"grid": 1, "grid_step": 16, "window_step": 1}
_SHARED = {"hidden": 32, "projected": 31, "residual": True}
#: Not trained at all: a refiner begins with the encoder's log-odds, averaged over 5 x 5 patches by a Gaussian.
AVERAGED = GridSettings(**_SHARED, **_GRID, order="raster-four", smoothing=5)  # type: ignore[arg-type]
#: What is read, how, and the weight of the spatial loss.
VARIANTS: dict[str, tuple[dict[str, Any], float]] = {
    "each patch alone, trained on the same": ({**_ALONE, "order": "raster-four"}, 0.0),
    "LSTM, line by line": ({**_GRID, "order": "raster"}, 0.0),
    "LSTM, line by line, spatial loss": ({**_GRID, "order": "raster"}, 1.0),
    "lines and columns, both ways": ({**_GRID, "order": "raster-four"}, 0.0),
    "lines and columns, both ways, spatial loss": ({**_GRID, "order": "raster-four"}, 1.0),
    "every row, then every column, spatial loss": ({**_GRID, "order": "rows-columns"}, 1.0),
    "lines and columns, both ways, spatial loss, averaged": ({**_GRID, "order": "raster-four", "smoothing": 5}, 1.0),
}
#: What all of them share: not the paper's optimiser, which is for an encoder that learns along.
TRAINING: dict[str, Any] = {"optimiser": "adamw", "learning_rate": 0.003, "batch_size": 32, "ema_decay": 0.99}
AUGMENTATION: dict[str, Any] = {
    "jitter_brightness": 0.0, "jitter_contrast": 0.0, "jitter_saturation": 0.0, "jitter_hue": 0.0, "stain": 0.35,
    "hue": 0.06, "background": 0.05, "exposure": 0.3, "gray_share": 0.1, "blur_share": 0.25, "noise_share": 0.2,
}  # fmt: skip
#: How finely probabilities are told apart when cells are counted.
_BINS = 4096
_WINDOWS = {"patches_per_epoch": 1600, "validation_patches": 512}


def grid_settings(variant: str) -> GridSettings:
    """Return what a variant reads, and how."""
    return GridSettings(**_SHARED, **VARIANTS[variant][0])  # type: ignore[arg-type]


def training_settings(variant: str, **changes: Any) -> SpatialTrainSettings:
    """Return how a variant is trained."""
    return SpatialTrainSettings(**(TRAINING | {"beta": VARIANTS[variant][1]} | changes))


def options(variant: str) -> list[Any]:
    """Return all of it as a command line has it."""
    read, beta = VARIANTS[variant]
    values = TRAINING | AUGMENTATION | _WINDOWS | _SHARED | read | {"beta": beta}
    flags = [(f"--{name.replace('_', '-')}", value) for name, value in values.items()]
    return [part for flag, value in flags for part in ([flag] if value is True else [flag, value])]


def save_averaged(weights: Path, model: Model) -> None:
    """Store the refiner that only averages."""
    job = RefinerJob(weights.stem, model, AVERAGED, ScanSettings().dense_coefficient)
    save_refiner(weights, SpatialNetwork(job.spec), {"description": "the encoder's log-odds, averaged; not trained"})


def cell_auc(scans: Path, slides: Sequence[CohortSlide], pattern: str) -> str:
    """Return the area under the curve over the cells of all slides, with its interval over slides.

    Cells that are tumour throughout are told from those that hold none; those on an outline are left out.
    """
    bins = np.linspace(0, 1, _BINS + 1)
    counts = np.zeros((len(slides), 2 * _BINS))
    for number, slide in enumerate(slides):
        (path,) = (scans / f"{slide.name}.metastasis").glob(pattern)
        with Heatmap.open(path) as heatmap:
            frame, answers = heatmap.frame, heatmap.probabilities()
        with open_slide(slide.path) as opened:
            truth = open_truth(slide.annotation, slide=opened.size, bounds=opened.bounds, tumour_value=1)
            cells = truth.over_cells(frame)
            truth.close()
        known = np.isfinite(answers)
        for label, chosen in enumerate((~cells.may_hold, cells.full)):
            counts[number, label * _BINS : (label + 1) * _BINS] = np.histogram(answers[chosen & known], bins)[0]

    def measure(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        normal, tumour = np.split(drawn @ counts, 2, axis=1)
        below = np.cumsum(normal, axis=1) - normal / 2
        pairs = normal.sum(axis=1) * tumour.sum(axis=1)
        return np.asarray((tumour * below).sum(axis=1) / pairs)[:, None]

    scoring = EvaluationSettings()
    is_tumour = np.array([slide.annotation is not None for slide in slides], dtype=np.int64)
    resamples = Resamples(is_tumour, number=scoring.resamples, seed=scoring.seed)
    (found,) = estimate(measure, resamples, width=2 * _BINS)
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
    """Train, scan, refine, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("what answers", "FROC score", "slide AUC", "cell AUC", "false detections per slide", "ITC found")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    measure = ("evaluate", "--cohort", arguments.cohort, "--split", "test", "--model", arguments.model)

    def measured(name: str, weights: Path) -> Path:
        scans = folder / f"scans-{name}"
        if not (scans / "report-refined" / "evaluation.json").exists():
            run(folder, *measure, "--output", scans, "--refiner", weights)
        return scans / "report-refined"

    slides = read_cohort(arguments.cohort, validation_share=0.15, seed=2016).of("test")
    raw = folder / "encoder"
    if not (raw / "report" / "evaluation.json").exists():
        run(folder, *measure, "--output", raw)
    print(row("the encoder alone", raw / "report", slides), flush=True)
    averaged = folder / "averaged.safetensors"
    save_averaged(averaged, load_model(arguments.model))
    print(row("its log-odds, averaged over neighbours", measured("averaged", averaged), slides), flush=True)
    for number, name in enumerate(VARIANTS):
        trained = folder / f"refiner-{number}"
        weights = trained / "spatial" / f"ablation-{number}.safetensors"
        if not weights.exists():
            run(
                folder, "train", "spatial", "--cohort", arguments.cohort, "--encoder", arguments.model,
                "--output", trained, "--name", f"ablation-{number}", "--epochs", arguments.epochs, *options(name),
            )  # fmt: skip
        print(row(name, measured(str(number), weights), slides), flush=True)


if __name__ == "__main__":
    main()
