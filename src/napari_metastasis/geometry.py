"""Where things lie: level-0 pixels, pyramid levels, model pixels, heatmap cells and micrometres.

Every offset of the program is made here. A location is (x, y) in level-0 pixels with (0, 0) at the top-left CORNER of
the first pixel; arrays are indexed (row, column). Micrometres follow napari and OME-Zarr: the CENTRE of level-0 pixel
(0, 0) lies at 0 µm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from napari_metastasis.errors import RegionError

__all__ = ["Affine1D", "HeatmapFrame", "LevelFrame", "ModelFrame", "Point", "Region", "Size", "locations_um"]


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A location (x, y)."""

    x: float
    y: float

    def distance(self, other: Point) -> float:
        """Return the Euclidean distance to ``other``."""
        return math.hypot(self.x - other.x, self.y - other.y)

    def to_um(self, mpp: float) -> Point:
        """Return where a level-0 location lies in µm, on a slide of ``mpp`` µm per pixel."""
        # The CENTRE of pixel (0, 0), which is level-0 location (1/2, 1/2), lies at 0 µm.
        return Point((self.x - 0.5) * mpp, (self.y - 0.5) * mpp)

    @classmethod
    def from_um(cls, x: float, y: float, *, mpp: float) -> Point:
        """Return the level-0 location of a place in µm, the inverse of :meth:`to_um`."""
        return cls(x / mpp + 0.5, y / mpp + 0.5)


@dataclass(frozen=True, slots=True)
class Size:
    """A width and a height, in whole pixels or cells."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Return width times height."""
        return self.width * self.height

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns), the order of arrays."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Region:
    """A half-open rectangle of whole pixels or cells: ``x .. x + width``, ``y .. y + height``."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def of(cls, size: Size) -> Region:
        """Return the region that covers all of ``size``."""
        return cls(0, 0, size.width, size.height)

    @property
    def right(self) -> int:
        """Return the first x past the region."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Return the first y past the region."""
        return self.y + self.height

    @property
    def size(self) -> Size:
        """Return the width and height."""
        return Size(self.width, self.height)

    @property
    def is_empty(self) -> bool:
        """Return whether nothing lies inside."""
        return self.width <= 0 or self.height <= 0

    @property
    def center(self) -> Point:
        """Return the middle of the rectangle."""
        return Point(self.x + self.width / 2, self.y + self.height / 2)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the (row, column) slices that cut the region out of an array."""
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def contains(self, other: Region) -> bool:
        """Return whether ``other`` lies wholly inside."""
        return self.x <= other.x and self.y <= other.y and other.right <= self.right and other.bottom <= self.bottom

    def intersection(self, other: Region) -> Region:
        """Return the common part, of zero size where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Region(x, y, max(0, right - x), max(0, bottom - y))

    def shifted(self, dx: int, dy: int) -> Region:
        """Return the region moved by (dx, dy)."""
        return Region(self.x + dx, self.y + dy, self.width, self.height)

    def grown(self, margin: int) -> Region:
        """Return the region with ``margin`` more on every side."""
        return Region(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def split(self, side: int) -> Iterator[Region]:
        """Yield squares of ``side`` on a grid anchored at (0, 0), cut to this region.

        The grid does not depend on the region, so that two regions of one slide share their squares.
        """
        for y in range(self.y // side * side, self.bottom, side):
            for x in range(self.x // side * side, self.right, side):
                part = self.intersection(Region(x, y, side, side))
                if not part.is_empty:
                    yield part

    def __str__(self) -> str:
        """Return corner and size, named, for messages."""
        return f"x={self.x} y={self.y} width={self.width} height={self.height}"


@dataclass(frozen=True, slots=True)
class Affine1D:
    """``scale`` and ``translate`` of one array index in µm, as a napari layer or OME-Zarr takes it."""

    scale: float
    translate: float


def locations_um(mpp: float) -> Affine1D:
    """Return where level-0 LOCATIONS lie in µm, as a layer of points takes it; pixels are indices, half a pixel off."""
    return Affine1D(scale=mpp, translate=-mpp / 2)


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
    """The pixels that a model sees, on the slide that it looks at.

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
    """Where the cells of a heatmap lie: the one place that says so.

    Cell (r, c) is the answer for the patch whose top-left corner is (c · stride - padding, r · stride - padding) in
    model pixels (Lin et al. 2019, eq. 3, plus the padding that lets the map cover the whole slide). It is drawn as a
    square of one stride around the patch's centre.

    Attributes
    ----------
    model
        The model's pixels on the slide.
    patch_px
        Side of the patch that one answer sees, in model pixels.
    stride_px
        Distance between neighbouring answers, in model pixels: the network's native stride over the dense coefficient.
    """

    model: ModelFrame
    patch_px: int
    stride_px: int

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
        """Return every cell whose square touches a level-0 region, cut to the map.

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
