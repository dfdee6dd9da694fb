"""How good a model is: patch by patch, over the pixels of scanned slides, and lesion by lesion."""

from __future__ import annotations

from napari_metastasis.evaluation.classification import Estimate, auc_with_interval
from napari_metastasis.evaluation.detections import SlideDetections, read_detections_csv
from napari_metastasis.evaluation.froc import FrocCurve, FrocFigures, froc_curve, froc_figures
from napari_metastasis.evaluation.matching import LesionOutcome, SlideOutcome, match_slide
from napari_metastasis.evaluation.patches import PatchReport, evaluate_patches
from napari_metastasis.evaluation.pixels import pixel_probabilities
from napari_metastasis.evaluation.resampling import Resamples
from napari_metastasis.evaluation.truth import SlideTruth, TrueLesion, truth_from_annotations, truth_from_mask

__all__ = [
    "Estimate",
    "FrocCurve",
    "FrocFigures",
    "LesionOutcome",
    "PatchReport",
    "Resamples",
    "SlideDetections",
    "SlideOutcome",
    "SlideTruth",
    "TrueLesion",
    "auc_with_interval",
    "evaluate_patches",
    "froc_curve",
    "froc_figures",
    "match_slide",
    "pixel_probabilities",
    "read_detections_csv",
    "truth_from_annotations",
    "truth_from_mask",
]
