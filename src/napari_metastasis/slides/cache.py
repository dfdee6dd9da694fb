"""A cache of decoded tiles, which neighbouring reads share; large ones are kept on the disk."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

__all__ = ["TileCache"]

UInt8Array = npt.NDArray[np.uint8]

#: A tile of more than this share of a cache would leave no room for its neighbours: it is spooled.
_LARGE_SHARE = 1 / 6
#: Spooled tiles of one slide: the oldest make room for others.
_SPOOL_BYTES = 8 << 30


class TileCache:
    """The tiles used last, bounded in bytes; may be used from many threads.

    Two threads that miss the same tile at once both decode it: waiting for each other would cost more than it saves.
    Large tiles (a slide in one compressed strip, a picture) are decoded one at a time and once, and then mapped from a
    file that has no name and goes with the process.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._memory = _Tiles(capacity_bytes)
        self._disk = _Tiles(_SPOOL_BYTES)
        self._large_bytes = capacity_bytes * _LARGE_SHARE
        self._lock = threading.Lock()
        self._decoding = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], UInt8Array], *, nbytes: int = 0) -> UInt8Array:
        """Return the tile of ``key``, decoded where it is not held. The array is shared: do not write to it.

        Parameters
        ----------
        key
            Of the tile.
        decode
            Returns its pixels.
        nbytes
            Their size, where it is known before they are decoded.
        """
        tile = self.held(key)
        if tile is not None:
            return tile
        if nbytes <= self._large_bytes:
            return self.keep(key, decode())
        with self._decoding:
            tile = self.held(key)
            return self.keep(key, decode()) if tile is None else tile

    def forget(self) -> None:
        """Drop the tiles in memory; those on the disk, which took long to decode, stay."""
        with self._lock:
            self._memory.clear()

    def clear(self) -> None:
        """Drop every tile."""
        with self._lock:
            self._memory.clear()
            self._disk.clear()

    def held(self, key: Hashable) -> UInt8Array | None:
        """Return the tile of ``key``; ``None`` where it has to be decoded."""
        with self._lock:
            tile = self._memory.get(key)
            return self._disk.get(key) if tile is None else tile

    def keep(self, key: Hashable, tile: UInt8Array) -> UInt8Array:
        """Keep a tile that was decoded, and return it."""
        large = tile.nbytes > self._large_bytes
        if large:
            tile = _spooled(tile)
        with self._lock:
            (self._disk if large else self._memory).keep(key, tile)
        return tile


class _Tiles:
    """The tiles used last, bounded in bytes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._bytes = 0
        self._tiles: OrderedDict[Hashable, UInt8Array] = OrderedDict()

    def get(self, key: Hashable) -> UInt8Array | None:
        tile = self._tiles.get(key)
        if tile is not None:
            self._tiles.move_to_end(key)
        return tile

    def keep(self, key: Hashable, tile: UInt8Array) -> None:
        if key in self._tiles or tile.nbytes > self._capacity:
            return
        self._tiles[key] = tile
        self._bytes += tile.nbytes
        while self._bytes > self._capacity:
            _, dropped = self._tiles.popitem(last=False)
            self._bytes -= dropped.nbytes

    def clear(self) -> None:
        self._tiles.clear()
        self._bytes = 0


def _spooled(tile: UInt8Array) -> UInt8Array:
    """Return the same pixels, mapped from a temporary file; as they are where the disk has no room for them."""
    try:
        with tempfile.TemporaryFile(prefix="napari-metastasis-") as file:
            # The map keeps the file, which has no name, open.
            tile.tofile(file)
            file.flush()
            return np.memmap(file, dtype=tile.dtype, mode="r", shape=tile.shape)
    except OSError:
        return tile
