"""Whole-slide images: levels, resolution, pixels at any scale, and where the tissue lies."""

from __future__ import annotations

from napari_metastasis.slides.opening import BackendName, open_slide
from napari_metastasis.slides.slide import Level, Slide
from napari_metastasis.slides.tissue import TissueMask, tissue_mask

__all__ = ["BackendName", "Level", "Slide", "TissueMask", "open_slide", "tissue_mask"]
