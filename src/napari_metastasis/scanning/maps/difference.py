"""What another model makes of the same tissue: one map less another, cell by cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.scanning.maps.kinds import CHANGE, MapValues

__all__ = ["what_changed"]


def what_changed(old: MapValues, new: MapValues) -> MapValues:
    """Return ``new`` less ``old``, -1 to 1, on the cells of ``new``; NaN where one of them has no answer.

    Where their cells are not the same, as those of models that look at other patches, each cell is compared with the
    one of ``old`` that its middle lies in.
    """
    values = old.values
    if old.frame != new.frame:
        columns, rows = _cells_at(new.frame, old.frame)
        inside = (rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1])
        taken = np.full(new.values.shape, np.nan, np.float32)
        taken[np.ix_(*inside)] = values[np.ix_(rows[inside[0]], columns[inside[1]])]
        values = taken
    return MapValues(CHANGE, new.frame, new.values - values)


def _cells_at(of: HeatmapFrame, among: HeatmapFrame) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the column, and the row, of the cells that the middles of other cells lie in."""
    middles = (of.cell_center(number, number) for number in range(max(of.cells.width, of.cells.height)))
    cells = [among.cell_at(Point(middle.x, middle.y)) for middle in middles]
    # A cell reaches half a cell to either side of its middle; the earlier one has the edge.
    x = np.array([np.ceil(cell.x - 0.5) for cell in cells[: of.cells.width]], np.intp)
    y = np.array([np.ceil(cell.y - 0.5) for cell in cells[: of.cells.height]], np.intp)
    return x, y
