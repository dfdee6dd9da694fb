"""The cache of decoded tiles."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from napari_metastasis.slides.cache import TileCache


def tile(value: int):
    return np.full((10, 10, 3), value, np.uint8)


def test_keeps_what_was_used_last():
    cache = TileCache(1800)
    decoded = []

    def get(key: int) -> int:
        def decode():
            decoded.append(key)
            return tile(key)

        return int(cache.get(key, decode)[0, 0, 0])

    wanted = [1, 2, 3, 4, 5, 6, 1, 7, 1, 2]
    assert [get(key) for key in wanted] == wanted
    assert decoded == [1, 2, 3, 4, 5, 6, 7, 2]


def test_large_tiles_are_decoded_once_and_kept_on_the_disk():
    cache, decoded = TileCache(1000), []

    def decode(value: int):
        decoded.append(value)
        return tile(value)

    for value in (9, 8, 9, 8):
        np.testing.assert_array_equal(cache.get(value, partial(decode, value)), tile(value))
    assert decoded == [9, 8]
    assert isinstance(cache.get(9, partial(decode, 9)), np.memmap)
    cache.clear()
    cache.get(9, partial(decode, 9))
    assert decoded == [9, 8, 9]


def test_many_readers_of_a_large_tile_wait_for_one():
    cache, decoded = TileCache(1000), []
    start = threading.Barrier(4)

    def decode():
        decoded.append(1)
        time.sleep(0.05)
        return tile(7)

    def read(_):
        start.wait()
        return cache.get("large", decode, nbytes=300)[0, 0, 0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [7] * 4
    assert decoded == [1]


def test_a_full_disk_costs_only_time(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_metastasis.slides.cache.tempfile.TemporaryFile", full)
    cache = TileCache(1000)
    np.testing.assert_array_equal(cache.get(1, lambda: tile(3)), tile(3))


def test_clear():
    cache = TileCache(1000)
    cache.get(1, lambda: tile(1))
    cache.clear()
    assert cache.get(1, lambda: tile(2))[0, 0, 0] == 2


def test_what_is_forgotten_is_decoded_again_but_what_lies_on_the_disk():
    cache, decoded = TileCache(60_000), []

    def get(key, side):
        return cache.get(key, lambda: decoded.append(key) or np.zeros((side, side, 3), np.uint8))

    get("small", 20)
    get("large", 100)
    cache.forget()
    get("small", 20)
    get("large", 100)
    assert decoded == ["small", "large", "small"]
