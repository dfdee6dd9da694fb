"""The corners of outlines: which are shown, moved, added and removed, and what crosses itself."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations.corners import Corners, Edge, reshaped
from napari_metastasis.errors import AnnotationError

SQUARE = shapely.Polygon([(0, 0), (100, 0), (100, 100), (0, 100)])
HOLED = shapely.MultiPolygon(
    [
        shapely.Polygon(SQUARE.exterior, [[(40, 40), (60, 40), (50, 60)]]),
        shapely.box(200, 0, 300, 100),
    ]
)


def every(corners: Corners) -> np.ndarray:
    return np.ones(len(corners), bool)


def wobbly(count: int, radius: float = 1000.0) -> shapely.Polygon:
    """A closed line of many corners, with bays."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    away = radius * (1 + 0.2 * np.sin(7 * turn) + 0.02 * np.sin(90 * turn))
    return shapely.Polygon(np.column_stack((away * np.cos(turn), away * np.sin(turn))))


def test_an_area_is_its_corners_and_they_are_the_area_again():
    corners = Corners.of(HOLED)
    assert (len(corners), corners.starts.tolist(), corners.rings_of_parts) == (11, [0, 4, 7, 11], (2, 1))
    assert corners.area.equals_exact(HOLED)
    assert Corners.of(SQUARE).area.equals_exact(SQUARE)


def test_one_corner_is_moved_and_no_other():
    corners = Corners.of(HOLED)
    for corner in range(len(corners)):
        moved = corners.moved(corner, 7.0, 9.0, every(corners))
        expected = corners.places_px.copy()
        expected[corner] = 7, 9
        assert np.array_equal(moved.places_px, expected)


def test_corners_that_are_not_shown_go_along_by_how_near_they_are():
    # A square of whose upper side every tenth pixel is a corner.
    side = [(x, 0.0) for x in range(0, 100, 10)]
    corners = Corners.of(shapely.Polygon([*side, (100, 0), (100, 100), (0, 100)]))
    shown = np.zeros(len(corners), bool)
    shown[[0, 5, 10, 11, 12]] = True
    moved = corners.moved(5, 50, -20, shown).places_px
    assert moved[:11, 1] == pytest.approx([0, -4, -8, -12, -16, -20, -16, -12, -8, -4, 0])
    assert np.array_equal(moved[:, 0], corners.places_px[:, 0])
    # Over the ring's end, too.
    moved = corners.moved(12, 0, 120, shown).places_px
    assert np.flatnonzero((moved != corners.places_px).any(axis=1)).tolist() == [12]
    turned = Corners.of(shapely.Polygon([(50, 0), *[(x, 0) for x in range(60, 100, 10)], (100, 0), (100, 100), (0, 100),
                                         (0, 0), *[(x, 0) for x in range(10, 50, 10)]]))  # fmt: skip
    shown = np.zeros(len(turned), bool)
    shown[[0, 5, 6, 7, 8]] = True
    moved = turned.moved(0, 50, -20, shown).places_px
    assert dict(moved.round(9).tolist()) == {50: -20, 60: -16, 70: -12, 80: -8, 90: -4, 100: 100, 0: 0,
                                    10: -4, 20: -8, 30: -12, 40: -16}  # fmt: skip


def test_of_a_ring_with_one_shown_corner_all_go_along():
    corners = Corners.of(HOLED)
    shown = every(corners)
    shown[[5, 6]] = False
    moved = corners.moved(4, 41, 42, shown).places_px - corners.places_px
    assert moved[4:7].tolist() == [[1, 2]] * 3
    assert not moved[[*range(4), *range(7, 11)]].any()


def test_the_outline_through_what_is_shown_lies_within_the_tolerance():
    area = wobbly(5000)
    corners = Corners.of(area)
    shown = corners.shown(4.0, apart_px=50.0)
    # The oracle: what GEOS makes of the whole ring.
    simple = shapely.simplify(area.exterior, 4.0, preserve_topology=False)
    assert {tuple(one) for one in corners.places_px[shown]} == {tuple(one) for one in simple.coords}
    assert 20 < shown.sum() < 400
    assert shapely.Polygon(corners.places_px[shown]).exterior.hausdorff_distance(area.exterior) <= 4.0


