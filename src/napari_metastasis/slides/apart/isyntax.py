"""Philips iSyntax, read with pyisyntax in a process of its own, and there in its main thread.

The library keeps what it decodes into with the thread that first used it; read from another one, it ends the process.
"""

from __future__ import annotations

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
    file = ISyntax.open(path, cache_size=max(_FEWEST_TILES, cache_bytes // _TILE_BYTES))
    # The library gives some size where the file states none.
    return IsyntaxFile(file, states_size=bool(lib.libisyntax_get_is_mpp_known(file.ptr)))


class IsyntaxFile:
    """An open file.

    Parameters
    ----------
    file
        Of the library.
    states_size
        Whether its pixel size is the file's own.
    """

    def __init__(self, file: ISyntax, *, states_size: bool) -> None:
        self._file = file
        self._states_size = states_size
        self._jpegs: dict[str, Callable[[], memoryview | None]] = {
            "label": file.read_label_image_jpeg,
            "macro": file.read_macro_image_jpeg,
        }

    def facts(self) -> dict[str, Any]:
        """Return what the file states."""
        file = self._file
        return {
            "levels": [[width, height, file.tile_width, file.tile_height] for width, height in file.level_dimensions],
            "mpp": [float(file.mpp_x), float(file.mpp_y)] if self._states_size else None,
            # They are small, and only what can be read is worth a name.
            "associated": [name for name, read in self._jpegs.items() if read() is not None],
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3), white where nothing was scanned."""
        return np.ascontiguousarray(self._file.read_region(x, y, width, height, level)[..., :3])

    def associated(self, name: str, most_px: int) -> bytes:
        """Return an image beside the slide as a JPEG."""
        del most_px  # whoever decodes it looks
        data = self._jpegs[name]()
        if data is None:
            raise ValueError("no JPEG")
        return bytes(data)
