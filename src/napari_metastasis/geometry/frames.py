"""Frames: from level-0 pixels to pyramid levels, model pixels, heatmap cells and micrometres."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry.plane import Affine1D, Point, Region, Size

__all__ = ["HeatmapFrame", "LevelFrame", "ModelFrame"]


@dataclass(frozen=True, slots=True)
class LevelFrame:
    """A pyramid level on its slide.

    Attributes
    ----------
    downsample
        Level-0 pixels along one side of a level pixel. Pixel ``i`` of the level covers level-0
        ``i * downsample .. (i + 1) * downsample``.
    mpp
        Micrometres per level-0 pixel.
    """

    downsample: float
    mpp: float

    @property
    def um(self) -> Affine1D:
        """Return where the level's pixels lie in µm."""
        return Affine1D(scale=self.downsample * self.mpp, translate=(self.downsample - 1) / 2 * self.mpp)


@dataclass(frozen=True, slots=True)
class ModelFrame:
    """A model's pixels on a slide.

    Attributes
    ----------
    scale
        Level-0 pixels along one side of a model pixel.
        Model pixel ``i`` covers level-0 ``i * scale .. (i + 1) * scale``.
    mpp
        Micrometres per level-0 pixel of the slide.
    size
        Model pixels that cover the slide; the last row and column may reach past its edge.
    """

    scale: float
    mpp: float
    size: Size

    #: Within this relative difference a stored level is used as it is; the effective mpp is recorded.
    TOLERANCE = 0.02

    @property
    def effective_mpp(self) -> float:
        """Return the µm per pixel that the model really sees."""
        return self.scale * self.mpp

    @classmethod
    def fit(cls, *, slide: Size, mpp: float, model_mpp: float, downsamples: tuple[float, ...]) -> ModelFrame:
        """Return the frame of a model that wants ``model_mpp`` on a slide with these levels.

        Parameters
        ----------
        slide
            Size of level 0, in pixels.
        mpp
            Micrometres per level-0 pixel.
        model_mpp
            Micrometres per pixel that the model was trained at.
        downsamples
            Of every level of the slide. A level within 2 % of the wanted resolution is taken as it is.
        """
        wanted = model_mpp / mpp
        nearest = min(downsamples, key=lambda downsample: abs(math.log(downsample / wanted)))
        scale = nearest if abs(nearest / wanted - 1) <= cls.TOLERANCE else wanted
        # The small reduction keeps a slide that is an exact multiple from gaining a column by rounding.
        size = Size(math.ceil(slide.width / scale - 1e-6), math.ceil(slide.height / scale - 1e-6))
        return cls(scale=scale, mpp=mpp, size=size)


@dataclass(frozen=True, slots=True)
class HeatmapFrame:
    """Where the cells of a heatmap lie on a slide.

    Cell (r, c) is the answer for the patch whose top-left corner is (c · stride - padding, r · stride - padding) in
    model pixels (Lin et al. 2019, eq. 3, plus the padding that lets the map cover the whole slide). It is drawn as a
    square of one stride around the patch's centre.

    Attributes
    ----------
    model
        The model's pixels on the slide.
    patch_px
        Side of the window that one answer sees, in model pixels.
    stride_px
        Distance between neighbouring answers, in model pixels: the network's native stride over the dense coefficient.
    """

    model: ModelFrame
    patch_px: int
    stride_px: int

    def coarser(self, block: int) -> HeatmapFrame:
        """Return the frame whose cells are blocks of these, ``block`` a side: native cells, for the dense coefficient.

        The patches of a block's cells have the same middle as the coarser cell's own patch.
        """
        return HeatmapFrame(model=self.model, patch_px=self.patch_px, stride_px=self.stride_px * block)

    def block_in(self, coarse: HeatmapFrame) -> int:
        """Return how many cells of this frame make up a side of a cell of a coarser one, of the same model."""
        return coarse.stride_px // self.stride_px

    @property
    def padding_px(self) -> int:
        """Return how far the first patch reaches past the slide's left and top edge, in model pixels."""
        return max(0, (self.patch_px - self.stride_px) // 2)

    @property
    def cells(self) -> Size:
        """Return the cells along x and y that cover the whole slide."""
        return Size(-(-self.model.size.width // self.stride_px), -(-self.model.size.height // self.stride_px))

    @property
    def cell_px(self) -> float:
        """Return the side of a cell in level-0 pixels."""
        return self.stride_px * self.model.scale

    @property
    def cell_um(self) -> float:
        """Return the side of a cell in µm."""
        return self.cell_px * self.model.mpp

    @property
    def _first_center(self) -> float:
        """Return the centre of cell 0 along either axis, in model pixels from the slide's corner."""
        return self.patch_px / 2 - self.padding_px

    def cell_center(self, column: float, row: float) -> Point:
        """Return the centre of a cell, in level-0 pixels."""
        return Point(
            (self._first_center + column * self.stride_px) * self.model.scale,
            (self._first_center + row * self.stride_px) * self.model.scale,
        )

    def cell_corner(self, column: float, row: float) -> Point:
        """Return the top-left corner of a cell's square, in level-0 pixels."""
        return self.cell_center(column - 0.5, row - 0.5)

    def cell_at(self, point: Point) -> Point:
        """Return (column, row) of a level-0 location as a fraction: whole numbers are cell centres."""
        return Point(
            (point.x / self.model.scale - self._first_center) / self.stride_px,
            (point.y / self.model.scale - self._first_center) / self.stride_px,
        )

    def cells_over(self, region: Region) -> Region:
        """Return every cell whose square touches a level-0 region, as far as the map reaches.

        Raises
        ------
        RegionError
            If no cell does, because the region lies outside the slide.
        """
        first = self.cell_at(Point(region.x, region.y))
        last = self.cell_at(Point(region.right, region.bottom))
        # A cell's square reaches half a cell to either side; the epsilon keeps a region that ends on an edge from
        # claiming the next cell by rounding.
        x, y = math.floor(first.x + 0.5 + 1e-9), math.floor(first.y + 0.5 + 1e-9)
        right, bottom = math.ceil(last.x + 0.5 - 1e-9), math.ceil(last.y + 0.5 - 1e-9)
        found = Region(x, y, right - x, bottom - y).intersection(Region.of(self.cells))
        if region.is_empty or found.is_empty:
            raise RegionError(
                f"expected a region on the slide, got {region}; choose one inside, or scan the whole slide"
            )
        return found

    def read_window(self, cells: Region) -> Region:
        """Return the model pixels that answer for ``cells``; they may reach past the slide.

        ``n`` answers span ``patch + (n - 1) · stride`` pixels (Lin et al. 2019, eq. 1).
        """
        return Region(
            cells.x * self.stride_px - self.padding_px,
            cells.y * self.stride_px - self.padding_px,
            self.patch_px + (cells.width - 1) * self.stride_px,
            self.patch_px + (cells.height - 1) * self.stride_px,
        )

    @property
    def um(self) -> Affine1D:
        """Return where the cells lie in µm: index 0 is the centre of the first cell."""
        # A continuous level-0 coordinate u is the pixel-centre coordinate u - 1/2.
        return Affine1D(scale=self.cell_um, translate=(self._first_center * self.model.scale - 0.5) * self.model.mpp)