def test_what_lies_apart_is_shown_though_it_is_no_bend_and_what_is_a_dot_is_not():
    straight = Corners.of(shapely.Polygon([(0, 0), (50, 0), (53, 0), (100, 0), (100, 100), (0, 100)]))
    assert straight.shown(4.0, apart_px=40.0).tolist() == [True, False, False, True, True, True]
    assert straight.shown(4.0, apart_px=2.0).all()
    dot = Corners.of(shapely.MultiPolygon([SQUARE, shapely.box(200, 200, 202, 202)]))
    assert np.flatnonzero(dot.shown(4.0, apart_px=8.0)).tolist() == [0, 1, 2, 3]


def test_the_nearest_place_of_the_outline_is_the_one_that_a_slow_search_finds():
    corners, rng = Corners.of(HOLED), np.random.default_rng(1)
    for x, y in rng.uniform(-50, 350, (40, 2)).tolist():
        edge = corners.nearest_edge(x, y)
        assert edge.away_px == pytest.approx(HOLED.boundary.distance(shapely.Point(x, y)))
        own = shapely.LineString(corners.ends_px[edge.corner])
        assert own.distance(shapely.Point(edge.x, edge.y)) < 1e-9
    assert corners.nearest(48, 58, every(corners)) == (6, pytest.approx(np.hypot(2, 2)))
    assert corners.nearest(48, 58, ~every(corners)) == (-1, np.inf)


def test_a_corner_is_added_on_any_edge_and_the_area_stays():
    corners = Corners.of(HOLED)
    for number in range(len(corners)):
        x, y = corners.ends_px[number].mean(axis=0).tolist()
        more, at = corners.added(corners.nearest_edge(x, y))
        assert len(more) == len(corners) + 1
        assert more.places_px[at].tolist() == [x, y]
        assert more.area.equals(HOLED)


def test_a_corner_is_removed_and_with_it_those_between_it_and_its_shown_neighbours():
    corners = Corners.of(HOLED)
    assert corners.removed(2, every(corners)).area.area == HOLED.area - 5000
    last = corners.removed(10, every(corners))
    assert (last.starts.tolist(), last.area.geoms[1].area) == ([0, 4, 7, 10], 5000)
    area = wobbly(500)
    many = Corners.of(area)
    shown = many.shown(30.0, apart_px=1e9)
    gone = int(np.flatnonzero(shown)[3])
    left = many.removed(gone, shown)
    before, after = np.flatnonzero(shown)[[2, 4]]
    assert len(many) - len(left) == after - before - 1
    for at in (4, 5, 6):
        with pytest.raises(AnnotationError, match="remove the whole outline"):
            corners.removed(at, every(corners))


def test_what_crosses_itself_is_refused_and_mended_where_it_did_before():
    corners = Corners.of(SQUARE)
    assert reshaped(SQUARE, corners.moved(0, -20, -20, every(corners))).area.area == 12_000
    for x, y in ((150, 50), (100, 100)):
        with pytest.raises(AnnotationError, match="does not cross itself"):
            reshaped(SQUARE, corners.moved(0, x, y, every(corners)))
    # A hole that leaves its area, and a part that comes to lie on another.
    holed = Corners.of(HOLED)
    for corner, place in ((6, (50, 160)), (7, (50, 50))):
        with pytest.raises(AnnotationError, match="does not cross itself"):
            reshaped(HOLED, holed.moved(corner, *place, every(holed)))
    eight = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    own = Corners.of(eight)
    mended = reshaped(eight, own.moved(0, 0, -1, every(own)))
    assert mended.is_mended
    assert mended.area.is_valid
    assert mended.area.area > 50
    flat = Corners.of(shapely.Polygon([(0, 0), (9, 0), (9, 9)]))
    with pytest.raises(AnnotationError):
        reshaped(flat.area, flat.moved(2, 4, 0, every(flat)))


def test_an_edge_of_no_length_is_nowhere_near():
    corners = Corners.of(shapely.Polygon([(0, 0), (0, 0), (10, 0), (10, 10)]))
    assert corners.nearest_edge(5, -1) == Edge(1, 5.0, 0.0, 1.0)
