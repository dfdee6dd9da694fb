"""What changed between two maps lies where they lie, also where their cells are not the same."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.scanning import PROBABILITY, MapValues, what_changed


def frame(mpp: float, patch_px: int, stride_px: int) -> HeatmapFrame:
    model = ModelFrame.fit(slide=Size(900, 700), mpp=0.5, model_mpp=mpp, downsamples=(1.0, 2.0))
    return HeatmapFrame(model=model, patch_px=patch_px, stride_px=stride_px)


def map_on(frame_: HeatmapFrame, seed: int) -> MapValues:
    values = np.random.default_rng(seed).random(frame_.cells.shape).astype(np.float32)
    values[::5, ::3] = np.nan
    return MapValues(PROBABILITY, frame_, values)


def old_at(old: MapValues, x: float, y: float) -> float:
    """Return the answer of the cell whose square a level-0 location lies in, looked for one by one."""
    frame_ = old.frame
    for row in range(old.values.shape[0]):
        for column in range(old.values.shape[1]):
            corner = frame_.cell_corner(column, row)
            if 0 <= x - corner.x < frame_.cell_px and 0 <= y - corner.y < frame_.cell_px:
                return float(old.values[row, column])
    return float("nan")


@pytest.mark.parametrize("of_old", [(1.0, 96, 8), (1.0, 96, 16), (0.7, 64, 16), (1.3, 33, 11)])
def test_each_cell_is_compared_with_the_old_cell_under_its_middle(of_old: tuple[float, int, int]) -> None:
    old, new = map_on(frame(*of_old), 1), map_on(frame(1.0, 96, 8), 2)
    change = what_changed(old, new)
    assert change.frame == new.frame
    rng = np.random.default_rng(5)
    rows, columns = (rng.integers(0, size, 60) for size in new.values.shape)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        middle = new.frame.cell_center(column, row)
        wanted = float(new.values[row, column]) - old_at(old, middle.x + 1e-6, middle.y + 1e-6)
        if not np.isclose(middle.x % old.frame.cell_px, 0) and not np.isclose(middle.y % old.frame.cell_px, 0):
            np.testing.assert_allclose(change.values[row, column], wanted, rtol=1e-6, equal_nan=True)
