"""Polygons: what is refused, and what is kept as it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Annotation, AnnotationSet
from napari_metastasis.errors import AnnotationError

SQUARE = [(0, 0), (4, 0), (4, 3), (0, 3)]


@pytest.mark.parametrize("ring", [[], [(0, 0), (1, 1)], [(0, 0), (1, 0), (np.nan, 1)], [(0, 0, 0)] * 4])
def test_a_ring_that_encloses_nothing_is_refused_by_name(ring):
    with pytest.raises(AnnotationError, match=r"expected .*'lesion 3'.*, got .*; draw"):
        Annotation.of_rings(name="lesion 3", group="_0", exterior=np.array(ring))
    with pytest.raises(AnnotationError, match="hole"):
        Annotation.of_rings(name="lesion 3", group="_0", exterior=np.array(SQUARE), holes=(np.array(ring),))


def test_rings_are_opened_and_frozen():
    annotation = Annotation.of_rings(name="a", group="_0", exterior=np.array([*SQUARE, SQUARE[0]]))
    assert annotation.exterior.shape == (4, 2)
    assert annotation.exterior.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        annotation.exterior[0] = 1


def test_a_polygon_of_shapely_is_checked_like_rings():
    ring = shapely.Polygon(SQUARE, [[(1, 1), (2, 1), (2, 2)]])
    annotation = Annotation("a", "_0", ring)
    assert annotation == Annotation.of_rings("a", "_0", SQUARE, [[(1, 1), (2, 1), (2, 2)]])
    assert pickle.loads(pickle.dumps(annotation)) == annotation
    for wrong in (shapely.Polygon(), shapely.Polygon([(0, 0), (1, 0), (np.inf, 1)])):
        with pytest.raises(AnnotationError, match=r"'lesion 3'.*, got .*; draw"):
            Annotation("lesion 3", "_0", wrong)


@pytest.mark.parametrize(
    "ring",
    [
        [(0, 0), (4, 4), (4, 0), (0, 4)],  # crosses itself
        [(0, 0), (4, 0), (0, 0)],  # encloses nothing
        [(0, 0), (4, 0), (4, 3), (0, 0), (0, 0)],  # begins with its last corner, twice
        [(0, 0), (4, 0), (8, 0), (4, 0), (4, 3)],  # runs back over itself
    ],
)
def test_what_was_drawn_is_never_repaired(ring):
    hole = [(-5, -5), (2, -5), (2, 2)]
    annotation = Annotation.of_rings("a", "_0", ring, [hole])
    expected = ring[:-1] if len(ring) > 3 and ring[0] == ring[-1] else ring
    np.testing.assert_array_equal(annotation.exterior, expected)
    np.testing.assert_array_equal(annotation.holes[0], hole)
    moved = annotation.moved(10, 0.1)
    np.testing.assert_array_equal(moved.exterior, np.array(expected) + np.array([10, 0.1]))
    np.testing.assert_array_equal(moved.holes[0], np.array(hole) + np.array([10, 0.1]))


@pytest.mark.parametrize("group", ["_0", "_1", "Tumor", "metastases"])
def test_tumour_groups_of_both_challenges_are_known(group):
    tumour = Annotation.of_rings(name="a", group=group, exterior=np.array(SQUARE))
    other = Annotation.of_rings(name="b", group="normal", exterior=np.array(SQUARE))
    both = AnnotationSet((other, tumour))
    assert list(both.tumour) == [tumour]
    assert both.groups == tuple(sorted({"normal", group}))
