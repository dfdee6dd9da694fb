"""Tissue told from glass, pen marks and black borders on a low-power image.

Otsu's threshold (1979), as Lin et al. 2019 (II-C) use it, taken on colour: glass and black borders are grey, pens have
hues that haematoxylin and eosin have not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_metastasis.geometry import HeatmapFrame, LevelFrame, Region
from napari_metastasis.settings import TissueSettings
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.slide import Slide

__all__ = ["TissueMask", "classify_tissue", "tissue_mask"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

_DEFAULTS = TissueSettings()


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Where a slide holds tissue.

    Attributes
    ----------
    mask
        bool of shape (rows, columns): tissue, with its margin.
    frame
        Where the mask's pixels lie on the slide.
    fraction
        Share of the slide's area that is tissue, before the margin was added.
    """

    mask: BoolArray
    frame: LevelFrame
    fraction: float

    def covers(self, region: Region) -> bool:
        """Return whether any tissue lies in a region of level-0 pixels."""
        scale = self.frame.downsample
        x, y = max(0, math.floor(region.x / scale)), max(0, math.floor(region.y / scale))
        right, bottom = math.ceil(region.right / scale), math.ceil(region.bottom / scale)
        return not region.is_empty and bool(self.mask[y : max(y, bottom), x : max(x, right)].any())

    def over(self, frame: HeatmapFrame) -> BoolArray:
        """Return which cells of a heatmap hold any tissue: bool of shape (rows, columns)."""
        rows = self._spans(frame, along_x=False)
        columns = self._spans(frame, along_x=True)
        # Sums over rectangles of an integral image: any tissue in a cell is a sum that is not zero.
        sums = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), np.int64)
        np.cumsum(np.cumsum(self.mask, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
        down = sums[rows[1]] - sums[rows[0]]
        return (down[:, columns[1]] - down[:, columns[0]]) > 0

    def _spans(self, frame: HeatmapFrame, *, along_x: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the first and the past-the-last mask index of every cell along one axis."""
        count, length = (frame.cells.width, self.mask.shape[1]) if along_x else (frame.cells.height, self.mask.shape[0])
        corner = frame.cell_corner(0, 0)
        low = ((corner.x if along_x else corner.y) + np.arange(count) * frame.cell_px) / self.frame.downsample
        high = low + frame.cell_px / self.frame.downsample
        first = np.clip(np.floor(low + 1e-9), 0, length).astype(np.int64)
        last = np.clip(np.ceil(high - 1e-9), first, length).astype(np.int64)
        return first, last


def tissue_mask(
    slide: Slide,
    settings: TissueSettings = _DEFAULTS,
    *,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TissueMask | None:
    """Find the tissue of a slide.

    Parameters
    ----------
    slide
        An open slide.
    settings
        How tissue is told from glass.
    threads
        Threads that decode.
    progress
        Called with (pieces read, pieces in all).
    should_stop
        Asked between pieces.

    Returns
    -------
    The mask, or ``None`` where ``should_stop`` said so.
    """
    wanted = settings.mpp / slide.mpp
    level = min(range(len(slide.downsamples)), key=lambda index: abs(math.log(slide.downsamples[index] / wanted)))
    frame = slide.level_frame(level)
    pixels = _read_level(slide, level, threads=threads, progress=progress, should_stop=should_stop)
    if pixels is None:
        return None
    return _grown(classify_tissue(pixels), frame, settings)


def classify_tissue(pixels: UInt8Array) -> BoolArray:
    """Return which pixels of a low-power image, uint8 of shape (rows, columns, 3), are tissue: before any clean-up."""
    rgb = ndimage.gaussian_filter(pixels.astype(np.float32), sigma=(1, 1, 0))
    chroma = rgb.max(axis=2) - rgb.min(axis=2)
    threshold = max(float(threshold_otsu(chroma)) if np.ptp(chroma) > 0 else 0.0, 12.0)
    return chroma > threshold


def _grown(tissue: BoolArray, frame: LevelFrame, settings: TissueSettings) -> TissueMask:
    return TissueMask(mask=tissue, frame=frame, fraction=float(tissue.mean()))


def _read_level(
    slide: Slide,
    level: int,
    *,
    threads: int,
    progress: Callable[[int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> UInt8Array | None:
    """Return a level whole, read in pieces; ``None`` where it was stopped."""
    size = slide.levels[level].size
    result = np.empty((*size.shape, 3), np.uint8)
    pieces = list(Region.of(size).split(_PIECE_PX))

    def read(piece: Region) -> bool:
        if should_stop is not None and should_stop():
            return False
        result[piece.slices] = slide.read_level(level, piece)
        return True

    with ThreadPoolExecutor(threads) as pool:
        for done, finished in enumerate(pool.map(read, pieces), start=1):
            if not finished:
                return None
            if progress is not None:
                progress(done, len(pieces))
    return result


#: Side of the pieces in which the low-power image is read: about one tile of a level four steps finer.
_PIECE_PX = 256
