"""What a slide needs of a backend, which reads one family of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import NotASlideError
from napari_metastasis.geometry import Region, Size

__all__ = ["Backend", "Metadata", "PixelSize", "StoredLevel", "UInt8Array", "UnsupportedDialectError"]

UInt8Array = npt.NDArray[np.uint8]


class UnsupportedDialectError(NotASlideError):
    """A reader has no way to show this file of a kind that it takes; another reader may have one."""


@dataclass(frozen=True, slots=True)
class PixelSize:
    """The resolution that a file states, in µm per level-0 pixel along x and y.

    Attributes
    ----------
    x, y
        µm per pixel.
    source
        Where the file states it, for a person.
    """

    x: float
    y: float
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """A level that is stored in the file.

    Attributes
    ----------
    size
        In level pixels.
    tile
        Size of a tile or strip, which is decoded whole, in level pixels.
    """

    size: Size
    tile: Size


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file states about itself.

    Attributes
    ----------
    format
        Name of the format, for a person.
    pixel_size
        ``None`` where the file states none, or an impossible one.
    objective_power
        Magnification of the objective.
    bounds
        The part of level 0 that was scanned; ``None`` where all of it was.
    fluorescence
        Entry of the file that says that it is a fluorescence image; empty where there is none.
    notes
        What has to be said of results: what of the file was not read, or not taken at its word.
    """

    format: str
    pixel_size: PixelSize | None = None
    objective_power: float | None = None
    bounds: Region | None = None
    fluorescence: str = ""
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """An open slide file. Every method may be called from many threads at once."""

    #: Name of the library that reads. Results record it, because decoders differ by a grey level.
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

    def forget(self) -> None:
        """Drop decoded tiles from memory."""

    def close(self) -> None:
        """Close the file, once nobody reads it any more."""
