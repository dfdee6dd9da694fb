"""The probability of single pixels, against a loop over cell centres."""

from __future__ import annotations

import numpy as np
import pytest
from pixels import pixel_probabilities

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size


@pytest.fixture
def frame():
    model = ModelFrame.fit(slide=Size(400, 320), mpp=0.7, model_mpp=0.972, downsamples=(1.0, 2.0))
    return HeatmapFrame(model=model, patch_px=96, stride_px=8)


def test_a_pixel_under_a_cell_centre_has_the_cells_answer(frame):
    heatmap = np.random.default_rng(0).random(frame.cells.shape, dtype=np.float32)
    column, row = 7, 11
    center = frame.cell_center(column, row)
    x, y = int(center.x), int(center.y)
    near = pixel_probabilities(heatmap, frame, Region(x, y, 1, 1))[0, 0]
    # The pixel's centre lies off the cell's by less than a tenth of a cell, so bilinear weights stay near one.
    assert near == pytest.approx(heatmap[row, column], abs=0.2)


def test_bilinear_weights_against_a_loop(frame):
    heatmap = np.random.default_rng(1).random(frame.cells.shape, dtype=np.float32)
    region = Region(90, 40, 12, 9)
    fast = pixel_probabilities(heatmap, frame, region)
    for y in range(region.height):
        for x in range(region.width):
            total = weight_sum = 0.0
            for row in range(frame.cells.height):
                for column in range(frame.cells.width):
                    center = frame.cell_center(column, row)
                    dx = abs(region.x + x + 0.5 - center.x) / frame.cell_px
                    dy = abs(region.y + y + 0.5 - center.y) / frame.cell_px
                    weight = max(0.0, 1 - dx) * max(0.0, 1 - dy)
                    total += weight * heatmap[row, column]
                    weight_sum += weight
            assert weight_sum == pytest.approx(1)
            assert fast[y, x] == pytest.approx(total, abs=1e-5)


def test_cells_that_were_not_scanned_count_as_zero(frame):
    heatmap = np.full(frame.cells.shape, np.nan, np.float32)
    assert not pixel_probabilities(heatmap, frame, Region(0, 0, 30, 30)).any()
