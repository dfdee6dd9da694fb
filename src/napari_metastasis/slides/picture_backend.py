"""PNG and JPEG pictures as slides of one level: regions of slides, as training sets hold them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import CorruptSlideError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.tiff_tiles import MAX_PIECE_PX, compose_on_white

__all__ = ["PictureBackend", "is_picture"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def is_picture(path: Path) -> bool:
    """Return whether a file begins as a PNG or a JPEG does. MIRAX slides do too: ask OpenSlide first."""
    with path.open("rb") as file:
        return file.read(8).startswith((_PNG, _JPEG))


class PictureBackend:
    """An open picture. It states no pixel size.

    Parameters
    ----------
    path
        A PNG or JPEG file.
    cache_bytes
        A picture that is large beside this is kept on the disk once it is decoded.

    Raises
    ------
    NotASlideError
        If it is not RGB with 8 bits, or too large.
    CorruptSlideError
        If it does not decode.
    """

    name = "imagecodecs"

    def __init__(self, path: Path, *, cache_bytes: int) -> None:
        self._path = path
        self._cache = TileCache(cache_bytes)
        pixels = self._pixels()
        size = Size(pixels.shape[1], pixels.shape[0])
        self.metadata = Metadata("PNG" if path.suffix.lower() == ".png" else "JPEG")
        self.levels: tuple[StoredLevel, ...] = (StoredLevel(size=size, tile=size),)
        self.associated: Mapping[str, Callable[[], UInt8Array]] = {}

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels; see :class:`~napari_metastasis.slides.backend.Backend`."""
        del level
        return self._pixels()[region.slices]

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64] | None:
        """Return ``None``: a picture has no tiles."""
        del level
        return None

    def close(self) -> None:
        """Drop the decoded picture."""
        self._cache.clear()

    def _pixels(self) -> UInt8Array:
        return self._cache.get("picture", self._decode)

    def _decode(self) -> UInt8Array:
        try:
            data = self._path.read_bytes()
            _check_size(data, self._path.name)
            pixels = np.asarray(imagecodecs.imread(data))
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, NotASlideError):
                raise
            raise CorruptSlideError(
                f"expected a picture, but {self._path.name} does not decode; copy it again from its source"
            ) from error
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
            raise NotASlideError(
                f"expected an RGB picture of 8 bits, got {pixels.dtype} {pixels.shape} in {self._path.name}; "
                "export it as RGB"
            )
        return compose_on_white(pixels, premultiplied=False) if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def _check_size(data: bytes, name: str) -> None:
    """Refuse a huge PNG by its header; a JPEG has at most 65,535 px a side, and its decoder refuses the largest."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        if width * height > MAX_PIECE_PX:
            raise NotASlideError(
                f"expected a picture of at most {MAX_PIECE_PX:,} pixels, got {width} x {height} in {name}; "
                "save it as a pyramidal TIFF"
            )
