"""Whole-slide images: levels, resolution, pixels at any scale, and where the tissue lies."""

from __future__ import annotations

from napari_metastasis.slide_address import SlidePath, SlideUrl, results_place, slide_path
from napari_metastasis.slides.fingerprints import earlier_fingerprint, fingerprint
from napari_metastasis.slides.opening import open_slide
from napari_metastasis.slides.slide import Slide
from napari_metastasis.slides.threads import reading_threads
from napari_metastasis.slides.tissue import TissueMask, tissue_mask
from napari_metastasis.slides.writer import write_pyramid

__all__ = [
    "Slide",
    "SlidePath",
    "SlideUrl",
    "TissueMask",
    "earlier_fingerprint",
    "fingerprint",
    "open_slide",
    "reading_threads",
    "results_place",
    "slide_path",
    "tissue_mask",
    "write_pyramid",
]
