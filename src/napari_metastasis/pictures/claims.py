"""What images and pieces of TIFF pages claim to be, read before a decoder gets them."""

from __future__ import annotations

import struct
from typing import Any

import tifffile

from napari_metastasis.pictures.error import PictureError
from napari_metastasis.pictures.lzw import check_lzw, is_lzw

__all__ = ["PNG", "check_pages", "check_piece", "claimed_px", "is_decoded", "is_png_or_jpeg", "jpeg_size", "png_header"]

#: What a PNG begins with.
PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
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


def is_png_or_jpeg(start: bytes) -> bool:
    """Return whether data begin as a PNG or a JPEG does."""
    return start.startswith((PNG, _JPEG))


def check_pages(tiff: tifffile.TiffFile) -> None:
    """Refuse an open TIFF whose pages lead back to one before, or never end: tifffile would follow them for hours.

    Raises
    ------
    PictureError
        If they do. A chain that breaks off is left to whoever reads it.
    """
    layout, file = tiff.tiff, tiff.filehandle
    try:
        offset, seen = tiff.pages.first.offset, set[int]()
    except IndexError:
        return
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
    """Refuse a stored tile or strip that its decoder would fill the memory with, or end the process on.

    Parameters
    ----------
    page
        tifffile's page.
    data
        The tile or strip as it is stored.

    Raises
    ------
    PictureError
        If it claims to be much larger than the page says, or is damaged LZW.
    """
    if is_lzw(page):
        check_lzw(page, data)
        return
    rows = int(page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength))
    stated = rows * int(page.tilewidth if page.is_tiled else page.imagewidth)
    claimed = claimed_px(data)
    if claimed > max(_PIECE_SLACK * stated, _SMALL_PX):
        raise PictureError(f"a piece that claims {claimed:,} px, where the page says {stated:,}")


def claimed_px(data: bytes) -> int:
    """Return how many pixels data claim to hold, or more where components are too many; 0 where nothing is claimed."""
    try:
        if data.startswith(PNG):
            width, height, _ = png_header(data)
        elif data.startswith(_JPEG):
            width, height = jpeg_size(data)
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


def png_header(data: bytes) -> tuple[int, int, bool]:
    """Return width, height, and whether there is a palette."""
    if len(data) < len(PNG) + _PNG_HEADER.size:
        raise PictureError("damaged data")
    _, name, width, height, _, kind = _PNG_HEADER.unpack_from(data, len(PNG))
    if name != b"IHDR":
        raise PictureError("damaged data")
    return width, height, kind == _PALETTE


def jpeg_size(data: bytes) -> tuple[int, int]:
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
