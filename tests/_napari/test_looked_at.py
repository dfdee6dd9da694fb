"""What was looked at lies where it was looked at."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis._napari.looked_at import LookedAt
from napari_metastasis.geometry import Point, Region, Size


@pytest.mark.parametrize("size", [Size(100_000, 70_001), Size(1000, 300), Size(300, 5000)])
def test_the_place_in_the_middle_of_a_view_is_marked(size: Size) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        looked_at = LookedAt(size)
        at = Point(float(rng.uniform(0, size.width)), float(rng.uniform(0, size.height)))
        view = Region(int(at.x) - 40, int(at.y) - 30, 81, 61)
        assert looked_at.mark(view)
        row, column = looked_at.cell_of(view.intersection(Region.of(size)).center)
        assert looked_at.mask[row, column]
        # No cell lies outside the view by more than itself.
        rows, columns = np.nonzero(looked_at.mask)
        side = looked_at.cell_px
        assert columns.min() * side > view.x - side
        assert (columns.max() + 1) * side < view.right + side
        assert rows.min() * side > view.y - side
        assert (rows.max() + 1) * side < view.bottom + side
        assert not looked_at.mark(view)


def test_cells_count_whose_middle_is_shown() -> None:
    looked_at = LookedAt(Size(5120, 2560))
    assert looked_at.cell_px == 10
    assert looked_at.mask.shape == (256, 512)
    looked_at.mark(Region(104, 206, 22, 20))
    expected = np.zeros((256, 512), bool)
    # Middles along x at 105, 115 and 125, along y at 215 and 225.
    expected[21:23, 10:13] = True
    np.testing.assert_array_equal(looked_at.mask, expected)


def test_nothing_beside_the_slide_is_marked() -> None:
    looked_at = LookedAt(Size(1000, 1000))
    assert not looked_at.mark(Region(-500, -500, 400, 400))
    assert not looked_at.mask.any()
    assert looked_at.mark(Region(-500, -500, 100_000, 100_000))
    assert looked_at.mask.all()
