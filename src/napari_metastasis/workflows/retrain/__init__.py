"""Retraining on corrections: what was corrected, how a model learns from it, and whether it is better for it."""

from __future__ import annotations

from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, gather, part
from napari_metastasis.workflows.retrain.run import Retrained, Retraining, retrain
from napari_metastasis.workflows.retrain.verdict import PlaceAnswer, Verdict

__all__ = ["Corrected", "Parted", "PlaceAnswer", "Retrained", "Retraining", "Verdict", "gather", "part", "retrain"]
