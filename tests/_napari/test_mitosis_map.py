"""The levels of a map of mitoses as napari reads them, against the map as a whole."""

from __future__ import annotations

import numpy as np

from napari_metastasis._napari.mitosis_map import _levels_work
from napari_metastasis.geometry import CHUNK_CELLS, ChunkedCells, Size


def test_each_level_is_the_highest_of_the_cells_beneath() -> None:
    size, random = Size(2500, 1301), np.random.default_rng(3)
    chunks = {(row, column): random.random((CHUNK_CELLS, CHUNK_CELLS), np.float32) for row, column in ((0, 0), (3, 8))}
    chunks[5, 9] = random.random((1301 - 5 * CHUNK_CELLS, 2500 - 9 * CHUNK_CELLS), np.float32)
    chunks[3, 8][:17] = np.nan
    cells = ChunkedCells(size, chunks)
    levels = _levels_work(cells, lambda: False)
    assert [level.shape for level in levels] == [(1304, 2500), (652, 1250), (326, 625)]
    whole = np.full((1304, 2500), np.nan, np.float32)
    whole[:1301] = cells.whole()
    for number, level in enumerate(levels):
        blocks = whole.reshape(1304 >> number, 1 << number, 2500 >> number, 1 << number)
        highest = np.fmax.reduce(np.fmax.reduce(blocks, axis=3), axis=1)
        np.testing.assert_array_equal(np.asarray(level), highest, err_msg=f"level {number}")
        np.testing.assert_array_equal(level[100:300:2, 50:400], highest[100:300:2, 50:400])
    assert isinstance(levels[-1], np.ndarray)
