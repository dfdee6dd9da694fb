"""Frames: the cell of a patch lies around the patch's centre, in every unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Point, Region, Size

MPPS = (0.243, 0.25, 0.486, 0.5, 0.972)
SLIDE = Size(5000, 4100)


def frame_at(mpp, *, patch_px=96, stride_px=8, slide=None):
    downsamples = tuple(float(2**k) for k in range(5))
    model = ModelFrame.fit(slide=slide or SLIDE, mpp=mpp, model_mpp=0.972, downsamples=downsamples)
    return HeatmapFrame(model=model, patch_px=patch_px, stride_px=stride_px)


@pytest.mark.parametrize(("mpp", "scale"), [(0.243, 4.0), (0.25, 3.888), (0.486, 2.0), (0.5, 1.944), (0.972, 1.0)])
def test_a_level_within_two_percent_is_taken_as_it_is(mpp, scale):
    assert frame_at(mpp).model.scale == pytest.approx(scale, abs=1e-12)


def test_the_effective_resolution_is_that_of_the_level():
    frame = frame_at(0.2465)
    assert frame.model.scale == 4.0
    assert frame.model.effective_mpp == pytest.approx(0.986)


@pytest.mark.parametrize("mpp", MPPS)
@pytest.mark.parametrize(("patch_px", "stride_px"), [(96, 16), (96, 8), (96, 1), (244, 32), (244, 16), (244, 1)])
def test_a_cell_lies_around_the_centre_of_its_patch(mpp, patch_px, stride_px):
    frame = frame_at(mpp, patch_px=patch_px, stride_px=stride_px)
    for column, row in [(0, 0), (3, 7), (40, 21)]:
        window = frame.read_window(Region(column, row, 1, 1))
        assert window.size == Size(patch_px, patch_px)
        center = frame.cell_center(column, row)
        assert center.x == pytest.approx((window.x + patch_px / 2) * frame.model.scale)
        assert center.y == pytest.approx((window.y + patch_px / 2) * frame.model.scale)


@pytest.mark.parametrize("mpp", MPPS)
def test_cells_cover_the_slide(mpp):
    slide = Size(5003, 4097)
    frame = frame_at(mpp, slide=slide)
    first, last = frame.cell_corner(0, 0), frame.cell_corner(frame.cells.width, frame.cells.height)
    assert first.x <= 0
    assert first.y <= 0
    assert last.x >= slide.width
    assert last.y >= slide.height
    assert last.x - frame.cell_px < slide.width + frame.model.scale


@pytest.mark.parametrize("mpp", MPPS)
def test_micrometres_put_the_first_pixels_centre_at_zero(mpp):
    frame = frame_at(mpp)
    center = frame.cell_center(12, 12)
    assert frame.um.translate + 12 * frame.um.scale == pytest.approx((center.x - 0.5) * mpp)
    level = LevelFrame(downsample=4.0, mpp=mpp)
    # Level pixel 0 covers level-0 pixels 0..3, whose centres average 1.5.
    assert level.um.translate == pytest.approx(1.5 * mpp)
    assert LevelFrame(downsample=1.0, mpp=mpp).um.translate == 0


def test_reads_span_equation_1():
    frame = frame_at(0.243, patch_px=244, stride_px=32)
    assert frame.read_window(Region(5, 5, 83, 83)).size == Size(2868, 2868)


@given(
    x=st.integers(0, 4000), y=st.integers(0, 4000), width=st.integers(1, 900), height=st.integers(1, 99),
    mpp=st.sampled_from(MPPS),
)  # fmt: skip
def test_cells_over_a_region_are_those_whose_square_touches_it(x, y, width, height, mpp):
    frame = frame_at(mpp)
    region = Region(x, y, width, height)
    found = frame.cells_over(region)
    slack = 1e-6 * frame.cell_px
    inside = frame.cell_corner(found.x, found.y), frame.cell_corner(found.right, found.bottom)
    assert inside[0].x <= x + slack
    assert inside[0].x > x - frame.cell_px - slack
    assert inside[0].y <= y + slack
    right, bottom = min(x + width, 5000), min(y + height, 4100)
    assert inside[1].x >= right - slack
    assert inside[1].y >= bottom - slack
    assert found.right == frame.cells.width or inside[1].x < x + width + frame.cell_px + slack


@pytest.mark.parametrize("region", [Region(-50, 0, 40, 40), Region(5100, 0, 10, 10), Region(10, 10, 0, 5)])
def test_regions_off_the_slide_are_refused(region):
    with pytest.raises(RegionError, match="on the slide"):
        frame_at(0.243).cells_over(region)


@given(column=st.floats(-3, 700), row=st.floats(-3, 700), mpp=st.sampled_from(MPPS))
def test_cell_at_undoes_cell_center(column, row, mpp):
    frame = frame_at(mpp)
    back = frame.cell_at(frame.cell_center(column, row))
    assert back.x == pytest.approx(column, abs=1e-6)
    assert back.y == pytest.approx(row, abs=1e-6)


@given(
    x=st.integers(-40, 300), y=st.integers(-40, 300), width=st.integers(0, 200), height=st.integers(0, 200),
    side=st.integers(7, 90),
)  # fmt: skip
def test_a_split_gives_every_cell_one_owner(x, y, width, height, side):
    region = Region(x, y, width, height)
    parts = list(region.split(side))
    assert sum(part.size.area for part in parts) == region.size.area
    assert all(region.contains(part) for part in parts)
    owners = {(part.x // side, part.y // side) for part in parts}
    assert len(owners) == len(parts)


def test_intersection_and_containment():
    whole = Region(0, 0, 10, 10)
    assert whole.contains(Region(2, 3, 8, 7))
    assert not whole.contains(Region(2, 3, 9, 7))
    assert whole.intersection(Region(20, 20, 5, 5)).is_empty
    assert Point(0, 0).distance(Point(3, 4)) == 5
