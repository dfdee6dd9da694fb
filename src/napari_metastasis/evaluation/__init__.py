"""How good a model is: patch by patch, and over the pixels of scanned slides."""

from __future__ import annotations

from napari_metastasis.evaluation.classification import Estimate, auc_with_interval
from napari_metastasis.evaluation.patches import PatchReport, evaluate_patches
from napari_metastasis.evaluation.pixels import pixel_probabilities

__all__ = ["Estimate", "PatchReport", "auc_with_interval", "evaluate_patches", "pixel_probabilities"]
