"""What has to be answered for some cells to have been looked at, and back again, against every pair of cells."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from napari_metastasis.annotations import Annotation, HotSpot, rasterize
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, ModelFrame, Point, Region, Size
from napari_metastasis.lesions import SearchedTissue
from napari_metastasis.scanning import looked_at, margin_cells
from napari_metastasis.scanning.looked_at import with_margin

#: Cells of 2.5 µm, four to five pixels of the slide; of two chunks each way, the last ones cut.
MODEL = ModelFrame(scale=2.15, mpp=0.5814, size=Size(600, 590))
FRAME = HeatmapFrame(model=MODEL, patch_px=2, stride_px=2)


def near(cells, radius):
    """Return which cells lie within a radius of a true one, by every pair of cells."""
    places = np.argwhere(cells)
    at = np.argwhere(np.ones(cells.shape, np.bool_)).reshape(*cells.shape, 2)
    out = np.zeros(cells.shape, np.bool_)
    for y, x in places:
        out |= np.hypot(at[..., 0] - y, at[..., 1] - x) <= radius
    return out


@pytest.fixture(scope="module")
def asked():
    outline = np.array([(990.0, 950), (1200, 1010), (1120, 1180), (1010, 1130), (1060, 1060)])
    return rasterize([Annotation.of_rings("shape", "", outline)], FRAME, FRAME.cells)


def test_a_margin_is_answered_and_none_of_it_was_looked_at(asked):
    radius = margin_cells(FRAME)
    assert radius == pytest.approx(3.0, rel=0.01)
    tissue = default_rng(1).random(asked.shape) > 0.02
    tissue[:, :250] = False
    answered = with_margin(asked, FRAME)
    np.testing.assert_array_equal(answered, near(asked, radius))
    values = np.where(answered & tissue, np.float32(0.5), np.float32(np.nan))
    cells = ChunkedCells.of(values)
    parts = list(looked_at(tissue, cells, FRAME))
    found = np.zeros(asked.shape, np.bool_)
    for region, inside in parts:
        found[region.slices] = inside
    slow = tissue & answered & ~near(tissue & ~answered, radius)
    np.testing.assert_array_equal(found, slow)
    # All that was asked for, and next to nothing beside it: its one notch is filled.
    assert found[asked & tissue].all()
    assert np.count_nonzero(found & ~asked) < 0.02 * np.count_nonzero(asked)

    searched = SearchedTissue.of(parts, FRAME)
    assert searched.mm2 == pytest.approx(np.count_nonzero(found) * (FRAME.cell_um / 1000) ** 2)
    at = np.argwhere(np.ones(found.shape, np.bool_))
    xy = np.array([(point.x, point.y) for y, x in at for point in [FRAME.cell_center(x, y)]])
    np.testing.assert_array_equal(searched.holds(xy), found.ravel())
    assert not searched.holds(np.array([(-5.0, 900.0), (1e6, 900.0)])).any()
    all_of_it = HotSpot(Point(650, 650), 1e4, 1e4, "rectangle", 1.0, 0)
    assert searched.mm2_within(all_of_it) == pytest.approx(searched.mm2)


def test_where_all_tissue_is_answered_all_of_it_was_looked_at(asked):
    values = np.where(asked, np.float32(0.5), np.float32(np.nan))
    for region, inside in looked_at(asked, ChunkedCells.of(values), FRAME):
        np.testing.assert_array_equal(inside, asked[region.slices])
    assert Region.of(FRAME.cells).contains(region)
