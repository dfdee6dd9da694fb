"""A slide whose file holds red and blue in each other's place: pixels in their right order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region
from napari_metastasis.slides.backend import Backend, UInt8Array

__all__ = ["SwappedBackend"]


class SwappedBackend:
    """Reads what another backend reads, with red and blue exchanged. Libraries such as OpenCV write files like that.

    Parameters
    ----------
    backend
        Reads the file. It is closed with this one.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = backend.name
        self.metadata = backend.metadata
        self.levels = backend.levels
        # Label and macro come from the same writer.
        self.associated: Mapping[str, Callable[[], UInt8Array]] = {
            name: partial(_swapped_image, read) for name, read in backend.associated.items()
        }

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level, uint8 of shape (rows, columns, 3); see :class:`Backend`."""
        return _swapped(self._backend.read(level, region))

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64] | None:
        """Return the compressed size of every tile of a stored level; see :class:`Backend`."""
        return self._backend.tile_bytes(level)

    def forget(self) -> None:
        """Let go of decoded tiles; see :class:`Backend`."""
        self._backend.forget()

    def close(self) -> None:
        """Close the file."""
        self._backend.close()


def _swapped(pixels: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(pixels[..., ::-1])


def _swapped_image(read: Callable[[], UInt8Array]) -> UInt8Array:
    return _swapped(read())
