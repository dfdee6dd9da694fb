"""Cells in division, as amounts of dye around their middle.

Chromatin of a mitosis is a heap of chromosomes: short bent arms, whose haematoxylin adds up where they overlie each
other, so that outlines are hairy and cores dark. There is no membrane, and the cell around is large, rounded and pale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from napari_metastasis.synthetic._cell_figures import (
    CELL_UM,
    EDGE_UM,
    CellFigure,
    Sheet,
    cell_around,
    drawn_blur,
    drawn_kind,
)
from napari_metastasis.synthetic._noise import Floats, smoothstep

__all__ = ["MITOSES", "draw_mitosis"]

#: Half the side of what two daughters at 11 µm are drawn on.
_PAIR_UM = 14.0

#: Chromosomes: (n, 4) of u and v in µm, direction in radians, length in µm.
_Arms = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _heap(sheet: Sheet, arms: _Arms, width_um: float) -> Floats:
    """Return how many chromosomes lie over each other: each two arms that meet at an angle."""
    rng, count = sheet.rng, len(arms)
    bend, thick = rng.normal(0, 0.45, count), width_um / 2 * rng.uniform(0.8, 1.2, count)
    u, v, turn, length = arms.T
    cos, sin = np.cos(sheet.turn), np.sin(sheet.turn)
    middle = np.stack([u * sin + v * cos, u * cos - v * sin]) + sheet.off[:, None]
    # Each in a square of its own that holds the longest.
    reach = int(np.ceil((length.max() / 2 + thick.max() + EDGE_UM) / sheet.mpp)) + 1
    first = np.rint(middle / sheet.mpp).astype(int) + sheet.half
    steps = np.arange(-reach, reach + 1)
    down, right = (((first[axis] - sheet.half)[:, None] + steps) * sheet.mpp - middle[axis][:, None] for axis in (0, 1))
    dy, dx = down.astype(np.float32)[:, :, None], right.astype(np.float32)[:, None, :]
    half = (length / 2).astype(np.float32)[:, None, None]
    nearest = np.full((count, len(steps), len(steps)), np.inf, np.float32)
    for at in (turn + bend + sheet.turn, turn + np.pi - bend + sheet.turn):
        x, y = (each.astype(np.float32)[:, None, None] for each in (np.cos(at), np.sin(at)))
        along = np.clip(dx * x + dy * y, 0, half)
        nearest = np.minimum(nearest, np.square(dx - along * x) + np.square(dy - along * y))
    # 1 within, 0 outside.
    inside = (thick.astype(np.float32)[:, None, None] - np.sqrt(nearest)).astype(np.float32)
    covers = smoothstep(inside, -EDGE_UM, EDGE_UM)
    side = 2 * sheet.half + 1
    total = np.zeros((side + 2 * reach, side + 2 * reach), np.float32)
    for (row, column), cover in zip(first.T.clip(0, side - 1).tolist(), covers, strict=True):
        total[row : row + len(steps), column : column + len(steps)] += cover
    return total[reach:-reach, reach:-reach]


def _across(rng: np.random.Generator, count: int, half_um: float, spread_um: float, stray: float) -> _Arms:
    """Return the chromosomes of a plate along u: most lie across it."""
    u = half_um * np.clip(rng.uniform(-1, 1, count) + rng.normal(0, 0.06, count), -1.1, 1.1)
    v = rng.normal(0, spread_um, count) - rng.normal(0, 0.03) * u**2
    turn = np.pi / 2 + rng.normal(0, stray, count)
    return np.stack([u, v, turn, rng.uniform(0.9, 2.1, count)], axis=1)


def _clump(rng: np.random.Generator) -> _Arms:
    radius, count = rng.uniform(1.7, 3.9), int(rng.integers(34, 56))
    away, at = radius * np.sqrt(rng.uniform(size=count)), rng.uniform(0, 2 * np.pi, count)
    flat = rng.uniform(0.6, 1.0)
    turn = np.where(rng.uniform(size=count) < 0.4, at, rng.uniform(0, np.pi, count))
    return np.stack([away * np.cos(at), flat * away * np.sin(at), turn, rng.uniform(1.0, 2.6, count)], axis=1)


def _ring(rng: np.random.Generator) -> _Arms:
    radius, count = rng.uniform(2.0, 3.4), int(rng.integers(34, 52))
    # Now and then open, as a horseshoe.
    open_by = rng.uniform(0, 1.6) if rng.uniform() < 0.4 else 0.0
    at = rng.uniform(open_by / 2, 2 * np.pi - open_by / 2, count)
    away, flat = rng.normal(radius, 0.16 * radius, count), rng.uniform(0.65, 1.0)
    turn = at + rng.normal(0, 0.7, count)
    return np.stack([away * np.cos(at), flat * away * np.sin(at), turn, rng.uniform(1.0, 2.2, count)], axis=1)


def _plate(rng: np.random.Generator) -> _Arms:
    plate = _across(rng, int(rng.integers(36, 52)), rng.uniform(2.6, 4.5), rng.uniform(0.2, 0.65), 0.6)
    if rng.uniform() < 0.35:
        # Chromosomes that are not there yet.
        late = np.stack([rng.uniform(-3, 3, 2), rng.choice((-1, 1), 2) * rng.uniform(1.8, 3.2, 2)], axis=1)
        plate = np.concatenate([plate, np.c_[late, rng.uniform(0, np.pi, 2), rng.uniform(0.8, 1.4, 2)]])
    return plate


def _pair(rng: np.random.Generator) -> _Arms:
    apart = 4.5 + 6.5 * rng.beta(1.0, 1.8)
    late = (apart - 4.5) / 6.5
    sides = []
    for side in (-1, 1):
        # The later, the shorter and smoother; their ends trail behind.
        one = _across(rng, int(rng.integers(26, 36)), rng.uniform(2.4, 3.9) * (1 - 0.25 * late), 0.35, 0.5 - 0.2 * late)
        one[:, 1] = side * (apart / 2 + one[:, 1] - 0.06 * one[:, 0] ** 2)
        one[:, 3] *= 1 - 0.3 * late
        # A shear: plates are seldom exactly parallel.
        one[:, 1] += rng.normal(0, 0.12) * one[:, 0]
        sides.append(one)
    if rng.uniform() < 0.2:
        count = int(rng.integers(1, 4))
        left = [rng.uniform(-1.5, 1.5, count), rng.uniform(-apart / 4, apart / 4, count)]
        sides.append(np.stack([*left, rng.normal(np.pi / 2, 0.4, count), rng.uniform(0.8, 1.8, count)], axis=1))
    return np.concatenate(sides)


def _tripolar(rng: np.random.Generator) -> _Arms:
    spokes = []
    for at in rng.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(3) + rng.normal(0, 0.2, 3):
        one = _across(rng, int(rng.integers(13, 19)), rng.uniform(1.5, 2.3), 0.45, 0.6)
        u, v = one[:, 0] + one[:, 0].max(), one[:, 1]
        turned = [u * np.cos(at) - v * np.sin(at), u * np.sin(at) + v * np.cos(at), one[:, 2] + at, one[:, 3]]
        spokes.append(np.stack(turned, axis=1))
    return np.concatenate(spokes)


#: How chromosomes lie, and how often: prophase is not labelled, most that are seen stand in metaphase.
MITOSES: dict[str, tuple[float, Callable[[np.random.Generator], _Arms]]] = {
    "clump": (0.3, _clump),
    "ring": (0.12, _ring),
    "plate": (0.36, _plate),
    "pair": (0.16, _pair),
    "tripolar": (0.06, _tripolar),
}


def draw_mitosis(rng: np.random.Generator, mpp: float, kind: str = "") -> CellFigure:
    """Return a cell in division, of a kind of :data:`MITOSES` or of any; its chromatin's centroid is the middle.

    Parameters
    ----------
    rng
        Source of all of it.
    mpp
        µm per pixel.
    kind
        Name; empty draws one.
    """
    kind = kind or drawn_kind(rng, MITOSES)
    arms = MITOSES[kind][1](rng)
    if kind != "pair":
        arms[:, :2] -= arms[:, :2].mean(axis=0)
    sheet = Sheet(rng, mpp, _PAIR_UM if kind == "pair" else CELL_UM)
    heap = _heap(sheet, arms, rng.uniform(0.65, 1.0)) * (1 + 0.2 * sheet.noise(0.3))
    # A section holds more or less of it: figures of one slide differ by a third.
    tone = rng.uniform(0.8, 1.35)
    uneven = 1 + 0.14 * sheet.noise(0.8)
    chromatin = (tone * uneven * (1 - np.exp(-rng.uniform(0.7, 1.6) * np.maximum(heap, 0)))).astype(np.float32)
    reach = float(np.hypot(*arms[:, :2].T).max())
    if kind == "pair":
        inside = np.maximum(*(_daughter(sheet, arms, side) for side in (-1, 1)))
    else:
        long = max(rng.uniform(5.5, 9.0), reach + 1.6)
        u, v = rng.normal(0, 0.5, 2).tolist()
        inside = sheet.rounded(u, v, long, long * rng.uniform(0.82, 1.0), 0.06)
    cell, halo = cell_around(sheet, inside, halo=0.35)
    dense = rng.uniform(0.85, 1.4)
    return _centred(CellFigure(chromatin, cell, halo, dense * rng.uniform(0.7, 1.1), dense, drawn_blur(rng)))


def _daughter(sheet: Sheet, arms: _Arms, side: int) -> Floats:
    """Return how far pixels lie inside one half of a cell that parts, in µm."""
    own = arms[side * arms[:, 1] > 0]
    middle, rng = own[:, :2].mean(axis=0), sheet.rng
    long = max(float(np.abs(own[:, 0] - middle[0]).max()) + 1.2, rng.uniform(4.0, 5.5))
    return sheet.rounded(middle[0], middle[1] - 0.8 * side, long, long * rng.uniform(0.8, 1.0), 0.05)


def _centred(figure: CellFigure) -> CellFigure:
    """Return a figure moved by whole pixels, so that the centroid of its chromatin lies in the middle pixel."""
    half = len(figure.chromatin) // 2
    down, right = (round(half - at) for at in ndimage.center_of_mass(figure.chromatin))
    moved = [ndimage.shift(each, (down, right), order=0) for each in (figure.chromatin, figure.cell, figure.halo)]
    return replace(figure, chromatin=moved[0], cell=moved[1], halo=moved[2])
