"""What lies between nuclei: cytoplasm, collagen, fat, blood; amounts of hematoxylin and eosin for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_metastasis.synthetic._cells import (
    ADIPOCYTES,
    HISTIOCYTES,
    TUMOUR,
    CellGrid,
    Grids,
)
from napari_metastasis.synthetic._noise import Floats, Noise, smoothstep, upsampled
from napari_metastasis.synthetic._tissue import TissueMap
from napari_metastasis.synthetic._window import Window

__all__ = ["Grain", "crowding", "paint_matrix"]

_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Grain:
    """Periodic textures that pixels are looked up in.

    Attributes
    ----------
    fine, medium, coarse
        (1024, 1024) float32 of mean 0 and deviation 1, correlated over about 1.2, 3 and 9 µm.
    fibre
        The same, stretched along the second axis: bundles of collagen.
    """

    fine: Floats
    medium: Floats
    coarse: Floats
    fibre: Floats

    @classmethod
    def from_seed(cls, seed: int, mpp: float) -> Grain:
        """Return the textures of ``seed`` for pixels of ``mpp`` µm."""
        rng = np.random.default_rng((seed, 31))

        def texture(sigma: float | tuple[float, float]) -> Floats:
            field = ndimage.gaussian_filter(rng.standard_normal((_SIDE, _SIDE)), sigma, mode="wrap")
            return ((field - field.mean()) / field.std()).astype(np.float32)

        bundle = texture((5.0, 5.0)) + 0.9 * texture((1.6, 3.0)) + 0.8 * texture((12.0, 8.0))
        return cls(texture(0.55 / mpp), texture(1.3 / mpp), texture(3.6 / mpp), bundle / bundle.std())

    def along(self, across: Floats, along: Floats) -> Floats:
        """Return the fibre texture at fibre coordinates in µm: fine across, long along."""
        row = (across * np.float32(4.0)).astype(np.int32) & (_SIDE - 1)
        column = (along * np.float32(0.32)).astype(np.int32) & (_SIDE - 1)
        value: Floats = self.fibre[row, column]
        return value

    @staticmethod
    def tile(texture: Floats, x: int, y: int, shape: tuple[int, int], shift: int = 0) -> Floats:
        """Return a texture for the pixels from (x, y); another ``shift`` gives an independent look of it."""
        rows = (np.arange(y, y + shape[0]) + 389 * shift) & (_SIDE - 1)
        columns = (np.arange(x, x + shape[1]) + 617 * shift) & (_SIDE - 1)
        value: Floats = texture[rows[:, None], columns[None, :]]
        return value


def paint_matrix(
    tissue: TissueMap,
    noise: Noise,
    grain: Grain,
    grids: Grids,
    window: Window,
    *,
    histiocytes: float,
    variety: float,
) -> tuple[Floats, Floats]:
    """Return hematoxylin and eosin, each (h, w) float32, of everything but nuclei.

    Parameters
    ----------
    tissue
        At every pixel of the window.
    noise, grain, grids
        Textures and cells.
    window
        Where the pixels lie.
    histiocytes
        Share of a sinus's grid that they fill.
    variety
        How far benign tissue varies, 0 to 1.
    """
    painter = _Painter(tissue, noise, grain, grids, window, variety)
    painter.fat()
    painter.lymphoid()
    painter.sinus(histiocytes)
    painter.fibre()
    painter.tumour()
    painter.vessels()
    return painter.hematoxylin, painter.eosin


def crowding(noise: Noise, x: Floats, y: Floats, variety: float) -> Floats:
    """Return how crowded a sinus is at (x, y) in µm, 0 to 1: the more variety, the emptier it is in places."""
    crowded: Floats = 1 - np.float32(0.8 * variety) * smoothstep(noise.at(x, y, 360, 47), 0.1, 0.8)
    return crowded


class _Painter:
    """Paints one tissue over another on a window; tissues that do not occur cost nothing."""

    def __init__(
        self, tissue: TissueMap, noise: Noise, grain: Grain, grids: Grids, window: Window, variety: float
    ) -> None:
        self._variety = variety
        self._tissue, self._noise, self._grain, self._grids = tissue, noise, grain, grids
        x, y = self._x, self._y = window.x, window.y
        self._mpp = window.mpp
        shape = (tissue.depth.shape[0], tissue.depth.shape[1])
        self.hematoxylin: Floats = np.zeros(shape, np.float32)
        self.eosin: Floats = np.zeros(shape, np.float32)
        self._fine = grain.tile(grain.fine, x, y, shape)
        self._medium = grain.tile(grain.medium, x, y, shape)
        # Seen at low power, these must not repeat after half a millimetre, as the tables of fine grain do.
        self._coarse = self._slow(9, 71, 4)
        self._broad = self._slow(50, 72, 8)

    def _slow(self, wavelength: float, layer: int, step: int) -> Floats:
        """Return noise at every pixel, worked out at every ``step`` pixels."""
        rows, columns = self.eosin.shape
        px = ((self._x + np.arange(0, columns + step, step)) * self._mpp).astype(np.float32)
        py = ((self._y + np.arange(0, rows + step, step)) * self._mpp).astype(np.float32)
        return upsampled(self._noise.at(px[None, :], py[:, None], wavelength, layer), step)

    def _lay(self, cover: Floats, hematoxylin: Floats | float, eosin: Floats | float) -> None:
        self.hematoxylin += cover * (hematoxylin - self.hematoxylin)
        self.eosin += cover * (eosin - self.eosin)

    def _bodies(self, grid: CellGrid, warp: float) -> tuple[Floats, Floats, NDArray[np.intp]]:
        """Return distances to the nearest two cells, and the nearest, at the corners of squares of two pixels."""
        rows, columns = self.eosin.shape
        shape, x, y = (rows + 2, columns + 2), self._x, self._y
        px = (np.arange(x, x + columns + 1, 2) * self._mpp).astype(np.float32)[None, :]
        py = (np.arange(y, y + rows + 1, 2) * self._mpp).astype(np.float32)[:, None]
        # Borders between cells are not straight.
        bend_x, bend_y = (self._grain.tile(self._grain.coarse, x, y, shape, shift)[:-1:2, :-1:2] for shift in (0, 3))
        return grid.nearest(px + np.float32(warp) * bend_x, py + np.float32(warp) * bend_y)

    def _full(self, half: Floats) -> Floats:
        """Return such a field at every pixel."""
        return upsampled(half, 2)

    def fat(self) -> None:
        """Adipocytes: empty, with thin membranes that thicken where three of them meet."""
        where = smoothstep(self._tissue.fat, -3, 5) * smoothstep(self._tissue.depth, 2, -4)
        if not where.any():
            return
        first, second, _ = self._bodies(self._grids.of(ADIPOCYTES), 2.2)
        gap, reach = self._full(second - first), self._full(first)
        membrane = smoothstep(gap, 3.4, 0.6)
        corner = smoothstep(reach, 47, 58) * smoothstep(gap, 22, 8)
        torn = smoothstep(self._coarse + 0.6 * self._medium, -2.4, -1.2)
        amount = np.maximum(membrane * torn * (0.34 + 0.14 * self._medium), corner * (0.3 + 0.16 * self._medium))
        amount = amount + 0.015 * smoothstep(self._coarse, 0, 2)
        self._lay(where, 0.22 * amount, np.maximum(amount, 0))

    def lymphoid(self) -> None:
        """Fill with lymphocytes' thin cytoplasm, with clefts between them; paler and whole in germinal centres."""
        where = smoothstep(self._tissue.depth, -2, 2)
        if not where.any():
            return
        # Shrinkage opens gaps between loose cells; follicles are packed too tightly for it.
        packed = 0.9 * smoothstep(self._tissue.mantle, -30, 15)
        cleft = smoothstep(self._medium + 0.5 * self._coarse + 0.45 * self._broad - packed, 0.1, 1.5)
        eosin = (0.36 + 0.09 * self._fine + 0.08 * self._coarse) * (1 - 0.88 * cleft) + 0.03
        hematoxylin = (0.2 + 0.14 * packed + 0.06 * self._fine) * (1 - 0.8 * cleft)
        center = smoothstep(self._tissue.center, -8, 14)
        self._lay(where, hematoxylin, eosin)
        # Macrophages among the blasts leave pale holes, with the debris of dead cells in some.
        more = 0.4 * self._variety
        hole = smoothstep(self._coarse + 0.4 * self._broad, 1.5 - more, 2.1 - more)
        pale = 1 - 0.7 * hole
        self._lay(
            0.9 * center, (0.16 + 0.04 * self._medium) * pale, (0.3 + 0.06 * self._medium + 0.05 * self._fine) * pale
        )
        if self._variety:
            debris = smoothstep(self._medium + 0.3 * self._fine, 1.3, 1.9) * hole * center
            self.hematoxylin += self._variety * 1.4 * debris

    def sinus(self, histiocytes: float) -> None:
        """Open space with strands of reticulum and the bodies of histiocytes."""
        where = smoothstep(self._tissue.sinus, -1.5, 3) * smoothstep(self._tissue.depth, -1, 2)
        where *= smoothstep(np.maximum(self._tissue.mantle, self._tissue.tumour), 4, -4)
        if not where.any():
            return
        first, second, owner = self._bodies(self._grids.of(HISTIOCYTES), 0.8)
        chance = self._grids.of(HISTIOCYTES).chance.reshape(-1, 6)[owner]
        # As full of histiocytes as each cell's own chance says, and rounded where a body ends in open space.
        round_body = smoothstep(first, 8.6, 6.8) * smoothstep(second - first, 0.1, 1.6)
        share = histiocytes * self._crowding(owner)
        body = self._full(np.where(chance[..., 0] < share, round_body, np.float32(0)))
        strand = smoothstep(np.abs(self._coarse + 0.4 * self._medium), 0.16, 0.02) * 0.25
        foam = 0.33 + 0.09 * self._fine + 0.06 * self._medium
        self._lay(where, 0.1 * body + 0.04 * strand, 0.02 + np.maximum(body * foam, strand))

    def _crowding(self, owner: NDArray[np.intp]) -> Floats | float:
        """Return how crowded the sinus is around each histiocyte."""
        if not self._variety:
            return 1.0
        grid = self._grids.of(HISTIOCYTES)
        return crowding(self._noise, grid.x.ravel()[owner], grid.y.ravel()[owner], self._variety)

    def fibre(self) -> None:
        """Collagen in wavy bundles, with splits between them."""
        tissue = self._tissue
        where = smoothstep(tissue.fibre, -1.5, 2) * smoothstep(tissue.mantle, 2, -6)
        if not where.any():
            return
        self._collagen(where, 0.4)
        if self._variety:
            # Broad bands are denser, in bundles that shrinkage parts along their fibres.
            dense = where * smoothstep(tissue.fibre, 4, 16) * self._variety
            self.eosin += dense * (0.12 + 0.1 * self._grain.along(0.5 * tissue.across, 0.5 * tissue.along))
            across = 0.28 * (tissue.across + 1.2 * self._coarse)
            parted = self._grain.along(across, 0.3 * tissue.along) + 0.4 * self._broad
            left = 1 - 0.92 * dense * smoothstep(parted, 0.85, 1.35)
            self.eosin *= left
            self.hematoxylin *= left
            np.maximum(self.eosin, 0, out=self.eosin)

    def _collagen(self, where: Floats, amount: float) -> None:
        bundle = self._grain.along(self._tissue.across + 0.8 * self._coarse, self._tissue.along)
        split = smoothstep(bundle + 0.5 * self._broad, -0.35, -1.3)
        eosin = (amount + 0.13 * bundle + 0.04 * self._fine) * (1 - 0.85 * split)
        self._lay(where, 0.06 + 0.03 * bundle, np.maximum(eosin, 0.02))

    def tumour(self) -> None:
        """Nests of large cells with abundant cytoplasm in a desmoplastic stroma."""
        tissue = self._tissue
        where = smoothstep(tissue.tumour, -2, 2)
        if not where.any():
            return
        small = smoothstep(tissue.tumour, 0, 10)
        # Stroma is mixed with the lymphoid tissue that it grows into.
        self._collagen(where * smoothstep(tissue.nest, 2, -3) * (0.55 + 0.45 * small), 0.38)
        nest = smoothstep(tissue.nest, -2.5, 1.5) * where
        if not nest.any():
            return
        first, second, owner = self._bodies(self._grids.of(TUMOUR), 0.9)
        chance = self._grids.of(TUMOUR).chance.reshape(-1, 6)[owner]
        # Cells differ, and so do whole groups of them: here pale and watery, there dense.
        tint = self._full((chance[..., 1] - 0.5) * 0.26) + 0.11 * self._broad
        edge = self._full(smoothstep(second - first, 1.9, 0.3))
        # Some borders are seen as a line, others as the gap that shrinkage left; some cells hold a vacuole.
        gap = smoothstep(self._coarse + 0.8 * self._broad, -0.3, 1.2)
        hollow = smoothstep(self._medium - 0.5 * self._broad, 1.5, 2.3)
        eosin = 0.42 + tint + 0.08 * self._medium + 0.06 * self._fine + edge * (0.16 - 0.42 * gap)
        hematoxylin = 0.2 + 0.6 * tint + 0.05 * self._fine + 0.04 * self._medium - 0.12 * edge * gap
        eosin, hematoxylin = eosin * (1 - 0.7 * hollow), hematoxylin * (1 - 0.7 * hollow)
        self._lay(nest, np.maximum(hematoxylin, 0.02), np.maximum(eosin, 0.03))
        # The cytoplasm is densest where cells face a lumen; some lumina hold secretion.
        lumen = smoothstep(tissue.lumen, -1.5, 1.0) * nest
        brim = smoothstep(tissue.lumen, -5.5, -2.5) * nest * (1 - lumen)
        self.eosin += 0.14 * brim
        secretion = smoothstep(self._slow(260, 73, 8) + 0.1 * self._broad, 0.55, 0.75) * smoothstep(tissue.lumen, 0, 3)
        self._lay(lumen, 0.01 + 0.05 * secretion, 0.03 + (0.26 + 0.04 * self._fine) * secretion)

    def vessels(self) -> None:
        """Walls of muscle and collagen around an open lumen."""
        tissue = self._tissue
        wall = smoothstep(tissue.wall, -2, 1.5)
        if not wall.any():
            return
        self._collagen(wall, 0.52)
        self._lay(smoothstep(tissue.blood, -1, 1.2), 0.0, 0.02 + 0.04 * smoothstep(self._coarse, 0, 2))
