"""What unpacks the chunks of a Zarr array: each within bounds, and none that runs code."""

from __future__ import annotations

import bz2
import importlib
import struct
import zlib
from collections.abc import Callable

import imagecodecs

__all__ = ["CHECKSUM_BYTES", "SLACK_BYTES", "UNPACK", "checked_sum"]

#: More bytes than are expected, which headers and what does not compress take.
SLACK_BYTES = 1 << 16
CHECKSUM_BYTES = 4
#: Of Blosc: where the length of what it packed stands in its header.
_BLOSC_LENGTH = struct.Struct("<4xI8x")


def _blosc(data: bytes, expected: int) -> bytes:
    (claimed,) = _BLOSC_LENGTH.unpack_from(data)
    if claimed > expected + SLACK_BYTES:
        raise ValueError(f"a claim of {claimed} bytes in place of {expected}")
    return bytes(imagecodecs.blosc_decode(data))


def _inflated(bits: int) -> Callable[[bytes, int], bytes]:
    return lambda data, expected: zlib.decompressobj(bits).decompress(data, expected + SLACK_BYTES)


def _lz4(data: bytes, expected: int) -> bytes:
    # Its length stands before it, as numcodecs writes it.
    if int.from_bytes(data[:4], "little") > expected + SLACK_BYTES:
        raise ValueError("a claim of more bytes than a chunk has")
    return bytes(imagecodecs.lz4_decode(data, header=True))


def checked_sum(data: bytes, expected: int) -> bytes:
    """Return data without the checksum behind it, which is compared where a library knows CRC-32C.

    Raises
    ------
    ValueError
        If it is that of other data.
    """
    del expected
    body, stated = data[:-CHECKSUM_BYTES], int.from_bytes(data[-CHECKSUM_BYTES:], "little")
    try:
        found = int(importlib.import_module("google_crc32c").value(body))
    except ImportError:
        return body
    if found != stated:
        raise ValueError("a checksum of other data")
    return body


#: What unpacks bytes, by the names that Zarr has for it: given the packed bytes and about how many there will be.
UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": _blosc,
    "zstd": lambda data, expected: bytes(imagecodecs.zstd_decode(data, out=expected + SLACK_BYTES)),
    "zlib": _inflated(zlib.MAX_WBITS),
    "gzip": _inflated(zlib.MAX_WBITS | 16),
    "bz2": lambda data, expected: bz2.BZ2Decompressor().decompress(data, expected + SLACK_BYTES),
    "lz4": _lz4,
    "crc32c": checked_sum,
}
