"""How good a model is on real tissue: patches, regions scanned as a slide.

Run with ``python benchmarks/accuracy.py DATA [--model NAME] [--json] [--card CARD]``. DATA holds ``pcam_valid.zip`` and
``regions/`` (512 px regions with tumour masks); ``--card`` writes the figures into a model's card. The regions lie on
one pyramidal slide at 0.7 µm/px, which is scanned through the same call as any other slide; the figure is the area
under the curve of tumour against all other pixels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from model_scan import scan_with
from mosaic import write_mosaic
from numpy.typing import NDArray
from pixels import pixel_probabilities
from sklearn.metrics import roc_auc_score

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.evaluation import evaluate_patches
from napari_metastasis.models import Detector, load_detector
from napari_metastasis.settings import DEFAULT_MODEL, PatchScoringSettings, ScanSettings
from napari_metastasis.storage import atomic_text
from napari_metastasis.workflows.scan import ScanJob


def region_pixels(
    model: Detector,
    regions: Path,
    *,
    mpp: float,
    views: int,
    stain: str = "auto",
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.float32]]]:
    """Return of each region which pixels are tumour and what the model says of them, said to have this resolution.

    With ``change``, a region is what that returns of it.
    """
    changed = {} if change is None else {"change": change}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "regions.tif"
        mosaic = write_mosaic(regions, path, mpp=mpp, **changed)
        result = scan_with(model, ScanJob(slide=path, scan=ScanSettings(augment_views=views, stain=stain)))
    scores = [pixel_probabilities(result.probabilities, result.frame, place).ravel() for place in mosaic.places]
    return [mask.ravel() for mask in mosaic.masks], scores


def region_auc(model: Detector, regions: Path, *, mpp: float, views: int) -> float:
    """Return the area under the curve over the pixels of all regions."""
    labels, scores = region_pixels(model, regions, mpp=mpp, views=views)
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--card", type=Path)
    parser.add_argument("--trained-on-regions", action="store_true", help="leave the regions out: they tell nothing")
    arguments = parser.parse_args()
    model = load_detector(arguments.model)
    valid = open_patches(arguments.data / "pcam_valid.zip")
    figures: dict[str, float] = {}
    for views in (1, 8):
        report = evaluate_patches(model, valid, PatchScoringSettings(), views=views, device="cpu")
        figures[f"patches, AUC, {views} view(s)"] = round(report.auc.value, 4)
        figures[f"patches, AUC, {views} view(s), low"] = round(report.auc.low, 4)
        figures[f"patches, AUC, {views} view(s), high"] = round(report.auc.high, 4)
        figures[f"patches, accuracy, {views} view(s)"] = round(report.accuracy.value, 4)
        figures[f"patches, calibration error, {views} view(s)"] = round(report.calibration_error.value, 4)
    for mpp in () if arguments.trained_on_regions else (0.58, 0.7, 0.83, 0.97):
        for views in (1, 8) if mpp == 0.7 else (1,):
            auc = region_auc(model, arguments.data / "regions", mpp=mpp, views=views)
            figures[f"regions, pixel AUC at {mpp} µm/px, {views} view(s)"] = round(auc, 4)
    if arguments.card is not None:
        card = json.loads(arguments.card.read_text(encoding="utf-8"))
        if card["weights_sha256"] != model.weights_sha256:
            raise SystemExit(f"expected the card of {arguments.model}, got that of other weights in {arguments.card}")
        card["card"]["measured"] = figures
        with atomic_text(arguments.card) as stream:
            stream.write(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    if arguments.json:
        print(json.dumps({"model": model.spec.name, "weights_sha256": model.weights_sha256, **figures}))
        return
    print(f"{model.spec.name} ({model.weights_sha256[:12]})")
    for name, value in figures.items():
        print(f"  {name:<48} {value:.4f}")


if __name__ == "__main__":
    main()
