"""Stains: how dense they are, brought to a model's density; and haematoxylin told from eosin."""

from __future__ import annotations

from napari_metastasis.slides.stains.density import (
    STAINED,
    StainedReader,
    mean_density,
    nuclear_tint,
    optical_density,
    stain_tables,
    swap_note,
    tissue_pixels,
)
from napari_metastasis.slides.stains.levels import stained_levels
from napari_metastasis.slides.stains.macenko import (
    TARGET,
    VIEWS,
    StainMatrix,
    StainView,
    concentrations,
    middle_stain_matrix,
    pooled_stain_matrix,
    slide_stain_matrix,
    stain_matrix,
    stain_picture,
)

__all__ = [
    "STAINED",
    "TARGET",
    "VIEWS",
    "StainMatrix",
    "StainView",
    "StainedReader",
    "concentrations",
    "mean_density",
    "middle_stain_matrix",
    "nuclear_tint",
    "optical_density",
    "pooled_stain_matrix",
    "slide_stain_matrix",
    "stain_matrix",
    "stain_picture",
    "stain_tables",
    "stained_levels",
    "swap_note",
    "tissue_pixels",
]
