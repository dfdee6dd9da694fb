"""Randomness that depends on the location alone: hashes of grid cells, and smooth noise of a large period.

All functions are pure, of a seed and a location, so that any part of a slide can be drawn alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Floats", "Noise", "drawn_noise", "hashed", "smoothstep", "upsampled"]

#: float32 everywhere; numpy's own types lose that in mixed expressions.
Floats = NDArray[np.floating[Any]]

#: Texels of the noise table along a side, and along one wavelength: the noise repeats after 256 wavelengths, so that
#: even textures of 10 µm do so only after 2.5 mm, where no eye finds it.
_TABLE = 1024
_WAVE = 4
#: Each layer looks the table up at another angle, so that repeats and axes never line up.
_GOLDEN_ANGLE = 2.399963


def hashed(seed: int, column: NDArray[np.int64], row: NDArray[np.int64], count: int) -> Floats:
    """Return ``count`` numbers in [0, 1) for every grid cell, in a new last axis.

    The mixing function is SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
    """
    with np.errstate(over="ignore"):
        key = column.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ row.astype(np.uint64) * np.uint64(
            0xC2B2AE3D27D4EB4F
        )
        key = key + np.uint64(seed % 2**63) * np.uint64(0x165667B19E3779F9)
        state = _mixed(key)[..., None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mixed(state)
    # 24 bits are what a float32 holds.
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def drawn_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Floats:
    """Return noise that is drawn for one picture, float32: of standard deviation 1, correlated over a distance."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma_px, truncate=2)
    result: Floats = noise / max(float(noise.std()), 1e-6)
    return result


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """Return 0 below ``low``, 1 above ``high``, and a cubic between them; ``low`` above ``high`` turns it round."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    result: Floats = t * t * (3 - 2 * t)
    return result


def upsampled(coarse: Floats, step: int) -> Floats:
    """Return an (n + 1, m + 1) map of grid corners at the centres of ``step`` pixels a square, linearly interpolated.

    Returns
    -------
    fine
        (n * step, m * step) float32.
    """
    share = ((np.arange(step, dtype=np.float32) + np.float32(0.5)) / np.float32(step))[None, :, None]
    upper, lower = coarse[:-1, None, :], coarse[1:, None, :]
    tall = (upper + (lower - upper) * share).reshape(-1, coarse.shape[1])
    left, right = tall[:, :-1, None], tall[:, 1:, None]
    fine: Floats = (left + (right - left) * share.reshape(1, 1, -1)).reshape(len(tall), -1)
    return fine


@dataclass(frozen=True, slots=True)
class Noise:
    """Smooth noise of mean 0 and standard deviation 1, for any location and wavelength.

    Attributes
    ----------
    table
        (1024, 1024) float32, periodic, correlated over about a wavelength of four texels.
    """

    table: Floats

    @classmethod
    def from_seed(cls, seed: int) -> Noise:
        """Return the noise that belongs to ``seed``."""
        table = np.random.default_rng((seed, 11)).standard_normal((_TABLE, _TABLE))
        table = ndimage.gaussian_filter(table, 0.36 * _WAVE, mode="wrap")
        return cls(((table - table.mean()) / table.std()).astype(np.float32))

    def at(self, x: Floats, y: Floats, wavelength: float, layer: int) -> Floats:
        """Return the noise at (x, y), in the unit of ``wavelength``; layers are independent of one another."""
        turn, scale = layer * _GOLDEN_ANGLE, _WAVE / wavelength
        cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
        u = x * cos - y * sin + layer * 37.2
        v = x * sin + y * cos + layer * 91.7
        column, row = np.floor(u), np.floor(v)
        fx, fy = (u - column).astype(np.float32), (v - row).astype(np.float32)
        i, j = column.astype(np.int32) & (_TABLE - 1), row.astype(np.int32) & (_TABLE - 1)
        right, below = (i + 1) & (_TABLE - 1), (j + 1) & (_TABLE - 1)
        top = self.table[j, i] * (1 - fx) + self.table[j, right] * fx
        bottom = self.table[below, i] * (1 - fx) + self.table[below, right] * fx
        value: Floats = top * (1 - fy) + bottom * fy
        return value
