"""Which cells of a heatmap lie on a slide's tumour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.geometry import HeatmapFrame, Region, sparse_zeros

__all__ = ["cells_on_tumour"]

#: Cells along a side of the windows that the reference is asked for: of a megabyte each.
_TOGETHER = 64


def cells_on_tumour(reference: TumourReference, frame: HeatmapFrame) -> npt.NDArray[np.bool_]:
    """Return the cells whose centre lies in tumour, bool, (rows, columns) of the whole map."""
    found: npt.NDArray[np.bool_] = sparse_zeros(frame.cells.shape)
    if reference.none:
        return found
    may_hold = reference.over_cells(frame).may_hold
    stride = frame.stride_px
    # Of an even patch the centre is a corner of four pixels, of which the one behind it is asked.
    first = frame.patch_px // 2 - frame.padding_px
    for cells in Region.of(frame.cells).split(_TOGETHER):
        if not may_hold[cells.slices].any():
            continue
        window = Region(
            first + cells.x * stride,
            first + cells.y * stride,
            (cells.width - 1) * stride + 1,
            (cells.height - 1) * stride + 1,
        )
        found[cells.slices] = reference.over(frame.model, window)[::stride, ::stride]
    return found
