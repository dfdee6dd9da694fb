"""What the overview shows, computed beside the window: the slide small, the map small. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Point, Region

if TYPE_CHECKING:
    from napari_metastasis.scanning import MapValues
    from napari_metastasis.slides import Slide, TissueMask

__all__ = ["OverviewHeat", "heat_work", "thumbnail_work"]

ShouldStop = Callable[[], bool]
_Number = TypeVar("_Number", np.float32, np.uint32)

#: Blocks of cells along the longer side of a map: one is drawn larger than a pixel, so that no lesion is lost.
_BLOCKS = 128


@dataclass(frozen=True, slots=True, eq=False)
class OverviewHeat:
    """A map, small.

    Attributes
    ----------
    values
        float32, (rows, columns): the highest probability of each block of cells, NaN where none was scanned.
    missing
        bool, (rows, columns): blocks that hold tissue, half of which or more was not scanned.
    corner
        Level-0 location of the top-left corner of block (0, 0).
    block_px
        Side of a block in level-0 pixels.
    """

    values: npt.NDArray[np.float32]
    missing: npt.NDArray[np.bool_]
    corner: Point
    block_px: float


def thumbnail_work(slide: Slide, _: ShouldStop) -> npt.NDArray[np.uint8]:
    """Return a slide's coarsest level, uint8 of shape (rows, columns, 3).

    Raises
    ------
    SlideError
        If it cannot be read, or the slide was closed meanwhile.
    """
    return slide.read_level(len(slide.levels) - 1, Region.of(slide.levels[-1].size))


def heat_work(
    maps: Sequence[MapValues], shares: Sequence[float], tissue: TissueMask | None, _: ShouldStop
) -> OverviewHeat:
    """Return what lesions are read from, small. The maps may be written meanwhile.

    Parameters
    ----------
    maps
        The scan's own map, then those of the passes after it.
    shares
        Of each of the latter in what lesions are read from.
    tissue
        Where the tissue lies; ``None`` where that is not known, and nothing is said to be missing.
    """
    from napari_metastasis.scanning import seen_values

    own, *later = maps
    read = seen_values(own, list(zip(later, shares, strict=True)), None if tissue is None else tissue.over)
    frame, seen = read.frame, read.values
    block = max(1, -(-max(frame.cells.width, frame.cells.height) // _BLOCKS))
    values = _blocks(seen, block, np.fmax)
    missing = np.zeros(values.shape, np.bool_)
    if tissue is not None:
        there = tissue.over(frame)
        unscanned = there & np.isnan(seen)
        held, lacking = (_blocks(cells.astype(np.uint32), block, np.add) for cells in (there, unscanned))
        missing = (lacking > 0) & (2 * lacking >= held)
    return OverviewHeat(values, missing, frame.cell_corner(0, 0), block * frame.cell_px)


def _blocks(cells: npt.NDArray[_Number], block: int, join: np.ufunc) -> npt.NDArray[_Number]:
    """Return cells joined in square blocks, those at the edge of fewer cells."""
    for axis, count in enumerate(cells.shape):
        cells = join.reduceat(cells, np.arange(0, count, block), axis=axis)
    return cells
