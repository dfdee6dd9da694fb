"""The cache of decoded tiles."""

from __future__ import annotations

import numpy as np

from napari_metastasis.slides.cache import TileCache


def tile(value: int):
    return np.full((10, 10, 3), value, np.uint8)


def test_keeps_what_was_used_last():
    cache = TileCache(600)
    decoded = []

    def get(key: int) -> int:
        def decode():
            decoded.append(key)
            return tile(key)

        return int(cache.get(key, decode)[0, 0, 0])

    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert decoded == [1, 2, 3, 2]


def test_what_is_larger_than_the_cache_passes_through():
    cache = TileCache(100)
    for value in (9, 8):  # decoded each time
        assert cache.get("large", lambda value=value: tile(value))[0, 0, 0] == value


def test_clear():
    cache = TileCache(1000)
    cache.get(1, lambda: tile(1))
    cache.clear()
    assert cache.get(1, lambda: tile(2))[0, 0, 0] == 2
