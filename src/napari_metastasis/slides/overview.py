"""An overview of a slide without coarse levels, from a sample of its tiles; for display only.

Averaging a coarse level from a file with a single level takes a minute, because all of the file is decoded. Instead,
one tile in a few is decoded. Every other tile shows the mean colour of the decoded neighbour whose compressed size is
nearest to its own, because glass compresses to almost nothing and tissue does not. Edges of tissue are thus right to a
tile, and no texture is invented.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import Backend, UInt8Array
from napari_metastasis.slides.grid import TileGrid
from napari_metastasis.slides.pyramid import PlannedLevel
from napari_metastasis.slides.resample import resample

__all__ = ["is_sampled", "sampled_overview"]

#: Below this ratio, a screen of 2,048 px is averaged in about a second, as fast as any other view.
_MIN_RATIO = 32
#: Level pixels that are decoded in about two seconds; a smaller level is read whole.
_BUDGET_PX = 1 << 28


def is_sampled(planned: PlannedLevel, stored: Size, tile: Size) -> bool:
    """Return whether a level is shown from a sample. Files in strips are not: strips have no neighbours beside them."""
    return planned.ratio >= _MIN_RATIO and stored.area > _BUDGET_PX and tile.width < stored.width


def sampled_overview(backend: Backend, stored: int, ratio: int, *, threads: int) -> UInt8Array:
    """Return a stored level reduced ``ratio`` times, uint8 of shape (rows, columns, 3).

    Tiles are decoded with ``threads`` threads.

    Raises
    ------
    CorruptSlideError
        If a tile cannot be read or decoded.
    """
    level = backend.levels[stored]
    grid = TileGrid(level.size, level.tile)
    rows, columns = -(-grid.count // grid.columns), grid.columns
    step = math.ceil(math.sqrt(level.size.area / _BUDGET_PX))
    sampled = [(row, column) for row in range(step // 2, rows, step) for column in range(step // 2, columns, step)]
    target = Size(math.ceil(level.size.width / ratio), math.ceil(level.size.height / ratio))
    result = np.full((*target.shape, 3), 255, np.uint8)

    def target_of(row: int, column: int) -> Region:
        x, y = column * level.tile.width / ratio, row * level.tile.height / ratio
        right, bottom = x + level.tile.width / ratio, y + level.tile.height / ratio
        cell = Region(round(x), round(y), round(right) - round(x), round(bottom) - round(y))
        return cell.intersection(Region.of(target))

    def decode(at: tuple[int, int]) -> UInt8Array:
        whole = Region.of(level.size)

        def read(region: Region) -> UInt8Array:
            # The last row and column are repeated past the slide, so that the overview has no white seam.
            inside = region.intersection(whole)
            missing = ((0, region.height - inside.height), (0, region.width - inside.width), (0, 0))
            return np.pad(backend.read(stored, inside), missing, mode="edge")

        return resample(read, target_of(*at), ratio)

    with ThreadPoolExecutor(threads) as pool:
        pictures = dict(zip(sampled, pool.map(decode, sampled), strict=True))
    means = {at: picture.reshape(-1, 3).mean(axis=0).round() for at, picture in pictures.items() if picture.size}
    if not means:
        return result
    sizes = backend.tile_bytes(stored)
    weights = np.zeros(grid.count) if sizes is None else np.log1p(sizes)
    for row in range(rows):
        for column in range(columns):
            found = pictures.get((row, column))
            cell = target_of(row, column).slices
            result[cell] = (
                found if found is not None else means[_most_alike(row, column, step, means, weights, columns)]
            )
    return result


def _most_alike(
    row: int,
    column: int,
    step: int,
    means: dict[tuple[int, int], npt.NDArray[np.float64]],
    weights: npt.NDArray[np.float64],
    columns: int,
) -> tuple[int, int]:
    """Return the decoded tile nearby with the most similar compressed size, on a logarithmic scale."""
    first = step // 2
    near_row, near_column = round((row - first) / step) * step + first, round((column - first) / step) * step + first
    near = [(near_row + down * step, near_column + across * step) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    candidates = [at for at in near if at in means] or list(means)
    own = weights[row * columns + column]
    return min(
        candidates,
        key=lambda at: (abs(weights[at[0] * columns + at[1]] - own), math.hypot(at[0] - row, at[1] - column)),
    )
