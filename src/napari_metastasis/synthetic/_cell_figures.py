"""A cell as amounts of dye around its middle, and the sheet that it is drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_metastasis.synthetic._noise import Floats, drawn_noise, smoothstep

__all__ = ["CELL_UM", "EDGE_UM", "CellFigure", "Sheet", "cell_around", "drawn_blur", "drawn_kind"]

#: Half the side of what a cell with its halo is drawn on.
CELL_UM = 11.0
#: Half the width over which an edge fades before optics blur it.
EDGE_UM = 0.12


@dataclass(frozen=True, slots=True, eq=False)
class CellFigure:
    """A cell around the middle of what is drawn, (2 · half + 1)² float32 each.

    Attributes
    ----------
    chromatin
        Haematoxylin; 1 is what chromosomes over each other usually hold.
    cell
        How far its cytoplasm takes the place of what lay there, 0 to 1.
    halo
        How far light passes around it that did not before, 0 to 1: cytoplasm shrank.
    haematoxylin, eosin
        Of its cytoplasm, in parts of that of the tissue around.
    blur
        How many times as much optics blur it as the picture: not all of it lies in focus.
    """

    chromatin: Floats
    cell: Floats
    halo: Floats
    haematoxylin: float
    eosin: float
    blur: float


class Sheet:
    """Where a figure is drawn: distances in µm from a middle, turned by a random angle."""

    def __init__(self, rng: np.random.Generator, mpp: float, half_um: float) -> None:
        self.rng, self.mpp, self.half = rng, mpp, int(np.ceil(half_um / mpp))
        off, turn = rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[-self.half : self.half + 1, -self.half : self.half + 1] * mpp
        x, y = (x - off[0] * mpp).astype(np.float32), (y - off[1] * mpp).astype(np.float32)
        self.u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
        self.v = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
        self.turn, self.off = turn, off[::-1] * mpp

    def noise(self, length_um: float) -> Floats:
        """Return noise of mean 0 and standard deviation 1, correlated over a length."""
        return drawn_noise(self.rng, self.u.shape, length_um / self.mpp)

    def rounded(self, u: float, v: float, long: float, short: float, bumps: float) -> Floats:
        """Return how far pixels lie inside an oval around (u, v), in µm, its outline varied."""
        du, dv = self.u - np.float32(u), self.v - np.float32(v)
        angle = np.arctan2(dv, du)
        edge = long * short / np.hypot(short * np.cos(angle), long * np.sin(angle))
        for order in range(2, 6):
            phase = self.rng.uniform(0, 2 * np.pi)
            edge = edge * (1 + bumps * self.rng.normal() * np.cos(order * angle + phase) / order)
        inside: Floats = (edge - np.hypot(du, dv)) * np.clip(edge / long, 0.3, 1)
        return inside.astype(np.float32)


def drawn_blur(rng: np.random.Generator) -> float:
    """Return how much more than the picture a figure is blurred."""
    return float(1 + rng.exponential(0.15))


def cell_around(sheet: Sheet, inside: Floats, *, halo: float) -> tuple[Floats, Floats]:
    """Return how far a cell covers pixels that lie so far inside of it in µm, and its halo, which is not always there.

    Parameters
    ----------
    sheet, inside
        Source of chance; (n, n) µm, negative outside.
    halo
        How often there is one.
    """
    rng = sheet.rng
    inside = inside + 0.35 * sheet.noise(1.0)
    cell = rng.uniform(0.5, 1.0) * smoothstep(inside, -0.7, 0.5)
    # Seldom all around.
    most, width = (rng.uniform(0.3, 0.9), rng.uniform(0.3, 1.6)) if rng.uniform() < halo else (0.0, 1.0)
    strength = most * smoothstep(sheet.noise(3.0), -0.8, 1.0)
    around = strength * smoothstep(inside, -width - 0.4, -width + 0.2) * smoothstep(inside, 0.3, -0.3)
    return cell.astype(np.float32), around.astype(np.float32)


def drawn_kind(rng: np.random.Generator, kinds: Mapping[str, tuple[float, *tuple[Any, ...]]]) -> str:
    """Return the name of a kind, drawn as often as its first value says."""
    shares = np.array([share for share, *_ in kinds.values()])
    return list(kinds)[rng.choice(len(kinds), p=shares / shares.sum())]
