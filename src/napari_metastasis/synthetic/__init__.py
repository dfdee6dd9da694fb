"""Seeded H&E lymph nodes with metastases whose outlines are known: for demonstrations, tests and benchmarks."""

from __future__ import annotations

from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic._make import make_slide, sample_slide_path, size_class
from napari_metastasis.synthetic._patches import make_patches
from napari_metastasis.synthetic._slide import SyntheticSlide
from napari_metastasis.synthetic.phantoms import DiscPhantom, disc_slide

__all__ = [
    "DiscPhantom",
    "SyntheticSettings",
    "SyntheticSlide",
    "disc_slide",
    "make_patches",
    "make_slide",
    "sample_slide_path",
    "size_class",
]
