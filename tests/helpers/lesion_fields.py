"""Random heatmaps of every kind that a network can hand over, as hypothesis strategies."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage


def field(seed, rows, columns, kind, missing):
    """Return a float32 heatmap: white or smooth noise, as it is or in coarse steps, with parts not scanned."""
    rng = np.random.default_rng(seed)
    values = rng.random((rows, columns))
    if "smooth" in kind:
        values = ndimage.gaussian_filter(values, 1.2)
        values = (values - values.min()) / max(np.ptp(values), 1e-9)
    if "steps" in kind:
        values = np.round(values * 16) / 16
    if "saturated" in kind:
        values = np.clip(values * 1.6, 0, 1)
    values = values.astype(np.float32)
    if missing:
        top, left = rng.integers(0, rows), rng.integers(0, columns)
        values[top : top + rows // 2, left : left + columns // 2] = np.nan
        values[rng.random(values.shape) < 0.02] = np.nan
    return values


def fields(max_side=18, kinds=("white", "smooth", "smooth steps", "white steps", "smooth saturated")):
    """Return a strategy for such heatmaps."""
    return st.builds(
        field,
        seed=st.integers(0, 2**32 - 1),
        rows=st.integers(1, max_side),
        columns=st.integers(1, max_side),
        kind=st.sampled_from(kinds),
        missing=st.booleans(),
    )
