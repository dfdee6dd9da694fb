"""PNG, JPEG and TIFF, as arrays: looked at before they are decoded.

Decoders end the process on data that they do not expect, or fill the memory with what a header claims. Here the format
is told by its first bytes, the claimed size is bounded, and no decoder is asked to guess.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

__all__ = ["PictureError", "check_pages", "check_piece", "decode_picture", "is_png_or_jpeg"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Of a PNG's header: its length and name, width, height, bits and the kind of its colours.
_PNG_HEADER = struct.Struct(">I4sIIBB")
_PALETTE = 3
#: Markers of a JPEG that begin a frame, whose size they state; and those that stand alone.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})

#: Pages of a TIFF: stacks of a whole slide have hundreds.
_MOST_PAGES = 1 << 14

_LZW, _REVERSED = 5, 2
#: Codes of LZW that forget all strings, and that end the data; strings have the numbers after these.
_FORGET, _END = 256, 257
#: Codes that are looked at at once, at most more than a decoder takes; and how many bytes there are, at least, for each
#: time that strings are forgotten.
_FIRST_CODES, _ALL_CODES, _BYTES_A_TIME, _MOST_TIMES = 512, 6144, 128, 64

#: What the decoders raise on damaged data; an array that cannot be had is one of them.
_DECODING_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError,
    OverflowError, ZeroDivisionError, MemoryError, EOFError, OSError, struct.error, tifffile.TiffFileError,
)  # fmt: skip


class PictureError(ValueError):
    """Data that is no picture, or none that can be decoded; says what came."""


def is_png_or_jpeg(start: bytes) -> bool:
    """Return whether data begin as a PNG or a JPEG does."""
    return start.startswith((_PNG, _JPEG))


def check_pages(tiff: tifffile.TiffFile) -> None:
    """Refuse an open TIFF whose pages lead back to one before, or never end: tifffile would follow them for hours.

    Raises
    ------
    PictureError
        If they do. A chain that breaks off is left to whoever reads it.
    """
    layout, file = tiff.tiff, tiff.filehandle
    offset, seen = tiff.pages.first.offset, set[int]()
    while 0 < offset < file.size:
        if offset in seen or len(seen) == _MOST_PAGES:
            raise PictureError("pages without an end")
        seen.add(offset)
        file.seek(offset)
        try:
            (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(tags * layout.tagsize, 1)
            (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except (struct.error, OSError):
            return


def check_piece(page: Any, data: bytes) -> None:
    """Refuse a stored tile or strip that its decoder would end the process on.

    imagecodecs takes the first code of LZW for a byte, and where it is damaged follows it into memory that is not its
    own. Its place depends on how many codes there were since strings were forgotten, not on what they say.

    Parameters
    ----------
    page
        tifffile's page.
    data
        The tile or strip as it is stored.

    Raises
    ------
    PictureError
        If it is one.
    """
    if page.compression != _LZW or len(data) < 2:
        return
    if page.fillorder == _REVERSED:
        data = bytes(imagecodecs.bitorder_decode(data))
    # The lowest bits come first in files of the time before TIFF 5.
    lowest_first = data[0] == 0 and bool(data[1] & 1)
    packed = np.frombuffer(data + bytes(4), np.uint8).astype(np.uint32)
    ends, widths = _lzw_codes(lowest_first)
    at, times = 0, 0
    while at + 9 <= len(data) * 8:
        times += 1
        if times > _MOST_TIMES + len(data) // _BYTES_A_TIME:
            raise PictureError("damaged data")
        for most in (_FIRST_CODES, _ALL_CODES):
            count = min(most, int(np.searchsorted(ends, len(data) * 8 - at, "right")))
            starts = at + ends[:count] - widths[:count]
            codes = _bits(packed, starts, widths[:count], lowest_first=lowest_first)
            special = np.flatnonzero((codes == _FORGET) | (codes == _END))
            if len(special) or count < most:
                break
        if codes[0] > _END:
            raise PictureError("damaged data")
        if not len(special) or codes[special[0]] == _END:
            return
        at += int(ends[special[0]])


def _lzw_codes(lowest_first: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where codes end after strings were forgotten, in bits, and how many bits each has."""
    strings = _END + np.maximum(np.arange(_ALL_CODES), 1)
    # Most programs lengthen codes one too early, as the first did.
    limits = np.array([512, 1024, 2048]) - (not lowest_first)
    widths = 9 + np.searchsorted(limits, strings, "right")
    return np.cumsum(widths), widths


def _bits(
    packed: NDArray[np.uint32], starts: NDArray[np.int64], widths: NDArray[np.int64], *, lowest_first: bool
) -> NDArray[np.uint32]:
    """Return the numbers of so many bits that begin at some bits."""
    bytes_at, shifts = starts >> 3, (starts & 7).astype(np.uint32)
    wide = widths.astype(np.uint32)
    if lowest_first:
        word = packed[bytes_at] | packed[bytes_at + 1] << 8 | packed[bytes_at + 2] << 16
        return (word >> shifts) & ((1 << wide) - 1)
    word = packed[bytes_at] << 16 | packed[bytes_at + 1] << 8 | packed[bytes_at + 2]
    return (word >> (24 - shifts - wide)) & ((1 << wide) - 1)


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
    width, height, palette = _png_header(data) if data.startswith(_PNG) else (*_jpeg_size(data), False)
    _check_size(width, height, most_px)
    try:
        if palette and indexed:
            return _indices(data)
        return np.asarray(imagecodecs.png_decode(data) if data.startswith(_PNG) else imagecodecs.jpeg_decode(data))
    except _DECODING_ERRORS as error:
        raise PictureError("damaged data") from error


def _check_size(width: int, height: int, most_px: int) -> None:
    if not 0 < width * height <= most_px:
        raise PictureError(f"{width} x {height} px, where 1 to {most_px:,} are taken")


def _png_header(data: bytes) -> tuple[int, int, bool]:
    """Return width, height, and whether there is a palette."""
    if len(data) < len(_PNG) + _PNG_HEADER.size:
        raise PictureError("damaged data")
    _, name, width, height, _, kind = _PNG_HEADER.unpack_from(data, len(_PNG))
    if name != b"IHDR":
        raise PictureError("damaged data")
    return width, height, kind == _PALETTE


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height, from the first frame."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            # Padding.
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise PictureError("damaged data")


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
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                check_piece(page, data[int(offset) : int(offset) + int(count)])
            return np.asarray(page.asarray())
    except PictureError:
        raise
    except _DECODING_ERRORS as error:
        raise PictureError("damaged data") from error
