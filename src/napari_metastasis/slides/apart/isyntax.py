"""Philips iSyntax, read with pyisyntax in a process of its own, and there in its main thread.

The library keeps what it decodes into with the thread that first used it; read from another one, it ends the process.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from isyntax import ISyntax
from isyntax._pyisyntax import lib

__all__ = ["IsyntaxFile", "open_file"]

UInt8Array = npt.NDArray[np.uint8]

#: Bytes of the coefficients of a tile that are kept: three colours of 16 bits in four bands of 128 px.
_TILE_BYTES = 3 * 4 * 128 * 128 * 2
_FEWEST_TILES = 100


def open_file(path: str, cache_bytes: int) -> IsyntaxFile:
    """Open a file."""
    return IsyntaxFile(path, cache_bytes)


class _WatchedFile(io.RawIOBase):
    """A file that ends this process where it ends too soon.

    The library would decode whatever lies in the memory then, and on some of that it never ends.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with this one)
        self.size = os.fstat(self._file.fileno()).st_size
        #: What the library asks for as it opens a file may be more than there is.
        self.is_open = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        if self.is_open and count < len(buffer):
            os._exit(1)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class IsyntaxFile:
    """An open file.

    Parameters
    ----------
    path
        To open.
    cache_bytes
        Decoded coefficients kept.
    """

    def __init__(self, path: str, cache_bytes: int) -> None:
        self._watched = _WatchedFile(path)
        kept = max(_FEWEST_TILES, cache_bytes // _TILE_BYTES)
        self._file = file = ISyntax(self._watched, self._watched.size, cache_size=kept)
        self._jpegs: dict[str, Callable[[], memoryview | None]] = {
            "label": file.read_label_image_jpeg,
            "macro": file.read_macro_image_jpeg,
        }

    def facts(self) -> dict[str, Any]:
        """Return what the file states."""
        file = self._file
        return {
            "levels": [[width, height, file.tile_width, file.tile_height] for width, height in file.level_dimensions],
            # The library gives some size where the file states none.
            "mpp": [file.mpp_x, file.mpp_y] if lib.libisyntax_get_is_mpp_known(file.ptr) else None,
            # They are small, and only what can be read is worth a name.
            "associated": [name for name, read in self._jpegs.items() if read() is not None],
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3), white where nothing was scanned.

        A low-pass coefficient lies on every other pixel of the next finer level, the first on its third. By the corners
        that the library counts from, pixel i of level L lies at level-0 pixel 2^L i + 2^L + 1 for L > 1, or 2 i + 1
        for L = 1, and not in the middle of 2^L pixels from 2^L i on. One pixel less from level 2 on brings it within
        half a pixel of there.
        """
        shift = 1 if level > 1 else 0
        self._watched.is_open = True
        pixels = self._file.read_region(x - shift, y - shift, width, height, level)
        return np.ascontiguousarray(pixels[..., :3])

    def associated(self, name: str, most_px: int) -> bytes:
        """Return an image beside the slide as a JPEG."""
        del most_px  # whoever decodes it looks
        data = self._jpegs[name]()
        if data is None:
            raise ValueError("no JPEG")
        return bytes(data)
