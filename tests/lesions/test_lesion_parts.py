"""The parts that the index is made of, each against its oracle."""

from __future__ import annotations

import itertools

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_fields import field, fields
from scipy import ndimage

from napari_metastasis.lesions import component_tree, measure, outlines, peaks, surface


@settings(max_examples=60, deadline=None)
@given(values=fields(), side=st.integers(1, 5))
def test_the_opened_surface_thresholds_like_the_opened_mask(values, side):
    expected = oracle.opened_surface(values, side)
    cells = surface.floor_cells(values, floor=0.1, side=side)
    got = np.full((values.shape[0] + 2, values.shape[1] + 2), -np.inf, dtype=np.float32)
    got.ravel()[cells.cell] = cells.value
    np.testing.assert_array_equal(got[1:-1, 1:-1], np.where(expected >= np.float32(0.1), expected, -np.inf))


@settings(max_examples=60, deadline=None)
@given(values=fields())
def test_joining_one_by_one_says_the_same(values):
    cells = surface.floor_cells(values, floor=0.1, side=1)
    stride = values.shape[1] + 2
    numbers = np.zeros((values.shape[0] + 2) * stride, dtype=np.int32)
    together = component_tree.build_tree(cells, numbers, stride)
    assert not numbers.any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component_tree, "_WORTHWHILE", np.inf)
        single = component_tree.build_tree(cells, numbers, stride)
    for name in ("peak", "saddle", "top", "of_cell"):
        np.testing.assert_array_equal(getattr(together, name), getattr(single, name))
    for threshold in np.unique(values[values >= np.float32(0.1)]):
        np.testing.assert_array_equal(together.lesions_at(threshold), single.lesions_at(threshold))


def test_a_long_chain_of_nodes_is_joined():
    # Each node's highest pass leads to a lower node, so that no two are ever settled together.
    count = 4000
    values = np.zeros((1, 2 * count - 1), dtype=np.float32)
    values[0, ::2] = np.linspace(0.99, 0.8, count)
    values[0, 1::2] = np.linspace(0.2, 0.7, count - 1)
    cells = surface.floor_cells(values, floor=0.1, side=1)
    stride = values.shape[1] + 2
    tree = component_tree.build_tree(cells, np.zeros(3 * stride, dtype=np.int32), stride)
    assert len(tree.peak) == count
    for threshold in np.linspace(0.1, 0.99, 60).astype(np.float32):
        shown = ndimage.label(values[0] >= threshold)[1]
        assert len(np.unique(tree.lesions_at(threshold))) == shown


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), radius=st.floats(0, 12))
def test_suppression_equals_the_oracle(seed, count, radius):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 30, (count, 2)).astype(float)
    kept = peaks.suppress(places[:, 0], places[:, 1], shape=(30, 30), radius=radius)
    assert kept.tolist() == oracle.greedy([tuple(place) for place in places.tolist()], radius)


def middles(values, *, side=1, radius=5.0):
    cells = surface.floor_cells(values.astype(np.float32), floor=0.1, side=side)
    stride = values.shape[1] + 2
    tree = component_tree.build_tree(cells, np.zeros((values.shape[0] + 2) * stride, dtype=np.int32), stride)
    found = peaks.find_peaks(cells, tree, shape=values.shape, radius=radius)
    return [(found.row[node], found.column[node]) for node in found.kept.tolist()]


def test_a_plateau_lies_at_its_centroid_and_a_bent_one_on_itself():
    values = np.zeros((40, 40))
    values[10:14, 20:25] = 0.9
    assert middles(values) == [(11.5, 22.0)]
    y, x = np.mgrid[:40, :40]
    ring = np.where(np.abs(np.hypot(y - 20, x - 20) - 10) < 1.0, 0.9, 0.0)
    ((row, column),) = middles(ring)
    assert ring[int(row), int(column)] == 0.9


def test_noise_finer_than_the_numbers_of_a_network_does_not_move_a_plateau():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:60, :60]
    disc = np.hypot(y - 30, x - 28) < 14
    for side in (1, 2):
        ((row, column),) = middles(np.where(disc, 0.999 - rng.random(disc.shape) * 0.003, 0.0), side=side)
        assert abs(row - 30) < 0.2
        assert abs(column - 28) < 0.2


def outline_of(surface, mask, threshold, frame):
    """Return the outline of a lesion's cells on a surface."""
    bordered = np.pad(surface, 1, constant_values=-np.inf).astype(np.float32)
    row, column = np.nonzero(mask)
    return outlines.outline((row + 1) * bordered.shape[1] + column + 1, bordered, np.float32(threshold), frame)


