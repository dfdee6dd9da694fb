"""Two maps of one slide in one: the scan's own answers, and refined ones on coarser cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import HeatmapFrame, Region

__all__ = ["blend"]

FloatArray = npt.NDArray[np.float32]


def blend(
    raw: FloatArray,
    frame: HeatmapFrame,
    refined: FloatArray,
    native: HeatmapFrame,
    share: float,
    cells: Region | None = None,
) -> FloatArray:
    """Return probabilities on the scan's cells: its own answers, and that of the native cell that each lies in.

    A native cell is a square of whole cells, whose middle is its own. Nothing is interpolated: what is highest in the
    refined map is as high in the blend.

    Parameters
    ----------
    raw
        float32, (rows, columns) of ``cells``, NaN where nothing was scanned: there, the blend is NaN as well.
    frame
        Of the scan's cells.
    refined
        float32, (rows, columns) of the whole refined map, NaN where there is none: there, the scan's answer counts.
    native
        Of the refined map's cells.
    share
        Of the refined probability, 0 to 1.
    cells
        The part of the scan's map that ``raw`` holds; ``None`` for all of it.
    """
    if share == 0:
        return raw.copy()
    cells = Region.of(frame.cells) if cells is None else cells
    block = native.stride_px // frame.stride_px
    rows, columns = np.arange(cells.y, cells.bottom) // block, np.arange(cells.x, cells.right) // block
    blended = refined[rows[:, None], columns]
    unrefined = np.isnan(blended)
    if share != 1:
        blended *= np.float32(share)
        blended += np.float32(1 - share) * raw
    blended[np.isnan(raw)] = np.nan
    np.copyto(blended, raw, where=unrefined)
    return blended
