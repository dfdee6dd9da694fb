"""One array of a Zarr hierarchy, of the second and the third format: bytes per sample, decoded within bounds.

Read here and not with zarr, because a slide comes from anywhere: what a chunk claims to hold is never believed, no
codec that runs code is known, and a chunk that is not stored is told from one that is black.
"""

from __future__ import annotations

import bz2
import importlib
import math
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import (
    CorruptSlideError,
    FluorescenceError,
    MetastasisError,
    NotASlideError,
    brief,
    first_line,
)
from napari_metastasis.slides.tiff_tiles import MAX_PIECE_PX
from napari_metastasis.slides.zarr_files import ZarrFiles

__all__ = ["ArrayLayout", "ZarrArray", "array_layout"]

UInt8Array = npt.NDArray[np.uint8]

#: More bytes than are expected, which headers and what does not compress take.
_SLACK_BYTES = 1 << 16
#: Axes of an image: t, c, z, y, x; more mean nothing.
_MOST_AXES = 6
_MOST_SIDE = 1 << 24
#: Chunks of a shard, and shards whose tables are kept: 16 bytes a chunk.
_MOST_IN_SHARD, _KEPT_TABLES = 1 << 18, 64
_NOT_STORED = (1 << 64) - 1
_CHECKSUM_BYTES = 4
#: Of Blosc: where the length of what it packed stands in its header.
_BLOSC_LENGTH = struct.Struct("<4xI8x")

