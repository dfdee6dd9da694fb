"""Resampling on a grid anchored at the slide's corner.

Target pixel ``i`` covers the source interval ``i · ratio .. (i + 1) · ratio``. Its weights depend on ``i`` alone, never
on where a window begins, so that the same pixel comes out of every window that holds it.

Shrinking (``ratio >= 1``) averages the source over that interval: exact box averaging for whole ratios. Enlarging
interpolates linearly between pixel centres. Both are the same triangle at ``ratio == 1``, so that nothing jumps there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from napari_metastasis.geometry import Region

__all__ = ["AxisWeights", "axis_weights", "resample"]

UInt8Array = npt.NDArray[np.uint8]

#: Source pixels resampled at once, wide and high. As float32 they fit the processor's cache: blocks four times as large
#: take half as long again, and much smaller ones lose their time in Python. Two rows of blocks share a row of the usual
#: 512 px tiles, and columns are done first, so that both are read from tiles just decoded. Changes no pixel.
_BLOCK_WIDTH_PX, _BLOCK_HEIGHT_PX = 1024, 256

#: Overlaps below this share of a pixel are rounding of ``i · ratio``, not image content: under 1/255 of a grey level.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True)
class AxisWeights:
    """How target pixels of one axis are made from source pixels.

    Attributes
    ----------
    matrix
        Sparse float32, targets x sources; every row sums to 1.
    start
        Source index of the first column. May be negative: outside the slide.
    """

    matrix: sparse.csr_matrix
    start: int

    @property
    def stop(self) -> int:
        """Return the source index past the last column."""
        return self.start + self.matrix.shape[1]


def axis_weights(first: int, count: int, ratio: float) -> AxisWeights:
    """Return the weights of target pixels ``first .. first + count`` along one axis.

    Parameters
    ----------
    first, count
        Target pixels wanted, counted from the slide's edge; ``count`` is at least 1.
    ratio
        Source pixels along one side of a target pixel.
    """
    targets = np.arange(first, first + count, dtype=np.float64)[:, None]
    if ratio >= 1:
        low, high = targets * ratio, (targets + 1) * ratio
        sources = np.floor(low + _NEGLIGIBLE) + np.arange(math.ceil(ratio) + 1)
        overlap = np.minimum(high, sources + 1) - np.maximum(low, sources)
        weights = np.where(overlap > _NEGLIGIBLE, overlap, 0.0)
    else:
        center = (targets + 0.5) * ratio - 0.5
        sources = np.floor(center) + np.arange(2)
        weights = 1.0 - np.abs(center - sources)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights > 0
    columns = sources[used].astype(np.int64)
    start = int(columns.min())
    rows = np.concatenate(([0], np.cumsum(used.sum(axis=1))))
    matrix = sparse.csr_matrix(
        (weights[used].astype(np.float32), columns - start, rows), shape=(count, int(columns.max()) - start + 1)
    )
    return AxisWeights(matrix=matrix, start=start)


def resample(read: Callable[[Region], UInt8Array], region: Region, ratio: float) -> UInt8Array:
    """Return target pixels made from source pixels.

    Parameters
    ----------
    read
        Returns source pixels, uint8 of shape (rows, columns, 3), for any region; white outside the slide.
    region
        Target pixels wanted.
    ratio
        Source pixels along one side of a target pixel.

    Returns
    -------
    uint8 of shape (rows, columns, 3)
    """
    result = np.empty((*region.size.shape, 3), np.uint8)
    if region.is_empty:
        return result
    step_x = max(1, int(_BLOCK_WIDTH_PX / max(ratio, 1.0)))
    step_y = max(1, int(_BLOCK_HEIGHT_PX / max(ratio, 1.0)))
    # Blocks lie on a grid anchored at the slide's corner: for whole ratios, their edges are edges of tiles.
    all_down = {
        y: axis_weights(max(y, region.y), min(y + step_y, region.bottom) - max(y, region.y), ratio)
        for y in range(region.y // step_y * step_y, region.bottom, step_y)
    }
    for x in range(region.x // step_x * step_x, region.right, step_x):
        left, right = max(x, region.x), min(x + step_x, region.right)
        across = axis_weights(left, right - left, ratio)
        for y, down in all_down.items():
            top, bottom = max(y, region.y), min(y + step_y, region.bottom)
            source = read(Region(across.start, down.start, across.stop - across.start, down.stop - down.start))
            target = Region(left, top, right - left, bottom - top).shifted(-region.x, -region.y)
            result[target.slices] = _apply(down, across, source)
    return result


def _apply(down: AxisWeights, across: AxisWeights, source: UInt8Array) -> UInt8Array:
    """Return one block: first along the rows, which lie whole in memory, then along the columns."""
    source_rows, source_columns, _ = source.shape
    rows = down.matrix @ source.reshape(source_rows, source_columns * 3).astype(np.float32)
    count = rows.shape[0]
    turned = _turned(rows.reshape(count, source_columns, 3))
    columns = across.matrix @ turned.reshape(source_columns, count * 3)
    # Half a grey level is added before truncation: rounding, without the pass over memory that np.rint takes.
    columns += 0.5
    return _turned(columns.astype(np.uint8).reshape(-1, count, 3))


def _turned(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (rows, columns, 3) as contiguous (columns, rows, 3).

    Pixels are moved whole, as opaque items: channel by channel, NumPy takes 2.5 times as long, longer than the rest of
    the resampling.
    """
    whole = pixels.view(f"V{pixels.itemsize * 3}")[..., 0]
    return np.ascontiguousarray(whole.T).view(pixels.dtype).reshape(pixels.shape[1], pixels.shape[0], 3)
