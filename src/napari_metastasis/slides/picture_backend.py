"""PNG and JPEG pictures as slides of one level: regions of slides, as training sets hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import CorruptSlideError, NotASlideError, first_line
from napari_metastasis.geometry import Region, Size
from napari_metastasis.pictures import PictureError, decode_picture
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.tiff_tiles import MAX_PIECE_PX, compose_on_white

__all__ = ["PictureBackend"]


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

    def forget(self) -> None:
        """Keep the picture: it is one tile."""

    def close(self) -> None:
        """Drop the decoded picture."""
        self._cache.clear()

    def _pixels(self) -> UInt8Array:
        return self._cache.get("picture", self._decode)

    def _decode(self) -> UInt8Array:
        try:
            data = self._path.read_bytes()
            pixels = decode_picture(data, most_px=MAX_PIECE_PX)
        except (OSError, PictureError) as error:
            raise CorruptSlideError(
                f"expected a picture, got {_cause(error)} in {self._path.name}; copy it again from its source, or save "
                "it as a pyramidal TIFF"
            ) from error
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
            raise NotASlideError(
                f"expected an RGB picture of 8 bits, got {pixels.dtype} {pixels.shape} in {self._path.name}; "
                "export it as RGB"
            )
        return compose_on_white(pixels, premultiplied=False) if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, PictureError) else first_line(error)
