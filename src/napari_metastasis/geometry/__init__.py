"""Points, regions, frames and symmetries: this room computes every offset of the program.

A location is (x, y) in level-0 pixels with (0, 0) at the top-left CORNER of the first pixel; arrays are indexed (row,
column). Micrometres follow napari and OME-Zarr: the CENTRE of level-0 pixel (0, 0) lies at 0 µm.
"""

from __future__ import annotations

from napari_metastasis.geometry.cells import any_of_blocks, cells_beneath, repeat_blocks, sparse_zeros
from napari_metastasis.geometry.chunked import CHUNK_CELLS, ChunkedCells, chunks_over
from napari_metastasis.geometry.frames import HeatmapFrame, LevelFrame, ModelFrame
from napari_metastasis.geometry.plane import Affine1D, Point, Region, Size, locations_um
from napari_metastasis.geometry.summed_area import SummedArea
from napari_metastasis.geometry.symmetry import SYMMETRIES

__all__ = [
    "CHUNK_CELLS",
    "SYMMETRIES",
    "Affine1D",
    "ChunkedCells",
    "HeatmapFrame",
    "LevelFrame",
    "ModelFrame",
    "Point",
    "Region",
    "Size",
    "SummedArea",
    "any_of_blocks",
    "cells_beneath",
    "chunks_over",
    "locations_um",
    "repeat_blocks",
    "sparse_zeros",
]
