"""Maps in memory: what is held of them, against whole arrays."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metastasis.geometry import CHUNK_CELLS, ChunkedCells, Region, Size, chunks_over, sparse_zeros


def map_of(seed: int, rows: int, columns: int) -> tuple[np.ndarray, ChunkedCells]:
    """Return a map with answers in a few places, and its chunks that hold any."""
    rng = np.random.default_rng(seed)
    whole = np.full((rows, columns), np.nan, np.float32)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(0, rows), rng.integers(0, columns)
        part = whole[y : y + 90, x : x + 120]
        part[...] = rng.random(part.shape)
        part[rng.random(part.shape) < 0.1] = np.nan
    size = Size(columns, rows)
    chunks = {key: whole[cells.slices].copy() for key, cells in chunks_over(Region.of(size), size)}
    return whole, ChunkedCells(size, {key: values for key, values in chunks.items() if not np.isnan(values).all()})


maps = st.builds(map_of, st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 700))


@settings(max_examples=40)
@given(maps, st.integers(-300, 700), st.integers(-300, 700), st.integers(0, 600), st.integers(0, 600))
def test_any_part_is_read_as_from_a_whole_array(made, x, y, width, height):
    whole, chunked = made
    expected = np.full((height, width), np.nan, np.float32)
    inside = Region(x, y, width, height).intersection(Region.of(chunked.size))
    if not inside.is_empty:
        expected[inside.shifted(-x, -y).slices] = whole[inside.slices]
    np.testing.assert_array_equal(chunked.read(Region(x, y, width, height)), expected)
    np.testing.assert_array_equal(chunked.whole(), whole)


@settings(max_examples=40)
@given(maps)
def test_pooling_equals_that_of_a_whole_array(made):
    whole, chunked = made
    rows, columns = whole.shape
    padded = np.pad(whole, ((0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    expected = np.fmax(np.fmax(padded[::2, ::2], padded[1::2, ::2]), np.fmax(padded[::2, 1::2], padded[1::2, 1::2]))
    pooled = chunked.max_pooled()
    np.testing.assert_array_equal(pooled.whole(), expected)
    assert not any(np.isnan(values).all() for _, values in pooled)


def test_the_chunks_of_an_array_are_views_of_it():
    whole = np.arange(300 * 520, dtype=np.float32).reshape(300, 520)
    chunked = ChunkedCells.of(whole)
    assert [cells for cells, _ in chunked] == list(Region(0, 0, 520, 300).split(CHUNK_CELLS))
    assert all(np.shares_memory(values, whole) for _, values in chunked)
    assert ChunkedCells.of(chunked) is chunked
    assert not ChunkedCells.of(whole[:0]).chunks


@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (7,)])
def test_sparse_zeros_are_an_array_as_any(shape):
    zeros = sparse_zeros(shape, np.int32)
    assert (zeros.shape, zeros.dtype, zeros.any()) == (shape, np.int32, False)
    zeros += 1
    assert zeros.sum() == zeros.size


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell how much memory is held")
def test_sparse_zeros_take_memory_where_something_is_written():
    def held_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6

    # What is freed here would be handed out again.
    np.ones(300_000_000, np.bool_)
    before = held_mb()
    zeros = sparse_zeros((30_000, 10_000))
    zeros[15_000:15_100] = True
    assert np.count_nonzero(zeros) == 1_000_000
    assert held_mb() - before < 10
