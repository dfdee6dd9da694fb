"""Seeded H&E lymph nodes with metastases whose outlines are known: for demonstrations, tests and benchmarks.

Besides, mitoses and what is taken for them, which are drawn into pictures of real tissue: for training.
"""

from __future__ import annotations

from napari_metastasis.synthetic._cohort import make_cohort, plan_cohort
from napari_metastasis.synthetic._figures import FigurePainter, Palette, paint_figure
from napari_metastasis.synthetic._lookalikes import LOOKALIKES, draw_lookalike
from napari_metastasis.synthetic._make import make_slide, sample_slide_path, size_class
from napari_metastasis.synthetic._mitoses import MITOSES, draw_mitosis
from napari_metastasis.synthetic._patches import make_patches
from napari_metastasis.synthetic._slide import SyntheticSlide

__all__ = [
    "LOOKALIKES",
    "MITOSES",
    "FigurePainter",
    "Palette",
    "SyntheticSlide",
    "draw_lookalike",
    "draw_mitosis",
    "make_cohort",
    "make_patches",
    "make_slide",
    "paint_figure",
    "plan_cohort",
    "sample_slide_path",
    "size_class",
]
