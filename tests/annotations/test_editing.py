"""Painting, erasing, splitting, joining and filling of areas."""

from __future__ import annotations

import math

import pytest
import shapely

from napari_metastasis.annotations.editing import area_of_lasso, erased, filled, joined, painted, split, stroke
from napari_metastasis.errors import AnnotationError

SQUARE = shapely.box(0, 0, 100, 100)


def test_a_dot_of_the_brush_is_a_disc_and_a_stroke_a_disc_drawn_along():
    assert stroke([(5, 7)], 10).area == pytest.approx(math.pi * 100, rel=0.03)
    assert stroke([(0, 0), (100, 0)], 10).area == pytest.approx(math.pi * 100 + 2000, rel=0.02)
    assert stroke([(0, 0), (100, 0)], 10).bounds == pytest.approx((-10, -10, 110, 10), abs=0.6)


def test_a_stroke_that_stands_still_is_a_disc():
    assert stroke([(5, 5), (5, 5)], 10).area == pytest.approx(math.pi * 100, rel=0.03)


def test_a_stroke_over_itself_leaves_its_hole():
    ring = stroke([(0, 0), (100, 0), (100, 100), (0, 100), (0, 0)], 10)
    assert len(ring.interiors) == 1


def test_what_is_painted_and_erased_is_the_union_and_the_difference():
    more = shapely.box(50, 50, 150, 150)
    assert painted(SQUARE, more).area == 17_500
    assert erased(SQUARE, more).area == 7_500
    assert erased(SQUARE, shapely.box(-1, -1, 101, 101)) is None


def test_what_is_erased_across_leaves_parts_and_what_is_erased_inside_a_hole():
    assert isinstance(erased(SQUARE, shapely.box(40, -1, 60, 101)), shapely.MultiPolygon)
    holed = erased(SQUARE, shapely.box(40, 40, 60, 60))
    assert len(holed.interiors) == 1
    assert filled(holed).equals(SQUARE)


def test_areas_that_touch_become_one_and_others_parts_of_one():
    beside, apart = shapely.box(100, 0, 200, 100), shapely.box(300, 0, 400, 100)
    assert joined([SQUARE, beside]).equals(shapely.box(0, 0, 200, 100))
    assert len(joined([SQUARE, apart]).geoms) == 2


def test_a_line_across_splits_and_one_that_ends_inside_does_not():
    pieces = split(SQUARE, [(-10, 30), (110, 30)])
    assert [piece.area for piece in pieces] == [7_000, 3_000]
    assert split(SQUARE, [(-10, 30), (50, 30)])[0].equals(SQUARE)
    assert split(SQUARE, [(200, 200), (300, 300)])[0].equals(SQUARE)


def test_a_hole_stays_a_hole_where_a_line_passes_through_it():
    holed = SQUARE.difference(shapely.box(40, 40, 60, 60))
    pieces = split(holed, [(50, -10), (50, 110)])
    assert [round(piece.area) for piece in pieces] == [4_800, 4_800]
    assert joined(pieces).equals(holed)


def test_parts_that_a_line_does_not_reach_stay_pieces():
    apart = shapely.box(300, 0, 400, 100)
    assert [piece.area for piece in split(joined([SQUARE, apart]), [(50, -1), (50, 101)])] == [10_000, 5_000, 5_000]


def test_a_lasso_that_crosses_itself_encloses_by_the_even_odd_rule_and_a_line_nothing():
    eight = area_of_lasso([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert eight.area == 50
    assert area_of_lasso([(0, 0), (10, 10)]) is None
    assert area_of_lasso([(0, 0), (10, 10), (20, 20)]) is None


def test_outlines_that_cross_themselves_are_painted_on_all_the_same():
    eight = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert painted(eight, SQUARE).equals(SQUARE)


def test_what_covers_nothing_changes_nothing():
    assert stroke([], 10) is None
    assert stroke([(1, 1)], 0) is None
    assert stroke([(math.nan, 1)], 10) is None
    assert area_of_lasso([]) is None
    assert painted(SQUARE, None) is SQUARE
    assert erased(SQUARE, None) is SQUARE
    for thin in (shapely.LineString([(0, 0), (9, 9)]), shapely.Point(5, 5), shapely.Polygon([(0, 0), (9, 9), (4, 4)])):
        assert erased(SQUARE, thin).area == pytest.approx(10_000)
        assert painted(SQUARE, thin).area == 10_000
        assert split(thin, [(0, 9), (9, 0)]) == (thin,)
        assert filled(thin) is thin
        with pytest.raises(AnnotationError, match="draw an area first"):
            joined([thin])
    for line in ([], [(1, 1)], [(1, 1), (1, 1)]):
        assert split(SQUARE, line) == (SQUARE,)
    with pytest.raises(AnnotationError):
        joined([])
