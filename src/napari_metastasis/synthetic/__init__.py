"""Seeded H&E lymph nodes with metastases whose outlines are known: for demonstrations, tests and benchmarks."""

from __future__ import annotations

from napari_metastasis.synthetic._cohort import make_cohort, plan_cohort
from napari_metastasis.synthetic._figures import FigurePainter
from napari_metastasis.synthetic._make import make_slide, sample_slide_path, size_class
from napari_metastasis.synthetic._patches import make_patches
from napari_metastasis.synthetic._slide import SyntheticSlide

__all__ = [
    "FigurePainter",
    "SyntheticSlide",
    "make_cohort",
    "make_patches",
    "make_slide",
    "plan_cohort",
    "sample_slide_path",
    "size_class",
]
