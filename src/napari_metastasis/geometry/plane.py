"""Locations, sizes and rectangles.

A location is (x, y) in level-0 pixels with (0, 0) at the top-left CORNER of the first pixel; arrays are indexed (row,
column). Micrometres follow napari and OME-Zarr: the CENTRE of level-0 pixel (0, 0) lies at 0 µm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Affine1D", "Point", "Region", "Size", "locations_um"]


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
        """Return the level-0 location of a point in µm, the inverse of :meth:`to_um`."""
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
        """Return the (row, column) slices that crop the region from an array."""
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

    def coarse(self, block: int) -> Region:
        """Return the blocks, ``block`` cells a side, that the region touches, counted in blocks."""
        x, y = self.x // block, self.y // block
        return Region(x, y, -(-self.right // block) - x, -(-self.bottom // block) - y)

    def fine(self, block: int) -> Region:
        """Return the cells of a region that is counted in blocks, the inverse of :meth:`coarse`."""
        return Region(self.x * block, self.y * block, self.width * block, self.height * block)

    def split(self, side: int) -> Iterator[Region]:
        """Yield squares of ``side`` on a grid anchored at (0, 0), cropped to this region.

        Two regions of one slide thus share their squares.
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
    """Return where level-0 locations lie in µm, for a points layer; pixel indices lie half a pixel further."""
    return Affine1D(scale=mpp, translate=-mpp / 2)
