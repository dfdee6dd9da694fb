"""PNG, JPEG and TIFF in memory, as arrays."""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_metastasis.pictures.claims import PNG, check_piece, is_decoded, is_png_or_jpeg, jpeg_size, png_header
from napari_metastasis.pictures.error import PictureError

__all__ = ["decode_picture"]

_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: What the decoders raise on damaged data; an array that cannot be had is one of them.
_DECODING_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError,
    OverflowError, ZeroDivisionError, MemoryError, EOFError, OSError, struct.error, tifffile.TiffFileError,
)  # fmt: skip


def decode_picture(data: bytes, *, most_px: int, indexed: bool = False) -> NDArray[Any]:
    """Return the pixels of a picture: (rows, columns) or (rows, columns, samples), as they are stored.

    Parameters
    ----------
    data
        The file.
    most_px
        Pixels that it may claim to have.
    indexed
        Whether a palette is left out, so that the numbers of its colours remain.

    Raises
    ------
    PictureError
        If it is no PNG, JPEG or TIFF, claims too many pixels, or does not decode.
    """
    if data.startswith(_TIFFS):
        return _decoded_tiff(data, most_px)
    if not is_png_or_jpeg(data):
        raise PictureError("no PNG, JPEG or TIFF" if data else "an empty file")
    width, height, palette = png_header(data) if data.startswith(PNG) else (*jpeg_size(data), False)
    _check_size(width, height, most_px)
    try:
        if palette and indexed:
            return _indices(data)
        return np.asarray(imagecodecs.png_decode(data) if data.startswith(PNG) else imagecodecs.jpeg_decode(data))
    except _DECODING_ERRORS as error:
        raise PictureError("damaged data") from error


def _check_size(width: int, height: int, most_px: int) -> None:
    if not 0 < width * height <= most_px:
        raise PictureError(f"{width} x {height} px, where 1 to {most_px:,} are taken")


def _indices(data: bytes) -> NDArray[np.uint8]:
    """Return the numbers of a palette's colours, (rows, columns)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.array(image, dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise PictureError("damaged data") from error


def _decoded_tiff(data: bytes, most_px: int) -> NDArray[Any]:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages[0].aspage()
            _check_size(int(page.imagewidth), int(page.imagelength), most_px)
            if int(page.imagedepth) != 1 or not 1 <= int(page.samplesperpixel) <= 4:
                raise PictureError("a TIFF of another kind")
            if not is_decoded(page):
                raise PictureError(f"a TIFF with {getattr(page.compression, 'name', page.compression)} compression")
            for piece, _ in tiff.filehandle.read_segments(page.dataoffsets, page.databytecounts):
                check_piece(page, piece or b"")
            return np.asarray(page.asarray())
    except PictureError:
        raise
    except _DECODING_ERRORS as error:
        raise PictureError("damaged data") from error
