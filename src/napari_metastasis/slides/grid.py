"""Assemble regions from tiles or strips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import UInt8Array

__all__ = ["TileGrid"]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles that cover an image of ``size`` in reading order; the image's edge crops the last ones."""

    size: Size
    tile: Size

    @property
    def columns(self) -> int:
        """Return the tiles in a row."""
        return -(-self.size.width // self.tile.width)

    @property
    def count(self) -> int:
        """Return the tiles in all."""
        return self.columns * -(-self.size.height // self.tile.height)

    def region(self, index: int) -> Region:
        """Return the region of a tile."""
        row, column = divmod(index, self.columns)
        whole = Region(column * self.tile.width, row * self.tile.height, self.tile.width, self.tile.height)
        return whole.intersection(Region.of(self.size))

    def over(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield the index and the region of every tile that touches ``region``."""
        for row in range(region.y // self.tile.height, -(-region.bottom // self.tile.height)):
            for column in range(region.x // self.tile.width, -(-region.right // self.tile.width)):
                index = row * self.columns + column
                yield index, self.region(index)

    def assemble(self, region: Region, decode: Callable[[int, Region], UInt8Array]) -> UInt8Array:
        """Return the pixels of ``region``, uint8 of shape (rows, columns, 3).

        Parameters
        ----------
        region
            Inside the image.
        decode
            Returns the pixels of a tile by its index and region.
        """
        result = np.empty((*region.size.shape, 3), np.uint8)
        for index, tile in self.over(region):
            part = tile.intersection(region)
            pixels = decode(index, tile)
            result[part.shifted(-region.x, -region.y).slices] = pixels[part.shifted(-tile.x, -tile.y).slices]
        return result
