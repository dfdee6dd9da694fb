"""Dense cells of a map, and the square blocks that they form: its native cells."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry.plane import Region

__all__ = ["any_of_blocks", "repeat_blocks"]

BoolArray = npt.NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)


def any_of_blocks(cells: BoolArray, block: int) -> BoolArray:
    """Return which blocks, ``block`` cells a side, hold a true cell: (rows / block, columns / block) rounded up."""
    rows, columns = (-(-side // block) for side in cells.shape)
    held = np.zeros((rows, columns), np.bool_)
    # One position within the blocks at a time: many times faster than reducing over two axes.
    for y in range(block):
        for x in range(block):
            part = cells[y::block, x::block]
            held[: part.shape[0], : part.shape[1]] |= part
    return held


def repeat_blocks(blocks: npt.NDArray[_Number], block: int, cells: Region) -> npt.NDArray[_Number]:
    """Return, for each cell of a region, the value of its block.

    Parameters
    ----------
    blocks
        Of the whole map, (rows, columns).
    block
        Cells along a side of a block.
    cells
        The cells wanted.
    """
    rows, columns = np.arange(cells.y, cells.bottom) // block, np.arange(cells.x, cells.right) // block
    repeated: npt.NDArray[_Number] = blocks[rows[:, None], columns]
    return repeated