@settings(max_examples=60, deadline=None)
@given(values=fields(max_side=14), threshold=st.floats(0.2, 0.9))
def test_outlines_are_the_contours_within_an_eighth_of_a_cell_with_every_hole(values, threshold):
    frame = oracle.frame_of(*values.shape, mpp=0.25, scale=3.888)
    surface = np.where(np.isnan(values), -np.inf, values)
    for mask in oracle.lesions_at(values, threshold, 1):
        outline = outline_of(surface, mask, threshold, frame)
        assert outline.is_valid
        assert outline.geom_type == "Polygon"
        points = np.array(oracle.contour_points(surface, mask, threshold))
        corners = [frame.cell_center(column, row) for row, column in points.tolist()]
        rim = shapely.points([(corner.x, corner.y) for corner in corners])
        assert shapely.distance(rim, outline.boundary).max() <= frame.cell_px / 8 + 1e-6
        # What cells that touch at a corner enclose is a hole of its own: the outside is joined by sides.
        outside = ndimage.label(~np.pad(mask, 1))[1] - 1
        assert len(outline.interiors) == outside


def test_outlines_with_holes_islands_touching_corners_and_foci_apart():
    frame = oracle.frame_of(20, 20)
    mask = np.zeros((20, 20), dtype=bool)
    mask[1:10, 1:10] = True
    mask[3:8, 3:8] = False
    mask[5, 5] = True
    mask[10, 10] = True
    outline = outline_of(mask.astype(float), mask, 0.5, frame)
    assert outline.is_valid
    assert outline.geom_type == "MultiPolygon"
    # The cell that touches the ring at a corner is part of it; that in its hole lies apart.
    assert sorted(len(part.interiors) for part in outline.geoms) == [0, 1]
    assert outline.area == pytest.approx(mask.sum() * frame.cell_px**2, rel=0.05)


def test_a_round_outline_has_few_corners_and_keeps_its_length_and_area():
    frame = oracle.frame_of(80, 80, mpp=0.25, scale=1.0)
    y, x = np.mgrid[:80, :80]
    away = np.hypot(y - 40.3, x - 39.6)
    surface = np.clip(0.5 - (away - 30) / 4, 0, 1)
    outline = outline_of(surface, surface >= 0.5, 0.5, frame)
    assert len(outline.exterior.coords) < 70
    assert measure.longest_diameter(outline.exterior.coords) == pytest.approx(60 * frame.cell_px, rel=0.01)
    assert outline.area == pytest.approx(np.pi * 30**2 * frame.cell_px**2, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), foci=st.integers(1, 12), reach=st.floats(0, 8))
def test_foci_are_joined_as_single_linkage_joins_them(seed, count, foci, reach):
    rng = np.random.default_rng(seed)
    focus = np.concatenate((np.arange(foci), rng.integers(0, foci, count)))
    points = rng.integers(0, 25, (len(focus), 2)).astype(float)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    near = np.eye(foci, dtype=bool)
    for one, other in itertools.product(range(foci), repeat=2):
        near[one, other] |= apart[np.ix_(focus == one, focus == other)].min() <= reach
    expected = [int(np.flatnonzero(np.linalg.matrix_power(near.astype(float), foci)[one])[0]) for one in range(foci)]
    assert measure.joined(points, focus, reach=reach).tolist() == expected


def test_longest_diameter_is_the_largest_distance_of_any_pair():
    rng = np.random.default_rng(1)
    angle = np.linspace(0, 2 * np.pi, 200)
    # The second ring's hull has more corners than are measured together.
    for points in (rng.normal(size=(60, 2)), np.column_stack((np.cos(angle), 0.3 * np.sin(angle)))):
        oracle = max(np.hypot(*(a - b)) for a in points for b in points)
        assert measure.longest_diameter(points) == pytest.approx(oracle)
    assert measure.longest_diameter([(0, 0), (1, 1), (3, 3)]) == pytest.approx(3 * np.sqrt(2))
    assert measure.longest_diameter([(0, 0), (4, 0), (4, 3), (0, 3)]) == pytest.approx(5)


def test_lengths_of_many_and_of_large_lesions():
    rng = np.random.default_rng(9)
    owner = rng.integers(0, 40, 3000)
    owner[:40] = np.arange(40)
    points = rng.normal(size=(3000, 2)) + owner[:, None]
    # A few have hulls of more corners than are measured together.
    points[owner < 3] /= np.hypot(*points[owner < 3].T)[:, None]
    got = measure.longest_diameters(points, owner, count=40)
    for one, length in enumerate(got.tolist()):
        own = points[owner == one]
        assert length == pytest.approx(np.hypot(*(own[:, None] - own).transpose(2, 0, 1)).max())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_mask_is_as_long_as_its_contour(seed):
    labels, count = ndimage.label(field(seed, 20, 25, "smooth", missing=False) > 0.55, oracle.EIGHT)
    for label in range(1, count + 1):
        mask = labels == label
        assert measure.mask_length(mask) == pytest.approx(oracle.length(np.where(mask, 1.0, 0.0), mask, 0.5))
