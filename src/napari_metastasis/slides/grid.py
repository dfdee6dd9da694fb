"""Regions put together from the pieces that are decoded whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import UInt8Array

__all__ = ["TileGrid"]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Pieces of ``tile`` pixels that cover an image of ``size`` in reading order; those at the edge are cut."""

    size: Size
    tile: Size

    @property
    def columns(self) -> int:
        """Return the pieces in a row."""
        return -(-self.size.width // self.tile.width)

    @property
    def count(self) -> int:
        """Return the pieces in all."""
        return self.columns * -(-self.size.height // self.tile.height)

    def over(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield the index and the pixels of every piece that touches ``region``."""
        for row in range(region.y // self.tile.height, -(-region.bottom // self.tile.height)):
            for column in range(region.x // self.tile.width, -(-region.right // self.tile.width)):
                place = Region(column * self.tile.width, row * self.tile.height, self.tile.width, self.tile.height)
                yield row * self.columns + column, place.intersection(Region.of(self.size))

    def assemble(self, region: Region, piece: Callable[[int, Region], UInt8Array]) -> UInt8Array:
        """Return the pixels of ``region``, uint8 of shape (rows, columns, 3).

        Parameters
        ----------
        region
            Inside the image.
        piece
            Returns a piece, of the shape of its place, by its index and place.
        """
        result = np.empty((*region.size.shape, 3), np.uint8)
        for index, place in self.over(region):
            part = place.intersection(region)
            pixels = piece(index, place)
            result[part.shifted(-region.x, -region.y).slices] = pixels[part.shifted(-place.x, -place.y).slices]
        return result
