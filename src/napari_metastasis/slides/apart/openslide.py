"""Slides that OpenSlide reads in a process of its own: formats of which damaged files end it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openslide

__all__ = ["OpenSlideFile", "open_file"]

UInt8Array = npt.NDArray[np.uint8]

#: Side of the blocks that are asked for, as everywhere in OpenSlide's slides.
_BLOCK_PX = 512
#: Assumed where a level states no tile size.
_TILE_PX = 256
_OPAQUE = 255


def open_file(path: str, cache_bytes: int) -> OpenSlideFile:
    """Open a file."""
    return OpenSlideFile(path, cache_bytes)


class OpenSlideFile:
    """An open file.

    Parameters
    ----------
    path
        To open.
    cache_bytes
        Decoded tiles kept.
    """

    def __init__(self, path: str, cache_bytes: int) -> None:
        self._slide = openslide.OpenSlide(path)
        self._slide.set_cache(openslide.OpenSlideCache(cache_bytes))

    def facts(self) -> dict[str, Any]:
        """Return what the file states."""
        properties = self._slide.properties
        return {
            "levels": [
                [
                    *size,
                    *(int(properties.get(f"openslide.level[{index}].tile-{side}", _TILE_PX)) for side in _SIDES),
                ]
                for index, size in enumerate(self._slide.level_dimensions)
            ],
            "block_px": _BLOCK_PX,
            "properties": dict(properties),
            "associated": list(self._slide.associated_images),
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 4): transparent where nothing was scanned."""
        downsample = self._slide.level_downsamples[level]
        corner = round(x * downsample), round(y * downsample)
        pixels = np.asarray(self._slide.read_region(corner, level, (width, height)))
        return pixels if pixels[..., 3].min() < _OPAQUE else pixels[..., :3]

    def associated(self, name: str, most_px: int) -> UInt8Array | tuple[int, int]:
        """Return an image beside the slide, or its width and height where it has too many pixels."""
        stated = (self._slide.properties.get(f"openslide.associated.{name}.{side}", 0) for side in _SIDES)
        width, height = (int(side) for side in stated)
        if width * height > most_px:
            return width, height
        return np.asarray(self._slide.associated_images[name].convert("RGBA"))


_SIDES = ("width", "height")
