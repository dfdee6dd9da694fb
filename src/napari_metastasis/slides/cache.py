"""A cache of decoded tiles, which neighbouring reads share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

__all__ = ["TileCache"]

UInt8Array = npt.NDArray[np.uint8]


class TileCache:
    """The tiles used last, bounded in bytes; may be used from many threads.

    Two threads that miss the same tile at once both decode it: waiting for each other would cost more than it saves.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._held = 0
        self._tiles: OrderedDict[Hashable, UInt8Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], UInt8Array]) -> UInt8Array:
        """Return the tile of ``key``, decoded where it is not held. The array is shared: do not write to it."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
        tile = decode()
        if tile.nbytes <= self._capacity:
            self._keep(key, tile)
        return tile

    def clear(self) -> None:
        """Drop every tile."""
        with self._lock:
            self._tiles.clear()
            self._held = 0

    def _keep(self, key: Hashable, tile: UInt8Array) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._held += tile.nbytes
            while self._held > self._capacity:
                _, dropped = self._tiles.popitem(last=False)
                self._held -= dropped.nbytes
