"""What a slide needs of the code that reads one family of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region, Size

__all__ = ["Backend", "Metadata", "PixelSize", "StoredLevel", "UInt8Array"]

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PixelSize:
    """What a file states of its resolution, in µm per level-0 pixel along x and y."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """A level as it lies in the file.

    Attributes
    ----------
    size
        In level pixels.
    tile
        Size of the pieces that are decoded whole, in level pixels.
    """

    size: Size
    tile: Size


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file states of itself.

    Attributes
    ----------
    format
        Name of the format, for a person.
    pixel_size
        ``None`` where the file states none that can be true.
    objective_power
        Magnification of the objective.
    bounds
        The part of level 0 that was scanned; ``None`` where all of it was.
    fluorescence
        What in the file says that it is a fluorescence image; empty where nothing does.
    """

    format: str
    pixel_size: PixelSize | None = None
    objective_power: float | None = None
    bounds: Region | None = None
    fluorescence: str = ""


class Backend(Protocol):
    """An open slide file. Every method may be called from many threads at once."""

    #: Name of the library that reads: part of the answer, because decoders differ by a grey level.
    name: str
    metadata: Metadata
    #: From the finest to the coarsest.
    levels: tuple[StoredLevel, ...]
    #: Images beside the slide (label, macro, thumbnail), each read when it is asked for.
    associated: Mapping[str, Callable[[], UInt8Array]]

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level, uint8 of shape (rows, columns, 3); ``region`` lies inside the level.

        Raises
        ------
        CorruptSlideError
            If a tile cannot be read or decoded.
        """

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64] | None:
        """Return the compressed size of every tile of a stored level in reading order, or ``None`` where unknown."""

    def close(self) -> None:
        """Give the file back. Nobody is reading any more."""
