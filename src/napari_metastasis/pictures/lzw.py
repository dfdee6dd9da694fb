"""LZW in TIFF, looked through before it is decoded."""

from __future__ import annotations

from functools import cache
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_metastasis.pictures.error import PictureError

__all__ = ["check_lzw", "is_lzw"]

_LZW, _REVERSED = 5, 2
#: Codes of LZW that forget all strings, and that end the data; strings have the numbers after these.
_FORGET, _END = 256, 257
#: Codes that are looked at at once, at most more than a decoder takes; and how many bytes there are, at least, for each
#: time that strings are forgotten.
_FIRST_CODES, _ALL_CODES, _BYTES_A_TIME, _MOST_TIMES = 512, 6144, 128, 64


def is_lzw(page: Any) -> bool:
    """Return whether the pieces of a TIFF page are compressed so."""
    return bool(page.compression == _LZW)


def check_lzw(page: Any, data: bytes) -> None:
    """Refuse a stored tile or strip that is damaged.

    imagecodecs takes the first code for a byte, and where it is damaged follows it into memory that is not its own,
    which ends the process. Its place depends on how many codes there were since strings were forgotten, not on what
    they say.

    Parameters
    ----------
    page
        tifffile's page.
    data
        The tile or strip as it is stored.

    Raises
    ------
    PictureError
        If it is.
    """
    if len(data) < 2:
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


@cache
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
