"""PNG, JPEG and TIFF in memory, as arrays, and the pieces of TIFF pages: looked at before they are decoded.

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

__all__ = ["PictureError", "check_pages", "check_piece", "decode_picture", "is_decoded", "is_png_or_jpeg"]

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
#: Compressions of TIFF whose decoders refuse what is damaged: none, CCITT, LZW, JPEG, Deflate, PackBits, JPEG 2000,
#: LZMA, Zstandard, WebP, PNG, JPEG XL. JPEG XR's ends the process, LERC's fills the memory, others are rarely there.
_DECODED = frozenset({
    1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 33003, 33004, 33005, 33007, 34712, 34892, 34925, 34926, 34927, 34933, 50000,
    50001, 50002, 52546,
})  # fmt: skip
#: Pixels that a piece may claim beyond what its page says; a few more cost nothing, and some writers pad.
_PIECE_SLACK, _SMALL_PX = 4, 1 << 22
#: Of JPEG 2000: where a codestream begins, then its size and the corner that is left out, and the number of components.
_CODESTREAM, _JPEG2000_SIZE = b"\xff\x4f\xff\x51", struct.Struct(">HHIIIIIIIIH")
_MOST_COMPONENTS = 4
#: Bytes until a WebP has told its size, whichever kind it is of.
_WEBP_HEADER = 30

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


def is_decoded(page: Any) -> bool:
    """Return whether the pieces of a TIFF page may be handed to a decoder."""
    return int(page.compression) in _DECODED


def check_piece(page: Any, data: bytes) -> None:
    """Refuse a tile or strip of a TIFF page before it is decoded, if its decoder would not refuse it.

    It may claim to be much larger than the page says, or lead the decoder of LZW into memory that is not its own.

    Raises
    ------
    PictureError
        If it does either.
    """
    rows = int(page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength))
    stated = rows * int(page.tilewidth if page.is_tiled else page.imagewidth)
    claimed = _claimed_px(data)
    if claimed > max(_PIECE_SLACK * stated, _SMALL_PX):
        raise PictureError(f"a piece that claims {claimed:,} px, where the page says {stated:,}")
    if page.compression == _LZW and len(data) > 1:
        _check_lzw(bytes(imagecodecs.bitorder_decode(data)) if page.fillorder == _REVERSED else data)


def _claimed_px(data: bytes) -> int:
    """Return how many pixels data claim to hold, or more where components are too many; 0 where nothing is claimed."""
    try:
        if data.startswith(_PNG):
            width, height, _ = _png_header(data)
        elif data.startswith(_JPEG):
            width, height = _jpeg_size(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            width, height = _webp_size(data)
        elif (at := data[:4096].find(_CODESTREAM)) >= 0:
            _, _, right, bottom, left, top, *_, components = _JPEG2000_SIZE.unpack_from(data, at + len(_CODESTREAM))
            width, height = max(0, right - left), max(0, bottom - top)
            width *= -(-components // _MOST_COMPONENTS)
        else:
            return 0
    except (PictureError, struct.error, IndexError):
        return 0  # the decoder refuses it
    return width * height


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, low = data[12:16], 0x3FFF
    if len(data) < _WEBP_HEADER or kind not in (b"VP8 ", b"VP8L", b"VP8X"):
        raise PictureError("damaged data")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & low), 1 + (bits >> 14 & low)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & low, height & low


def _check_lzw(data: bytes) -> None:
    """Refuse LZW whose first code, after strings were forgotten, is none of a byte.

    imagecodecs follows it into memory that is not its own. Where codes lie depends on how many there were since strings
    were forgotten, not on what they say.

    Raises
    ------
    PictureError
        If there is one.
    """
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
            if not is_decoded(page):
                raise PictureError(f"a TIFF with {getattr(page.compression, 'name', page.compression)} compression")
            for piece, _ in tiff.filehandle.read_segments(page.dataoffsets, page.databytecounts):
                check_piece(page, piece or b"")
            return np.asarray(page.asarray())
    except PictureError:
        raise
    except _DECODING_ERRORS as error:
        raise PictureError("damaged data") from error
