"""Which nucleus sits where, and stamping them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.synthetic._cells import (
    ADIPOCYTES,
    BLASTS,
    ERYTHROCYTES,
    FIBROBLASTS,
    HISTIOCYTES,
    LYMPHOCYTES,
    MEMBRANES,
    REACH_UM,
    TUMOUR,
    CellGrid,
    Grids,
)
from napari_metastasis.synthetic._matrix import crowding
from napari_metastasis.synthetic._noise import Floats, smoothstep
from napari_metastasis.synthetic._sprites import ORIENTATIONS, Sprite, make_bank, make_spindles
from napari_metastasis.synthetic._tissue import Kind, Tissue, TissueMap
from napari_metastasis.synthetic._window import Window

__all__ = ["Nuclei"]

#: Share of each grid's squares that hold a nucleus, by tissue.
_LYMPHOCYTES = {
    Kind.LYMPHOID: 0.93,
    Kind.MANTLE: 0.99,
    Kind.SINUS: 0.24,
    Kind.STROMA: 0.16,
    Kind.NEST: 0.012,
    Kind.FIBRE: 0.025,
    Kind.WALL: 0.03,
    Kind.LUMEN: 0.01,
}
_PALE = {Kind.CENTER: 0.78, Kind.LYMPHOID: 0.08, Kind.STROMA: 0.04}
_SPINDLES = {Kind.FIBRE: 0.28, Kind.STROMA: 0.5, Kind.WALL: 0.75, Kind.SINUS: 0.12, Kind.FAT: 0.0}


@dataclass(frozen=True, slots=True)
class Nuclei:
    """The nuclei of a slide, drawn and sorted by size or orientation."""

    lymphocytes: tuple[Sprite, ...]
    centroblasts: tuple[Sprite, ...]
    histiocytes: tuple[Sprite, ...]
    tumour: tuple[Sprite, ...]
    spindles: tuple[Sprite, ...]
    flat: tuple[Sprite, ...]
    erythrocytes: tuple[Sprite, ...]
    mimics: float
    variety: float

    @classmethod
    def from_seed(cls, seed: int, mpp: float, mimics: float, subtlety: float = 0.0, variety: float = 0.0) -> Nuclei:
        """Return the nuclei of ``seed`` for pixels of ``mpp`` µm.

        From 0 to 1, ``mimics`` makes normal ones larger, ``subtlety`` those of tumour smaller and paler, and
        ``variety`` fibrous tissue richer in cells.
        """
        return cls(
            lymphocytes=make_bank("lymphocyte", seed, mpp),
            centroblasts=make_bank("centroblast", seed, mpp, larger=0.88 + 0.37 * mimics, nucleoli=0.7 + 0.6 * mimics),
            histiocytes=make_bank("histiocyte", seed, mpp, larger=0.94 + 0.4 * mimics, nucleoli=0.8 + 2 * mimics),
            tumour=make_bank(
                "tumour", seed, mpp, larger=1 - 0.3 * subtlety, nucleoli=1 - 0.8 * subtlety, darker=1 - 0.25 * subtlety
            ),
            spindles=make_spindles(seed, mpp, dark=1.5, length=7.0),
            flat=make_spindles(seed, mpp, dark=1.6, length=4.6),
            erythrocytes=make_bank("erythrocyte", seed, mpp),
            mimics=mimics,
            variety=variety,
        )

    @property
    def histiocytes_share(self) -> float:
        """Return the share of a sinus's grid that histiocytes fill."""
        return 0.56 + 0.36 * self.mimics

    def stamp(self, hematoxylin: Floats, eosin: Floats, tissue: Tissue, grids: Grids, window: Window) -> None:
        """Stamp every nucleus that reaches into a window on its hematoxylin and eosin, in place.

        Parameters
        ----------
        hematoxylin, eosin
            (h, w) float32 amounts of stain.
        tissue, grids
            What lies there.
        window
            Where the pixels lie.
        """
        canvas = _Canvas(hematoxylin, eosin, window)
        self._fibroblasts(canvas, tissue, grids.of(FIBROBLASTS))
        self._adipocytes(canvas, tissue, grids)
        if tissue.layout.vessels:
            self._red_cells(canvas, tissue, grids.of(ERYTHROCYTES))
        self._pale_cells(canvas, tissue, grids.of(HISTIOCYTES), grids.of(BLASTS))
        if tissue.layout.metastases:
            self._tumour_cells(canvas, tissue, grids.of(TUMOUR))
        self._lymphocytes(canvas, tissue, grids.of(LYMPHOCYTES))

    def _lymphocytes(self, canvas: _Canvas, tissue: Tissue, grid: CellGrid) -> None:
        cells, found = _cells(canvas, tissue, grid)
        kinds = found.kinds()
        chance = _share(_LYMPHOCYTES | {Kind.CENTER: 0.23 - 0.12 * self.mimics}, kinds)
        # They crowd around a metastasis and make their way into its outermost nests.
        chance = np.where(kinds == Kind.NEST, chance + 0.12 * smoothstep(found.tumour, 45, 5), chance)
        # The paracortex is paler than the cortex, here more and there less.
        paler = 0.16 * smoothstep(found.depth, 250, 700) * (1 + 0.8 * tissue.noise.at(cells.x, cells.y, 650, 33))
        chance *= np.where(kinds == Kind.LYMPHOID, 1 - np.clip(paler, 0, 0.4), 1)
        # Packed here, loose there: on the scale of follicles and, finer, of reticulum.
        loose = np.maximum(tissue.noise.at(cells.x, cells.y, 260, 31) - 0.3, 0) * (kinds != Kind.MANTLE)
        loose += 0.7 * np.maximum(tissue.noise.at(cells.x, cells.y, 42, 32) - 0.9, 0)
        chance *= np.clip(1 - 0.2 * loose, 0.4, 1)
        if self.variety:
            chance = np.where(
                kinds == Kind.SINUS, chance * crowding(tissue.noise, cells.x, cells.y, self.variety), chance
            )
            # They file between the bundles of a capsule, in swarms.
            swarm = smoothstep(tissue.noise.at(cells.x, cells.y, 230, 48), 0.3, 1.6)
            chance = np.where(kinds == Kind.FIBRE, chance + 0.45 * self.variety * swarm, chance)
        keep = cells.chance[:, 0] < chance
        pick = (cells.chance[:, 1] * len(self.lymphocytes)).astype(int)
        canvas.stamp(self.lymphocytes, cells, keep, pick)

    def _pale_cells(self, canvas: _Canvas, tissue: Tissue, histiocytes: CellGrid, blasts: CellGrid) -> None:
        cells, found = _cells(canvas, tissue, histiocytes)
        kinds = found.kinds()
        # In walls they are plump endothelium.
        share = _share(_PALE | {Kind.SINUS: self.histiocytes_share, Kind.WALL: 0.6 * self.mimics}, kinds)
        if self.variety:
            share = np.where(kinds == Kind.SINUS, share * crowding(tissue.noise, cells.x, cells.y, self.variety), share)
        keep = (cells.chance[:, 0] < share) & (kinds != Kind.CENTER)
        pick = (cells.chance[:, 1] * len(self.histiocytes)).astype(int)
        canvas.stamp(self.histiocytes, cells, keep, pick)
        cells, found = _cells(canvas, tissue, blasts)
        kinds = found.kinds()
        share = _share(_PALE, kinds)
        if self.variety:
            # Dense in the dark zone, less so in the light one.
            share = share * (1 - 0.4 * self.variety * smoothstep(tissue.noise.at(cells.x, cells.y, 170, 49), -0.2, 1))
        keep = (cells.chance[:, 0] < share) & (kinds == Kind.CENTER)
        pick = (cells.chance[:, 1] * len(self.centroblasts)).astype(int)
        canvas.stamp(self.centroblasts, cells, keep, pick)

    def _tumour_cells(self, canvas: _Canvas, tissue: Tissue, grid: CellGrid) -> None:
        cells, found = _cells(canvas, tissue, grid)
        keep = (found.kinds() == Kind.NEST) & (found.nest > 1.5) & (cells.chance[:, 0] < 0.97)
        # Nuclei of one metastasis resemble one another: its grade moves the middle of the range and widens it.
        spread = 0.16 + 0.34 * found.grade
        place = 0.12 + 0.6 * found.grade + spread * (cells.chance[:, 1] + cells.chance[:, 2] - 1)
        pick = (np.clip(place, 0, 0.999) * len(self.tumour)).astype(int)
        canvas.stamp(self.tumour, cells, keep, pick)

    def _fibroblasts(self, canvas: _Canvas, tissue: Tissue, grid: CellGrid) -> None:
        cells, found = _cells(canvas, tissue, grid)
        kinds = found.kinds()
        share = _share(_SPINDLES, kinds)
        if self.variety:
            rich = smoothstep(tissue.noise.at(cells.x, cells.y, 260, 50), -0.6, 1)
            share = np.where(kinds == Kind.FIBRE, share + 0.6 * self.variety * rich, share)
        keep = cells.chance[:, 0] < share
        turn = np.zeros(len(keep), np.float32)
        if keep.any():
            px, py = cells.x[keep], cells.y[keep]
            dx = tissue.at(px + 1, py).across - tissue.at(px - 1, py).across
            dy = tissue.at(px, py + 1).across - tissue.at(px, py - 1).across
            # Along the fibres is square to where their coordinate grows.
            turn[keep] = np.arctan2(dx, -dy) + 0.35 * (cells.chance[keep, 2] - 0.5)
        canvas.stamp(self.spindles, cells, keep, _oriented(turn, cells.chance[:, 1], len(self.spindles)))

    def _adipocytes(self, canvas: _Canvas, tissue: Tissue, grids: Grids) -> None:
        cells, found = _cells(canvas, tissue, grids.of(MEMBRANES))
        keep = (found.kinds() == Kind.FAT) & (cells.chance[:, 0] < 0.5)
        if not keep.any():
            return
        step = np.float32(0.7)
        fat = grids.of(ADIPOCYTES)

        def gap(x: Floats, y: Floats) -> Floats:
            inside = (x > fat.x.min()) & (x < fat.x.max()) & (y > fat.y.min()) & (y < fat.y.max())
            first, second, _ = fat.nearest(np.where(inside, x, fat.x.mean()), np.where(inside, y, fat.y.mean()))
            return np.where(inside, second - first, np.float32(99))

        keep &= gap(cells.x, cells.y) < 2.6
        turn = np.zeros(len(keep), np.float32)
        px, py = cells.x[keep], cells.y[keep]
        dx, dy = gap(px + step, py) - gap(px - step, py), gap(px, py + step) - gap(px, py - step)
        turn[keep] = np.arctan2(dx, -dy)
        canvas.stamp(self.flat, cells, keep, _oriented(turn, cells.chance[:, 1], len(self.flat)))

    def _red_cells(self, canvas: _Canvas, tissue: Tissue, grid: CellGrid) -> None:
        cells, found = _cells(canvas, tissue, grid)
        keep = (found.kinds() == Kind.LUMEN) & (found.filled > 0.5) & (cells.chance[:, 0] < 0.8)
        pick = (cells.chance[:, 1] * len(self.erythrocytes)).astype(int)
        canvas.stamp(self.erythrocytes, cells, keep, pick)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Cells near a window: locations in µm, and (n, 6) numbers of their own."""

    x: Floats
    y: Floats
    chance: Floats


class _Canvas:
    """The window that nuclei are stamped on."""

    def __init__(self, hematoxylin: Floats, eosin: Floats, window: Window) -> None:
        self._hematoxylin, self._eosin = hematoxylin, eosin
        self._x, self._y, self._mpp = window.x, window.y, window.mpp
        #: What can be seen from the window.
        self.box = window.box.grown(REACH_UM)

    def stamp(
        self, sprites: tuple[Sprite, ...], cells: _Cells, keep: NDArray[np.bool_], pick: NDArray[np.int_]
    ) -> None:
        """Stamp sprite ``pick[i]`` at cell ``i`` wherever ``keep`` says so; the order is each cell's own chance."""
        chosen = np.flatnonzero(keep)
        chosen = chosen[np.argsort(cells.chance[chosen, 5], kind="stable")]
        columns = np.floor(cells.x[chosen] / self._mpp).astype(int) - self._x
        rows = np.floor(cells.y[chosen] / self._mpp).astype(int) - self._y
        for column, row, index in zip(columns.tolist(), rows.tolist(), pick[chosen].tolist(), strict=True):
            self._stamp(sprites[index], row, column)

    def _stamp(self, sprite: Sprite, row: int, column: int) -> None:
        height, width = self._eosin.shape
        half = sprite.half
        top, left, bottom, right = row - half, column - half, row + half + 1, column + half + 1
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            return
        keep, add, fade, pink = sprite.keep, sprite.add, sprite.fade, sprite.pink
        if top < 0 or left < 0 or bottom > height or right > width:
            part = (slice(max(0, -top), height - top), slice(max(0, -left), width - left))
            keep, add, fade, pink = keep[part], add[part], fade[part], pink[part]
            top, left, bottom, right = max(0, top), max(0, left), min(height, bottom), min(width, right)
        here = self._hematoxylin[top:bottom, left:right]
        here *= keep
        here += add
        here = self._eosin[top:bottom, left:right]
        here *= fade
        here += pink


