"""Masks against a slow oracle that asks of every pixel whether its centre lies inside."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metastasis.annotations import Annotation, covered, rasterize
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Region, Size


def inside(ring, x, y):
    """The textbook's crossing number, one point and one edge at a time."""
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            odd = not odd
    return odd


def oracle(annotations, centers):
    rows, columns, _ = centers.shape
    mask = np.zeros((rows, columns), bool)
    for r in range(rows):
        for c in range(columns):
            x, y = centers[r, c]
            mask[r, c] = any(
                inside(a.exterior, x, y) and not any(inside(h, x, y) for h in a.holes) for a in annotations
            )
    return mask


def star(rng, center, radius, corners=9):
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.3, 1.0, corners)
    return np.c_[center[0] + reach * np.cos(angle), center[1] + reach * np.sin(angle)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), downsample=st.sampled_from([1.0, 2.0, 4.0, 3.7]), x=st.integers(-5, 5))
def test_a_pixel_is_set_where_its_centre_lies_inside(seed, downsample, x):
    rng = np.random.default_rng(seed)
    annotations = [
        Annotation.of_rings(name="a", group="_0", exterior=star(rng, (30, 25), 40), holes=(star(rng, (28, 26), 15),)),
        Annotation.of_rings(name="b", group="_0", exterior=star(rng, (60, 40), 25)),
    ]
    window = Region(x, 1, 21, 17)
    grid = np.stack(np.meshgrid(np.arange(21) + x + 0.5, np.arange(17) + 1.5), -1) * downsample
    mask = rasterize(annotations, LevelFrame(downsample=downsample, mpp=0.25), window)
    np.testing.assert_array_equal(mask, oracle(annotations, grid))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), corners=st.integers(3, 12), on_centres=st.booleans())
def test_outlines_that_cross_and_touch_themselves_and_one_another(seed, corners, on_centres):
    # Corners at random cross; on a coarse grid they also meet, run back over themselves, and pass through centres.
    rng = np.random.default_rng(seed)
    rings = rng.uniform(-6, 26, (4, corners, 2))
    if on_centres:
        rings = np.round(rings / 4) * 4 + 0.5
    annotations = [
        Annotation.of_rings(name="a", group="_0", exterior=rings[0], holes=(rings[1],)),
        Annotation.of_rings(name="b", group="_0", exterior=rings[2], holes=(rings[3] / 2, rings[1])),
    ]
    grid = np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(18) + 0.5), -1)
    for some in (annotations, annotations[:1]):
        mask = rasterize(some, LevelFrame(downsample=1.0, mpp=0.25), Size(20, 18))
        np.testing.assert_array_equal(mask, oracle(some, grid))


def test_whole_pixels_are_exact_and_neighbours_share_none():
    left = Annotation.of_rings(name="l", group="_0", exterior=np.array([(1, 1), (4, 1), (4, 5), (1, 5)]))
    right = Annotation.of_rings(name="r", group="_0", exterior=np.array([(4, 1), (8, 1), (8, 5), (4, 5)]))
    frame = LevelFrame(downsample=1, mpp=0.5)
    a, b = (rasterize([one], frame, Size(9, 6)) for one in (left, right))
    assert a.sum() == 12
    assert b.sum() == 16
    assert not (a & b).any()
    assert a[1:5, 1:4].all()
    # Edges through pixel centres: each centre has one owner all the same.
    halves = [
        rasterize([Annotation.of_rings(name="", group="_0", exterior=one.exterior + 0.5)], frame, Size(9, 6))
        for one in (left, right)
    ]
    assert not (halves[0] & halves[1]).any()
    assert halves[0].sum() == 12


def test_cells_of_a_heatmap_are_drawn_where_the_heatmap_says():
    frame = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=0.486, size=Size(400, 300)), patch_px=96, stride_px=8)
    ring = star(np.random.default_rng(3), (400, 300), 260, corners=14)
    annotation = Annotation.of_rings(name="a", group="_0", exterior=ring)
    mask = rasterize([annotation], frame, frame.cells)
    polygon = shapely.Polygon(ring)
    for row, column in np.ndindex(mask.shape):
        center = frame.cell_center(column, row)
        assert mask[row, column] == polygon.covers(shapely.Point(center.x, center.y))


def test_areas_off_the_window_draw_nothing():
    annotation = Annotation.of_rings(name="a", group="_0", exterior=np.array([(1, 1), (4, 1), (4, 5)]))
    frame = ModelFrame(scale=1.0, mpp=0.5, size=Size(10, 10))
    assert not rasterize([annotation], frame, Region(5, 5, 4, 4)).any()
    assert not rasterize([], frame, Size(4, 4)).any()


def test_many_corners_cost_no_more_than_their_edges():
    angle = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    ring = np.c_[2000 + 1900 * np.cos(angle), 2000 + 1900 * np.sin(angle)]
    mask = rasterize([Annotation.of_rings(name="", group="_0", exterior=ring)], LevelFrame(1, 0.5), Size(4000, 4000))
    assert mask.sum() == pytest.approx(np.pi * 1900**2, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), corners=st.integers(3, 12), on_a_grid=st.booleans())
def test_what_is_covered_is_what_the_mask_shows(seed, corners, on_a_grid):
    # On a coarse grid edges coincide, which shapely repairs by another rule than even and odd.
    rng = np.random.default_rng(seed)
    rings = rng.uniform(0, 20, (3, corners, 2))
    if on_a_grid:
        rings = np.round(rings / 4) * 4
    annotation = Annotation.of_rings("a", "_0", rings[0], rings[1:])
    area = covered(annotation)
    assert area.is_valid
    fine = 32
    mask = rasterize([annotation], LevelFrame(downsample=1 / fine, mpp=0.25), Size(20 * fine, 20 * fine))
    # Pixels on the border round up and down.
    assert area.area == pytest.approx(mask.sum() / fine**2, abs=0.002 * annotation.outline_px.length)
