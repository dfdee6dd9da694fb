"""Where cells lie: jittered grids whose points push one another apart, the same in every window."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.synthetic._noise import Floats, hashed
from napari_metastasis.synthetic._window import Box, Window

__all__ = ["REACH_UM", "CellGrid", "CellKind", "Grids", "cell_grid"]

#: Rounds of pushing. Each lets a point feel two cells further, so that a window needs a rim of twice as many cells.
_ROUNDS = 3
_RIM = 2 * _ROUNDS
_NEIGHBOURS = tuple(step for step in product((-2, -1, 0, 1, 2), repeat=2) if step != (0, 0))


#: Waves that bend every grid, so that no row of cells is straight at low power: shift in µm, and its length in µm
#: over 2π. A grid that is only jittered shows through as a weave. Slopes stay under a half: nearest cells stay near.
_BENDS = ((9.0, 31.0), (8.0, 53.0))
_BENT_UM = sum(shift for shift, _ in _BENDS)

#: Half the length of the largest nucleus, in µm: how far outside a window a cell may lie and be seen in it.
REACH_UM = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class CellGrid:
    """Cells of one type in a window, one for each square of a bent grid.

    Attributes
    ----------
    spacing
        Side of a square, in µm.
    column, row
        Of the first square.
    x, y
        (rows, columns) float32 locations in µm.
    chance
        (rows, columns, 6) float32 numbers in [0, 1) of each cell's own.
    """

    spacing: float
    column: int
    row: int
    x: Floats
    y: Floats
    chance: Floats

    def nearest(self, x: Floats, y: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
        """Return the distances to the two nearest cells in µm, and the nearest's index, for every location.

        Looks at the nine squares around each (Worley 1996, "A cellular texture basis function").
        """
        flat_x, flat_y = _unbent(x, y)
        # Locations beyond the window get the cells at its rim.
        column = np.floor(flat_x / self.spacing).astype(np.intp) - self.column
        row = np.floor(flat_y / self.spacing).astype(np.intp) - self.row
        column, row = column.clip(1, self.x.shape[1] - 2), row.clip(1, self.x.shape[0] - 2)
        first = np.full(x.shape, np.inf, np.float32)
        second = first.copy()
        owner = np.zeros(x.shape, np.intp)
        px, py, width = self.x.ravel(), self.y.ravel(), self.x.shape[1]
        for dy, dx in product((-1, 0, 1), repeat=2):
            index = (row + dy) * width + (column + dx)
            distance = np.square(px[index] - x) + np.square(py[index] - y)
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            owner = np.where(closer, index, owner)
            first = np.minimum(first, distance)
        return np.sqrt(first), np.sqrt(second), owner


@dataclass(frozen=True, slots=True)
class CellKind:
    """A type of cell.

    Attributes
    ----------
    layer
        Tells the types' randomness apart.
    spacing
        Mean distance between cells, in µm.
    push
        How far two cells that nearly touch move apart in each round, in spacings.
    """

    layer: int
    spacing: float
    push: float = 0.3


#: Small round cells, pushed less than others: they overlap in a section.
LYMPHOCYTES = CellKind(4, 7.0, push=0.23)
#: The cells of germinal centres, sinuses, metastases, and of collagen and vessels' walls.
BLASTS, HISTIOCYTES, TUMOUR, FIBROBLASTS = CellKind(8, 9.0), CellKind(2, 11.0), CellKind(1, 13.5), CellKind(5, 13.0)
#: The fat's cells, each a hollow as wide as the spacing, and locations for the nuclei on their membranes.
ADIPOCYTES, MEMBRANES = CellKind(3, 78.0, push=0.2), CellKind(6, 16.0)
ERYTHROCYTES = CellKind(7, 6.2)


def cell_grid(seed: int, kind: CellKind, box: Box) -> CellGrid:
    """Return the cells of a slide in a box, and in a rim of at least two squares around it."""
    spacing = kind.spacing
    beyond = 2 * spacing + _BENT_UM
    column, row = (int(np.floor((start - beyond) / spacing)) - _RIM for start in (box.x, box.y))
    columns = int(np.floor((box.x + box.width + beyond) / spacing)) + 1 + _RIM - column
    rows = int(np.floor((box.y + box.height + beyond) / spacing)) + 1 + _RIM - row
    j, i = np.meshgrid(np.arange(row, row + rows), np.arange(column, column + columns), indexing="ij")
    chance = hashed(seed * 64 + kind.layer, i, j, 8)
    # In units of the spacing and relative to each cell's own square: exact in float32 wherever the window lies.
    u, v = 0.04 + 0.92 * chance[..., 0], 0.04 + 0.92 * chance[..., 1]
    for _ in range(_ROUNDS):
        u, v = _pushed(u, v, np.float32(kind.push))
    inner = (slice(_RIM, -_RIM), slice(_RIM, -_RIM))
    bent_x, bent_y = _bent((i[inner] + u) * spacing, (j[inner] + v) * spacing)
    return CellGrid(
        spacing=spacing,
        column=column + _RIM,
        row=row + _RIM,
        x=bent_x.astype(np.float32),
        y=bent_y.astype(np.float32),
        chance=chance[(*inner, slice(2, None))],
    )


def _wave(at: Floats) -> Floats:
    wave: Floats = sum((shift * np.sin(at / length + shift) for shift, length in _BENDS), np.zeros_like(at))
    return wave


def _bent(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return where a point of the straight grid lies on the slide: two shears, which keep areas and can be undone."""
    x = x + _wave(y)
    return x, y + _wave(x)


def _unbent(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the point of the straight grid that lies at (x, y) in µm on the slide."""
    y = y - _wave(x)
    return x - _wave(y), y


def _pushed(u: Floats, v: Floats, push: np.float32) -> tuple[Floats, Floats]:
    """Return the points after one round, less two squares on every side, whose neighbours are not known."""
    rows, columns = u.shape
    here_u, here_v = u[2:-2, 2:-2], v[2:-2, 2:-2]
    new_u, new_v = here_u.copy(), here_v.copy()
    for dj, di in _NEIGHBOURS:
        there = (slice(2 + dj, rows - 2 + dj), slice(2 + di, columns - 2 + di))
        away_u, away_v = here_u - u[there] - np.float32(di), here_v - v[there] - np.float32(dj)
        distance = np.sqrt(away_u * away_u + away_v * away_v) + np.float32(1e-3)
        force = np.maximum(push / distance - push, 0)
        new_u += force * away_u
        new_v += force * away_v
    return new_u, new_v


class Grids:
    """The cells of every kind that can be seen in a window, worked out where they are asked for."""

    def __init__(self, seed: int, window: Window) -> None:
        self._seed = seed
        self._box = window.box.grown(REACH_UM)
        self._made: dict[CellKind, CellGrid] = {}

    def of(self, kind: CellKind) -> CellGrid:
        """Return the cells of a kind."""
        if kind not in self._made:
            self._made[kind] = cell_grid(self._seed, kind, self._box)
        return self._made[kind]
