"""The plan: one owner a cell, nearest first, nothing twice and no glass."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metastasis.errors import RegionError, SettingsError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Point, Region, Size
from napari_metastasis.scanning import Roi, Wanted, plan_scan, roi_cells


def frame_of(width: int, height: int, *, patch: int = 96, stride: int = 8, scale: float = 2.0) -> HeatmapFrame:
    return HeatmapFrame(
        model=ModelFrame(scale=scale, mpp=0.486, size=Size(width, height)), patch_px=patch, stride_px=stride
    )


def whole(frame: HeatmapFrame, **changes):
    options = {"cells": Region.of(frame.cells), "roi_px": 256, "block": 1} | changes
    roi_px, block = options.pop("roi_px"), options.pop("block")
    if "wanted" in options:
        options["cells"] = options.pop("wanted")
    return plan_scan(frame, Wanted(**options), roi_px=roi_px, block=block)


def written(plan) -> np.ndarray:
    count = np.zeros(plan.frame.cells.shape, int)
    for roi in plan.rois:
        count[roi.write.slices] += 1
    return count


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    roi_px=st.integers(1, 700),
    patch_stride=st.sampled_from([(96, 8), (96, 16), (244, 32), (30, 1), (8, 8)]),
    seed=st.integers(0, 2**31),
)
def test_each_needed_cell_has_one_owner(width, height, roi_px, patch_stride, seed):
    patch, stride = patch_stride
    frame = frame_of(width, height, patch=patch, stride=stride)
    rng = np.random.default_rng(seed)
    tissue, done = (rng.random(frame.cells.shape) < share for share in (0.3, 0.2))
    x, y = (int(rng.integers(0, side)) for side in (frame.cells.width, frame.cells.height))
    wanted = Region(
        x, y, int(rng.integers(1, frame.cells.width - x + 1)), int(rng.integers(1, frame.cells.height - y + 1))
    )
    plan = whole(frame, roi_px=roi_px, tissue=tissue, done=done, wanted=wanted)

    asked = np.zeros(frame.cells.shape, bool)
    asked[wanted.slices] = True
    count = written(plan)
    np.testing.assert_array_equal(plan.needed, asked & tissue & ~done)
    assert count.max(initial=0) <= 1
    assert (count[plan.needed] == 1).all()
    assert not count[~asked].any()
    assert plan.cells_wanted - plan.cells_without_tissue - plan.cells_done == plan.needed.sum() == plan.kept.sum()
    assert plan.cells_wanted == wanted.size.area
    assert plan.cells_without_tissue == (asked & ~tissue).sum()
    assert plan.cells_done == (asked & tissue & done).sum()
    assert plan.model_px == count.sum() * stride**2
    side = roi_cells(frame, roi_px)
    for roi in plan.rois:
        assert roi.read == frame.read_window(roi.write)
        assert max(roi.read.width, roi.read.height) <= max(roi_px, patch)
        # Cut tight: the first and last row and column each hold a needed cell.
        inside = plan.needed[roi.write.slices]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        # Within one square of the grid that begins where the tissue does, also where some of it is done.
        left, top = (int(np.flatnonzero((asked & tissue).any(axis=axis))[0]) for axis in (0, 1))
        assert (roi.write.x - left) // side == (roi.write.right - 1 - left) // side
        assert (roi.write.y - top) // side == (roi.write.bottom - 1 - top) // side


def test_squares_are_whole_where_everything_is_needed():
    frame = frame_of(2000, 1000)
    side = roi_cells(frame, 256)
    assert side == 21  # 96 + 20 * 8 = 256
    plan = whole(frame)
    inner = [roi for roi in plan.rois if roi.write.right < frame.cells.width and roi.write.bottom < frame.cells.height]
    assert {roi.write.size for roi in inner} == {Size(side, side)}
    assert (written(plan) == 1).all()


def test_nearest_to_the_focus_first():
    frame = frame_of(3000, 2000)
    focus = Point(5000.0, 600.0)
    plan = whole(frame, focus=focus)

    def distance(roi: Roi) -> float:
        middle_column = roi.write.x + (roi.write.width - 1) / 2
        middle_row = roi.write.y + (roi.write.height - 1) / 2
        return frame.cell_center(middle_column, middle_row).distance(focus)

    distances = [distance(roi) for roi in plan.rois]
    assert distances == sorted(distances)
    column, row = (round(value) for value in (frame.cell_at(focus).x, frame.cell_at(focus).y))
    assert plan.rois[0].write.contains(Region(column, row, 1, 1))


def test_the_first_piece_is_small():
    frame = frame_of(6000, 5000)
    focus = Point(5000.0, 5600.0)
    plan = whole(frame, focus=focus, roi_px=1152)
    first = plan.rois[0]
    assert max(first.read.width, first.read.height) <= 400
    cell = frame.cell_at(focus)
    assert first.write.contains(Region(round(cell.x), round(cell.y), 1, 1))
    # It costs the network a part of one window more, and no cell is answered twice.
    side = roi_cells(frame, 1152)
    squares = {(roi.write.x // side, roi.write.y // side) for roi in plan.rois}
    assert len(plan.rois) <= len(squares) + 6
    assert (written(plan) == 1).all()


def test_without_a_focus_the_middle_of_the_region_comes_first():
    frame = frame_of(3000, 2000)
    wanted = Region(100, 30, 150, 90)
    first = whole(frame, wanted=wanted).rois[0].write
    assert first.center.distance(wanted.center) <= 21


def test_glass_and_answered_cells_are_left_out():
    frame = frame_of(2000, 2000)
    tissue = np.zeros(frame.cells.shape, bool)
    tissue[60:63, 100:110] = True
    plan = whole(frame, tissue=tissue)
    assert sum(roi.write.size.area for roi in plan.rois) == 30
    done = tissue.copy()
    assert whole(frame, tissue=tissue, done=done).rois == ()
    done[61, 104] = False
    (left,) = whole(frame, tissue=tissue, done=done).rois
    assert left.write == Region(104, 61, 1, 1)


def test_a_second_region_answers_what_the_first_left():
    frame = frame_of(2000, 2000)
    done = np.zeros(frame.cells.shape, bool)
    for roi in whole(frame, wanted=Region(10, 10, 60, 60)).rois:
        done[roi.write.slices] = True
    rest = whole(frame, done=done)
    np.testing.assert_array_equal(rest.needed, ~done)
    assert (written(rest)[~done] == 1).all()
    # Squares that the first region covered whole are not read again.
    assert not any(Region(21, 21, 42, 42).contains(roi.write) for roi in rest.rois)


@pytest.mark.parametrize("size", [Size(1, 1), Size(2, 1), Size(1, 3), Size(5, 4), Size(21, 21)])
def test_halves_cover_the_same_cells(size):
    frame = frame_of(2000, 2000)
    roi = Roi.of(frame, Region(7, 9, size.width, size.height))
    assert roi.is_single == (size.area == 1)
    count = np.zeros(frame.cells.shape, int)
    for part in roi.halves(frame):
        count[part.write.slices] += 1
        assert part.read == frame.read_window(part.write)
        assert roi.is_single or part.write.size.area < size.area
    assert count.max() == 1
    assert count.sum() == count[roi.write.slices].sum() == size.area


@pytest.mark.parametrize("wanted", [Region(0, 0, 0, 5), Region(-1, 0, 5, 5), Region(0, 0, 10_000, 5)])
def test_cells_that_are_not_on_the_map(wanted):
    with pytest.raises(RegionError, match="expected cells on the heatmap"):
        whole(frame_of(2000, 2000), wanted=wanted)


@pytest.mark.parametrize("name", ["tissue", "done"])
def test_masks_of_another_map(name):
    with pytest.raises(SettingsError, match=f"expected a {name} mask of"):
        whole(frame_of(2000, 2000), **{name: np.ones((3, 3), bool)})


@pytest.mark.parametrize(("x", "y"), [(0, 0), (13, 7), (40, 33)])
def test_windows_do_not_depend_on_the_glass_around_the_tissue(x, y):
    frame = frame_of(2000, 1800)
    tissue = np.zeros(frame.cells.shape, bool)
    tissue[y : y + 50, x : x + 60] = True
    # Towards the slide's corner, wherever the tissue lies.
    plan = plan_scan(frame, Wanted(cells=Region.of(frame.cells), tissue=tissue, focus=Point(0.0, 0.0)), roi_px=256)
    assert Counter(roi.write.size for roi in plan.rois) == expected_windows(frame)


def expected_windows(frame):
    """Return the windows of the same tissue in the slide's corner."""
    tissue = np.zeros(frame.cells.shape, bool)
    tissue[:50, :60] = True
    plan = plan_scan(frame, Wanted(cells=Region.of(frame.cells), tissue=tissue, focus=Point(0.0, 0.0)), roi_px=256)
    return Counter(roi.write.size for roi in plan.rois)