def _cells(canvas: _Canvas, tissue: Tissue, grid: CellGrid) -> tuple[_Cells, TissueMap]:
    """Return the cells of a grid that can be seen, and the tissue that each lies in."""
    box = canvas.box
    x, y = grid.x.ravel(), grid.y.ravel()
    seen = (x > box.x) & (x < box.x + box.width) & (y > box.y) & (y < box.y + box.height)
    cells = _Cells(x[seen], y[seen], grid.chance.reshape(-1, grid.chance.shape[-1])[seen])
    return cells, tissue.at(cells.x, cells.y)


def _share(table: dict[int, float], kinds: NDArray[np.int8]) -> Floats:
    """Return ``table``'s value for every kind, 0 where it has none."""
    lookup = np.zeros(16, np.float32)
    for kind, share in table.items():
        lookup[kind] = share
    value: Floats = lookup[kinds]
    return value


def _oriented(turn: Floats, chance: Floats, count: int) -> NDArray[np.int_]:
    """Return which of ``count`` sprites, sorted by orientation, lies along ``turn``."""
    variants = count // ORIENTATIONS
    step = np.round(turn / np.float32(np.pi) * ORIENTATIONS).astype(int) % ORIENTATIONS
    pick: NDArray[np.int_] = step * variants + (chance * variants).astype(int)
    return pick
