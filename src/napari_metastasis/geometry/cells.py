"""Dense cells of a map, and the square blocks that they form: its native cells."""

from __future__ import annotations

import math
import mmap
import sys
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry.frames import HeatmapFrame
from napari_metastasis.geometry.plane import Region

__all__ = ["any_of_blocks", "cells_beneath", "repeat_blocks", "sparse_zeros"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
_Number = TypeVar("_Number", bound=np.generic)


def sparse_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike = np.bool_) -> npt.NDArray[Any]:
    """Return zeros that take memory only where something is written: a map of which glass costs nothing.

    Reading takes none, but writing zeros does: set what is true with ``np.copyto(…, True, where=…)``.

    Parameters
    ----------
    shape
        Of the array.
    dtype
        Of its elements.
    """
    count, kind = math.prod(shape), np.dtype(dtype)
    if count == 0:
        return np.zeros(shape, kind)
    # Not np.zeros, which may get memory that was freed before, and then has to clear it.
    private = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    return np.frombuffer(mmap.mmap(-1, count * kind.itemsize, **private), kind).reshape(shape)


def any_of_blocks(cells: BoolArray, block: int) -> BoolArray:
    """Return which blocks, ``block`` cells a side, hold a true cell: (rows / block, columns / block) rounded up."""
    rows, columns = (-(-side // block) for side in cells.shape)
    held = sparse_zeros((rows, columns))
    # One position within the blocks at a time: many times faster than reducing over two axes.
    for y in range(block):
        for x in range(block):
            part = cells[y::block, x::block]
            np.copyto(held[: part.shape[0], : part.shape[1]], True, where=part)
    return held


def cells_beneath(fine: HeatmapFrame, coarse: HeatmapFrame) -> tuple[IntArray, IntArray]:
    """Return which row of one map the middle of each row of another lies in, and so for columns.

    Parameters
    ----------
    fine
        Whose middles are asked for; it need not be of the same model.
    coarse
        Of the same slide. Past its edge its outermost cells are taken.
    """
    first, step = coarse.cell_at(fine.cell_center(0, 0)), fine.cell_px / coarse.cell_px
    rows, columns = (
        np.clip(np.floor(begin + 0.5 + step * np.arange(count)), 0, last - 1).astype(np.intp)
        for begin, count, last in (
            (first.y, fine.cells.height, coarse.cells.height),
            (first.x, fine.cells.width, coarse.cells.width),
        )
    )
    return rows, columns


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
