"""How dense a slide's stains are, and how to bring them to those that a model was trained on.

The mean optical density of tissue, of red, green and blue each, is multiplied to the model's own (Beer-Lambert: a
thicker section or a stronger dye multiplies it). A pixel's colours alone decide its new ones, so that a table of 256
values for each channel does it, and neighbouring pieces of a scan agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region
from napari_metastasis.slides.tissue import TissueMask

__all__ = ["STAINED", "StainedReader", "mean_density", "optical_density", "stain_tables", "tissue_density"]

UInt8Array = npt.NDArray[np.uint8]
#: Mean optical density (natural logarithm) from which a pixel counts as stained.
STAINED = 0.15
#: Windows of tissue that are looked at, spread over it, and their side: more change the mean by less than a hundredth.
_WINDOWS, _WINDOW_PX = 64, 96


class _Slide(Protocol):
    def read(self, frame: ModelFrame, region: Region) -> UInt8Array: ...


def optical_density(pixels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the optical density (natural logarithm) of values 0..255; 0 counts as 1."""
    density: npt.NDArray[np.float64] = -np.log(np.maximum(pixels, 1) / 255.0)
    return density


def mean_density(pixels: UInt8Array) -> npt.NDArray[np.float64] | None:
    """Return the mean optical density (natural logarithm) of the stained pixels among (…, 3); ``None`` without any."""
    density = optical_density(pixels.reshape(-1, 3))
    stained = density[density.mean(axis=1) > STAINED]
    return stained.mean(axis=0) if len(stained) else None


def tissue_density(slide: _Slide, frame: ModelFrame, tissue: TissueMask) -> tuple[float, float, float] | None:
    """Return the mean optical density of a slide's tissue, of red, green and blue; ``None`` where there is none.

    Parameters
    ----------
    slide
        The open slide.
    frame
        A model's pixels on it.
    tissue
        Where its tissue lies.
    """
    grid = HeatmapFrame(model=frame, patch_px=_WINDOW_PX, stride_px=_WINDOW_PX)
    rows, columns = np.nonzero(tissue.over(grid))
    if not len(rows):
        return None
    chosen = np.unique(np.linspace(0, len(rows) - 1, _WINDOWS).astype(int))
    windows = [
        slide.read(frame, grid.read_window(Region(int(columns[k]), int(rows[k]), 1, 1))).reshape(-1, 3) for k in chosen
    ]
    mean = mean_density(np.concatenate(windows))
    return None if mean is None else (float(mean[0]), float(mean[1]), float(mean[2]))


def stain_tables(own: tuple[float, ...], reference: tuple[float, ...]) -> UInt8Array:
    """Return the new value of each value of red, green and blue, (3, 256).

    Parameters
    ----------
    own, reference
        Mean optical density of each, as it is and as it should be.
    """
    density = optical_density(np.arange(256))
    gains = np.asarray(reference) / np.maximum(np.asarray(own), 1e-3)
    return np.clip(np.rint(255 * np.exp(-gains[:, None] * density)), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class StainedReader:
    """Reads a slide's pixels in the colours of tables.

    Attributes
    ----------
    slide
        The open slide.
    tables
        From :func:`stain_tables`.
    """

    slide: _Slide
    tables: UInt8Array

    def read(self, frame: ModelFrame, region: Region) -> UInt8Array:
        """Return model pixels, uint8 (rows, columns, 3), white outside the slide."""
        pixels = self.slide.read(frame, region)
        return np.stack([np.take(table, pixels[..., channel]) for channel, table in enumerate(self.tables)], axis=-1)
