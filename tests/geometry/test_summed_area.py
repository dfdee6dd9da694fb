"""Summed areas against counting cell by cell."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metastasis.geometry.summed_area import SummedArea


def spans(rng, limit, count):
    """Return (count, 2) sorted pairs from 0 to ``limit``, some of them empty."""
    return np.sort(rng.integers(0, limit + 1, (count, 2)), axis=1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(0, 12), width=st.integers(0, 12))
def test_counts_equal_counting(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.4
    table = SummedArea(mask)
    rows, columns = spans(rng, height, 5), spans(rng, width, 7)
    expected = [[np.count_nonzero(mask[top:bottom, left:right]) for left, right in columns] for top, bottom in rows]
    np.testing.assert_array_equal(table.count_grid(rows, columns), expected)
    (top, bottom), (left, right) = rows.T[:, :, None], columns.T[:, None, :]
    np.testing.assert_array_equal(table.count(top, left, bottom, right), expected)
