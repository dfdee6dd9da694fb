"""Cells of a map and the squares that they make up: dense cells and native ones."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry.plane import Region

__all__ = ["any_of_blocks", "repeat_blocks"]

BoolArray = npt.NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)


def any_of_blocks(cells: BoolArray, block: int) -> BoolArray:
    """Return which squares of ``block`` cells hold any, (rows / block, columns / block) rounded up."""
    rows, columns = (-(-side // block) for side in cells.shape)
    held = np.zeros((rows, columns), np.bool_)
    # Place by place within a square: many times faster than reducing over its two axes.
    for y in range(block):
        for x in range(block):
            part = cells[y::block, x::block]
            held[: part.shape[0], : part.shape[1]] |= part
    return held


def repeat_blocks(squares: npt.NDArray[_Number], block: int, cells: Region) -> npt.NDArray[_Number]:
    """Return, for each cell of a region, the value of the square that it lies in.

    Parameters
    ----------
    squares
        (rows, columns) of the whole map, in squares of ``block`` cells.
    block
        Cells along a side of a square.
    cells
        The cells wanted.
    """
    rows, columns = np.arange(cells.y, cells.bottom) // block, np.arange(cells.x, cells.right) // block
    repeated: npt.NDArray[_Number] = squares[rows[:, None], columns]
    return repeated
