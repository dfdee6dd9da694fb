"""Cells in division, and dying cells that are taken for them, as amounts of dye around their middle.

Chromatin of a mitosis is a heap of chromosomes: short bent arms, whose haematoxylin adds up where they overlie each
other, so that outlines are hairy and cores dark. There is no membrane, and the cell around is large, rounded and pale.
What is taken for one is smooth: a shrunken nucleus, or balls of one, in a small pink cell, or a dark spindle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from napari_metastasis.synthetic._noise import Floats, drawn_noise, smoothstep

__all__ = ["LOOKALIKES", "MITOSES", "CellFigure", "draw_lookalike", "draw_mitosis"]

#: Half the side of what is drawn: of a cell with its halo, and of two daughters at 11 µm.
_CELL_UM, _PAIR_UM = 11.0, 14.0
#: Half the width over which an edge fades before optics blur it.
_EDGE_UM = 0.12


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


class _Sheet:
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


#: Chromosomes: (n, 4) of u and v in µm, direction in radians, length in µm.
_Arms = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _heap(sheet: _Sheet, arms: _Arms, width_um: float) -> Floats:
    """Return how many chromosomes lie over each other: each two arms that meet at an angle."""
    rng, count = sheet.rng, len(arms)
    bend, thick = rng.normal(0, 0.45, count), width_um / 2 * rng.uniform(0.8, 1.2, count)
    u, v, turn, length = arms.T
    cos, sin = np.cos(sheet.turn), np.sin(sheet.turn)
    middle = np.stack([u * sin + v * cos, u * cos - v * sin]) + sheet.off[:, None]
    # Each in a square of its own that holds the longest.
    reach = int(np.ceil((length.max() / 2 + thick.max() + _EDGE_UM) / sheet.mpp)) + 1
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
    covers = smoothstep(inside, -_EDGE_UM, _EDGE_UM)
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
    if not kind:
        shares = np.array([share for share, _ in MITOSES.values()])
        kind = list(MITOSES)[rng.choice(len(MITOSES), p=shares / shares.sum())]
    arms = MITOSES[kind][1](rng)
    if kind != "pair":
        arms[:, :2] -= arms[:, :2].mean(axis=0)
    sheet = _Sheet(rng, mpp, _PAIR_UM if kind == "pair" else _CELL_UM)
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
    cell, halo = _cell(sheet, inside, halo=0.35)
    dense = rng.uniform(0.85, 1.4)
    return _centred(CellFigure(chromatin, cell, halo, dense * rng.uniform(0.7, 1.1), dense, _blur(rng)))


def _blur(rng: np.random.Generator) -> float:
    return float(1 + rng.exponential(0.15))


def _daughter(sheet: _Sheet, arms: _Arms, side: int) -> Floats:
    """Return how far pixels lie inside one half of a cell that parts, in µm."""
    own = arms[side * arms[:, 1] > 0]
    middle, rng = own[:, :2].mean(axis=0), sheet.rng
    long = max(float(np.abs(own[:, 0] - middle[0]).max()) + 1.2, rng.uniform(4.0, 5.5))
    return sheet.rounded(middle[0], middle[1] - 0.8 * side, long, long * rng.uniform(0.8, 1.0), 0.05)


def _cell(sheet: _Sheet, inside: Floats, *, halo: float) -> tuple[Floats, Floats]:
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


def _centred(figure: CellFigure) -> CellFigure:
    """Return a figure moved by whole pixels, so that the centroid of its chromatin lies in the middle pixel."""
    half = len(figure.chromatin) // 2
    down, right = (round(half - at) for at in ndimage.center_of_mass(figure.chromatin))
    moved = [ndimage.shift(each, (down, right), order=0) for each in (figure.chromatin, figure.cell, figure.halo)]
    return replace(figure, chromatin=moved[0], cell=moved[1], halo=moved[2])


def _pyknotic(sheet: _Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    long = rng.uniform(1.6, 3.3)
    inside = sheet.rounded(0, 0, long, long * rng.uniform(0.65, 1.0), 0.05)
    body = smoothstep(inside, -2 * _EDGE_UM, 2 * _EDGE_UM)
    rim = long + rng.uniform(1.0, 3.0)
    u, v = rng.normal(0, 0.6, 2).tolist()
    return body, sheet.rounded(u, v, rim, rim * rng.uniform(0.7, 1.0), 0.08)


def _balls(sheet: _Sheet) -> tuple[Floats, Floats]:
    rng, body = sheet.rng, np.zeros(sheet.u.shape, np.float32)
    for _ in range(int(rng.integers(2, 7))):
        radius, (u, v) = rng.uniform(0.5, 1.7), rng.normal(0, 1.7, 2)
        inside = sheet.rounded(u, v, radius, radius * rng.uniform(0.85, 1.0), 0.03)
        body = np.maximum(body, smoothstep(inside, -2 * _EDGE_UM, 2 * _EDGE_UM) * rng.uniform(0.75, 1.0))
    rim = rng.uniform(4.0, 6.0)
    return body, sheet.rounded(0, 0, rim, rim * rng.uniform(0.75, 1.0), 0.06)


def _crescent(sheet: _Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    radius = rng.uniform(2.4, 3.6)
    outer = sheet.rounded(0, 0, radius, radius * rng.uniform(0.85, 1.0), 0.03)
    inner = sheet.rounded(rng.uniform(0.3, 0.5) * radius, 0, 0.85 * radius, 0.8 * radius, 0.03)
    body = smoothstep(outer, -0.25, 0.25) * smoothstep(inner, 0.3, -0.3)
    body = np.maximum(body, 0.25 * smoothstep(outer, -0.25, 0.25))
    return body.astype(np.float32), sheet.rounded(0, 0, radius + 1.8, radius + 1.4, 0.06)


def _spindle(sheet: _Sheet) -> tuple[Floats, Floats]:
    rng = sheet.rng
    long = rng.uniform(3.5, 7.5)
    bent = np.float32(rng.normal(0, 0.025))
    sheet.v = sheet.v - bent * sheet.u**2
    inside = sheet.rounded(0, 0, long, rng.uniform(1.2, 3.0), 0.08)
    soft = rng.uniform(0.25, 0.7)
    body = smoothstep(inside, -soft, soft) * (0.85 + 0.1 * sheet.noise(0.7)).clip(0.4, 1.1)
    # It lies in the fibres, as they are.
    return body.astype(np.float32), np.full(inside.shape, -99, np.float32)


#: How their chromatin lies, how often, and how dark it is at least and at most.
LOOKALIKES: dict[str, tuple[float, Callable[[_Sheet], tuple[Floats, Floats]], tuple[float, float]]] = {
    "pyknotic": (0.35, _pyknotic, (0.9, 1.35)),
    "balls": (0.2, _balls, (0.9, 1.35)),
    "crescent": (0.1, _crescent, (0.8, 1.3)),
    "spindle": (0.35, _spindle, (0.6, 1.0)),
}


def draw_lookalike(rng: np.random.Generator, mpp: float, kind: str = "") -> CellFigure:
    """Return a dying or squeezed cell, of a kind of :data:`LOOKALIKES` or of any: smooth, very dark, and no mitosis.

    Parameters
    ----------
    rng
        Source of all of it.
    mpp
        µm per pixel.
    kind
        Name; empty draws one.
    """
    if not kind:
        shares = np.array([share for share, *_ in LOOKALIKES.values()])
        kind = list(LOOKALIKES)[rng.choice(len(LOOKALIKES), p=shares / shares.sum())]
    _, draw, dark = LOOKALIKES[kind]
    sheet = _Sheet(rng, mpp, _CELL_UM)
    body, inside = draw(sheet)
    chromatin = (rng.uniform(*dark) * body).astype(np.float32)
    cell, halo = _cell(sheet, inside, halo=0.6)
    if not cell.any():
        halo = np.zeros_like(halo)
    return CellFigure(chromatin, cell, halo, rng.uniform(0.7, 1.2), rng.uniform(1.2, 2.1), _blur(rng))