_DECODING_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, EOFError, OSError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """How an array is stored.

    Attributes
    ----------
    shape
        Of the array.
    chunk
        Shape of a chunk, which is decoded whole.
    fill
        What a chunk that is not stored stands for.
    codecs
        Names of what unpacks a chunk's bytes, in the order of unpacking.
    order
        Axes of the array in the order in which a chunk holds them, the slowest first.
    separator
        Between the numbers of a key, and what stands before them.
    shard
        Shape of what lies in one file, where that holds many chunks; else ``None``.
    table_at_end, table_checked
        Where the table of a shard stands, and whether a checksum follows it.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    fill: int
    codecs: tuple[str, ...]
    order: tuple[int, ...]
    separator: tuple[str, str]
    shard: tuple[int, ...] | None = None
    table_at_end: bool = True
    table_checked: bool = True

    @property
    def chunk_bytes(self) -> int:
        """Return the length of a decoded chunk."""
        return math.prod(self.chunk)


class ZarrArray:
    """Chunks of an array; may be used from many threads.

    Parameters
    ----------
    files
        Of the hierarchy.
    path
        Of the array in it.
    layout
        From :func:`array_layout`.
    """

    def __init__(self, files: ZarrFiles, path: str, layout: ArrayLayout) -> None:
        self._files = files
        self._path = path
        self.layout = layout
        self._tables: OrderedDict[str, npt.NDArray[np.uint64] | None] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, at: Sequence[int]) -> str:
        """Return the file in which a chunk lies, by the numbers of the chunk along each axis."""
        layout = self.layout
        if layout.shard is not None:
            at = [number * chunk // shard for number, chunk, shard in zip(at, layout.chunk, layout.shard, strict=True)]
        prefix, separator = layout.separator
        numbers = separator.join(map(str, at)) if at else "0"
        return f"{self._path}/{prefix}{numbers}".lstrip("/")

    def chunk(self, at: Sequence[int]) -> UInt8Array | None:
        """Return a chunk, uint8 of the shape of a chunk, also where it reaches past the array; ``None`` for none.

        Raises
        ------
        CorruptSlideError
            If it cannot be decoded.
        NetworkError
            If the network fails.
        """
        key = self.key(at)
        data = self._stored(at, key)
        if data is None:
            return None
        expected = self.layout.chunk_bytes
        try:
            for codec in self.layout.codecs:
                data = _UNPACK[codec](data, expected)
            if len(data) != expected:
                raise ValueError(f"{len(data)} bytes in place of {expected}")
        except (*_DECODING_ERRORS, struct.error, zlib.error) as error:
            raise CorruptSlideError(
                f"expected an image chunk of {self._files.name} in {key}, got damaged data ({first_line(error)}); "
                "copy the slide again from its source"
            ) from error
        order = self.layout.order
        stored = np.frombuffer(data, np.uint8).reshape([self.layout.chunk[axis] for axis in order])
        return stored.transpose(np.argsort(order))

    def _stored(self, at: Sequence[int], key: str) -> bytes | None:
        layout, most = self.layout, self.layout.chunk_bytes + _SLACK_BYTES
        if layout.shard is None:
            return self._files.read(key, most_bytes=most)
        table = self._table(key)
        if table is None:
            return None
        inside = [shard // chunk for shard, chunk in zip(layout.shard, layout.chunk, strict=True)]
        number = int(np.ravel_multi_index([one % count for one, count in zip(at, inside, strict=True)], inside))
        offset, count = map(int, table[number])
        if offset == count == _NOT_STORED:
            return None
        if count > most:
            raise self._damaged_table(key)
        data = self._files.read(key, offset, offset + count, most_bytes=most)
        if data is None or len(data) != count:
            raise self._damaged_table(key)
        return data

    def _table(self, key: str) -> npt.NDArray[np.uint64] | None:
        """Return where the chunks of a shard lie, uint64 of shape (chunks, 2); ``None`` for a shard that is none."""
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        table = self._read_table(key)
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table

    def _read_table(self, key: str) -> npt.NDArray[np.uint64] | None:
        layout = self.layout
        assert layout.shard is not None
        chunks = math.prod(layout.shard) // layout.chunk_bytes
        length = 16 * chunks + _CHECKSUM_BYTES * layout.table_checked
        start = 0
        if layout.table_at_end:
            size = self._files.size(key)
            if size is None:
                return None
            start = size - length
            if start < 0:
                raise self._damaged_table(key)
        data = self._files.read(key, start, start + length, most_bytes=length)
        if data is None:
            return None
        if len(data) != length:
            raise self._damaged_table(key)
        if layout.table_checked:
            try:
                data = _checked_sum(data, length)
            except ValueError as error:
                raise self._damaged_table(key) from error
        return np.frombuffer(data, "<u8").reshape(chunks, 2)

    def _damaged_table(self, key: str) -> CorruptSlideError:
        return CorruptSlideError(
            f"expected the chunks of {self._files.name} in {key}, got a damaged file; copy the slide again from its "
            "source"
        )


def array_layout(about: Mapping[str, Any], name: str) -> ArrayLayout:
    """Return how an array is stored, from its description.

    Parameters
    ----------
    about
        What ``zarr.json`` or ``.zarray`` holds.
    name
        Of the hierarchy, for messages.

    Raises
    ------
    NotASlideError
        If it cannot be read here.
    FluorescenceError
        If its samples are wider than 8 bits.
    CorruptSlideError
        If the description is damaged.
    """
    try:
        layout = _third(about, name) if about.get("zarr_format") == 3 else _second(about, name)
        _check(layout)
    except MetastasisError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CorruptSlideError(
            f"expected the description of an array in {name}, got a damaged one ({first_line(error)}); copy the slide "
            "again from its source"
        ) from error
    if layout.chunk_bytes > MAX_PIECE_PX:
        raise NotASlideError(
            f"expected chunks of at most {MAX_PIECE_PX:,} bytes in {name}, got {layout.chunk_bytes:,}; write it again "
            "in chunks of 512 px"
        )
    return layout


def _second(about: Mapping[str, Any], name: str) -> ArrayLayout:
    _check_dtype(str(about["dtype"]).lstrip("|<>=").replace("u1", "uint8"), name)
    if about.get("filters"):
        raise _unknown(about["filters"][0].get("id"), name)
    compressor, shape = about.get("compressor"), _sizes(about["shape"])
    axes = tuple(range(len(shape)))
    return ArrayLayout(
        shape=shape,
        chunk=_sizes(about["chunks"]),
        fill=_fill(about.get("fill_value")),
        codecs=() if compressor is None else (_known(compressor["id"], name),),
        order=axes[::-1] if about.get("order") == "F" else axes,
        separator=("", _separator(about.get("dimension_separator", "."))),
    )


def _third(about: Mapping[str, Any], name: str) -> ArrayLayout:
    _check_dtype(about["data_type"], name)
    keys, shape = about["chunk_key_encoding"], _sizes(about["shape"])
    options = keys.get("configuration") or {}
    if keys["name"] == "default":
        separator = _separator(options.get("separator", "/"))
        prefix = f"c{separator}"
    else:
        prefix, separator = "", _separator(options.get("separator", "."))
    layout = ArrayLayout(
        shape=shape,
        chunk=_sizes(about["chunk_grid"]["configuration"]["chunk_shape"]),
        fill=_fill(about.get("fill_value")),
        codecs=(),
        order=tuple(range(len(shape))),
        separator=(prefix, separator),
    )
    codecs = about["codecs"]
    if codecs[0]["name"] != "sharding_indexed":
        return _with_codecs(layout, codecs, name)
    if len(codecs) > 1:
        raise _unknown(codecs[1]["name"], name)
    inside = codecs[0]["configuration"]
    table = [one["name"] for one in inside["index_codecs"]]
    if table not in (["bytes"], ["bytes", "crc32c"]):
        raise _unknown(table[-1], name)
    sharded = replace(
        layout,
        shard=layout.chunk,
        chunk=_sizes(inside["chunk_shape"]),
        table_at_end=inside.get("index_location", "end") == "end",
        table_checked="crc32c" in table,
    )
    return _with_codecs(sharded, inside["codecs"], name)


def _with_codecs(layout: ArrayLayout, codecs: Sequence[Mapping[str, Any]], name: str) -> ArrayLayout:
    order, unpack = layout.order, []
    for one in codecs:
        if one["name"] == "transpose":
            turned = one["configuration"]["order"]
            order = tuple(order[int(axis)] for axis in turned)
        elif one["name"] != "bytes":
            unpack.append(_known(str(one["name"]).removeprefix("numcodecs."), name))
    return replace(layout, codecs=tuple(reversed(unpack)), order=order)


def _check(layout: ArrayLayout) -> None:
    axes = len(layout.shape)
    if not 2 <= axes <= _MOST_AXES or len(layout.chunk) != axes or sorted(layout.order) != list(range(axes)):
        raise ValueError("axes that do not fit")
    if layout.shard is not None:
        parts = zip(layout.shard, layout.chunk, strict=True)
        if (
            any(shard % chunk for shard, chunk in parts)
            or math.prod(layout.shard) > _MOST_IN_SHARD * layout.chunk_bytes
        ):
            raise ValueError("shards that hold no whole chunks, or too many")


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(one) is int and 0 < one <= _MOST_SIDE for one in values):
        raise ValueError(f"sizes that no image has: {brief(values)}")
    return tuple(values)


def _fill(value: Any) -> int:
    if value is None:
        return 0
    if type(value) not in (int, float) or not 0 <= value <= 255:
        raise ValueError(f"a fill value that is no sample: {brief(value)}")
    return int(value)


def _separator(text: Any) -> str:
    if text not in (".", "/"):
        raise ValueError(f"a separator of keys that is none: {brief(text)}")
    return str(text)


def _check_dtype(dtype: Any, name: str) -> None:
    if dtype == "uint8":
        return
    if dtype in ("uint16", "u2", "int16", "i2", "float32", "f4"):
        raise FluorescenceError(
            f"expected 8 bits per channel in {name}, got {brief(dtype)}, as fluorescence images have; choose an H&E "
            "slide, or export it as 8-bit RGB"
        )
    raise NotASlideError(f"expected 8 bits per channel in {name}, got {brief(dtype)}; export the slide as 8-bit RGB")


def _known(codec: str, name: str) -> str:
    if codec not in _UNPACK:
        raise _unknown(codec, name)
    return codec


def _unknown(codec: Any, name: str) -> NotASlideError:
    return NotASlideError(
        f"expected chunks that are packed with {', '.join(_UNPACK)} in {name}, got {brief(codec)}; write it again with "
        "one of these"
    )


def _blosc(data: bytes, expected: int) -> bytes:
    (claimed,) = _BLOSC_LENGTH.unpack_from(data)
    if claimed > expected + _SLACK_BYTES:
        raise ValueError(f"a claim of {claimed} bytes in place of {expected}")
    return bytes(imagecodecs.blosc_decode(data))


def _inflated(bits: int) -> Callable[[bytes, int], bytes]:
    return lambda data, expected: zlib.decompressobj(bits).decompress(data, expected + _SLACK_BYTES)


def _lz4(data: bytes, expected: int) -> bytes:
    # Its length stands before it, as numcodecs writes it.
    if int.from_bytes(data[:4], "little") > expected + _SLACK_BYTES:
        raise ValueError("a claim of more bytes than a chunk has")
    return bytes(imagecodecs.lz4_decode(data, header=True))


def _checked_sum(data: bytes, expected: int) -> bytes:
    """Return data without the checksum behind it, which is compared where a library knows CRC-32C."""
    del expected
    body, stated = data[:-_CHECKSUM_BYTES], int.from_bytes(data[-_CHECKSUM_BYTES:], "little")
    try:
        found = int(importlib.import_module("google_crc32c").value(body))
    except ImportError:
        return body
    if found != stated:
        raise ValueError("a checksum of other data")
    return body


#: What unpacks bytes, by the names that Zarr has for it: given the packed bytes and about how many there will be.
_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": _blosc,
    "zstd": lambda data, expected: bytes(imagecodecs.zstd_decode(data, out=expected + _SLACK_BYTES)),
    "zlib": _inflated(zlib.MAX_WBITS),
    "gzip": _inflated(zlib.MAX_WBITS | 16),
    "bz2": lambda data, expected: bz2.BZ2Decompressor().decompress(data, expected + _SLACK_BYTES),
    "lz4": _lz4,
    "crc32c": _checked_sum,
}
