"""What a slide's stains look like, and how to bring their density to that which a model was trained on.

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

__all__ = [
    "STAINED",
    "StainedReader",
    "mean_density",
    "nuclear_tint",
    "optical_density",
    "stain_tables",
    "swap_note",
    "tissue_pixels",
]

UInt8Array = npt.NDArray[np.uint8]
#: Mean optical density (natural logarithm) from which a pixel counts as stained.
STAINED = 0.15
#: Windows of tissue that are looked at, spread over it, and their side: more change the mean by less than a hundredth.
_WINDOWS, _WINDOW_PX = 64, 96
#: Stained pixels from which a tint is that of tissue.
_FEWEST_PX = 2000
#: Tint of nuclei below which red and blue look exchanged. None of 145 slides and regions lies below 0.01, and none of
#: 200 groups of patches below -0.034; exchanged, 144 and 132 of them lie below this (docs/benchmarks.md).
_BROWN = -0.04
_SWAP_REMEDY = "compare with them swapped (--swap-red-blue, or Swap red and blue under Slide)"


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


def nuclear_tint(pixels: UInt8Array) -> float | None:
    """Return how much bluer the densest tenth of stained pixels is than all; ``None`` where few are stained.

    The tint of a pixel is its optical density of red less that of blue, over the length of its density: haematoxylin,
    which stains nuclei, takes more red, so that nuclei are the bluest part of H&E, whatever its shade as a whole.

    Parameters
    ----------
    pixels
        uint8 (…, 3), of tissue.
    """
    density = optical_density(pixels.reshape(-1, 3))
    density = density[density.mean(axis=1) > STAINED]
    if len(density) < _FEWEST_PX:
        return None
    tint = (density[:, 0] - density[:, 2]) / np.linalg.norm(density, axis=1)
    total = density.sum(axis=1)
    return float(tint[total >= np.quantile(total, 0.9)].mean() - tint.mean())


def swap_note(tint: float | None, remedy: str = _SWAP_REMEDY) -> str:
    """Return what has to be said where red and blue look exchanged; empty where they do not.

    Parameters
    ----------
    tint
        From :func:`nuclear_tint`.
    remedy
        What to do.
    """
    if tint is None or tint >= _BROWN:
        return ""
    return (
        "expected nuclei bluer than the rest of the tissue, got browner nuclei: red and blue look exchanged, or the "
        f"stain is not H&E; {remedy}"
    )


def tissue_pixels(slide: _Slide, frame: ModelFrame, tissue: TissueMask) -> UInt8Array | None:
    """Return pixels of windows spread over a slide's tissue, uint8 (pixels, 3); ``None`` where there is none.

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
    return np.concatenate(windows)


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
