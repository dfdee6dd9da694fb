"""Polygons: what is refused, and how long they are."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.annotations import Annotation, AnnotationSet, longest_diameter
from napari_metastasis.errors import AnnotationError

SQUARE = [(0, 0), (4, 0), (4, 3), (0, 3)]


@pytest.mark.parametrize("ring", [[], [(0, 0), (1, 1)], [(0, 0), (1, 0), (np.nan, 1)], [(0, 0, 0)] * 4])
def test_a_ring_that_encloses_nothing_is_refused_by_name(ring):
    with pytest.raises(AnnotationError, match=r"expected .*'lesion 3'.*, got .*; draw"):
        Annotation(name="lesion 3", group="_0", exterior=np.array(ring))
    with pytest.raises(AnnotationError, match="hole"):
        Annotation(name="lesion 3", group="_0", exterior=np.array(SQUARE), holes=(np.array(ring),))


def test_rings_are_opened_and_frozen():
    annotation = Annotation(name="a", group="_0", exterior=np.array([*SQUARE, SQUARE[0]]))
    assert annotation.exterior.shape == (4, 2)
    assert annotation.exterior.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        annotation.exterior[0] = 1


def test_longest_diameter_is_the_largest_distance_of_any_pair():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 2))
    oracle = max(np.hypot(*(a - b)) for a in points for b in points)
    assert longest_diameter(points) == pytest.approx(oracle)
    assert longest_diameter([(0, 0), (1, 1), (3, 3)]) == pytest.approx(3 * np.sqrt(2))
    assert Annotation(name="a", group="_0", exterior=np.array(SQUARE)).longest_diameter_px == pytest.approx(5)


@pytest.mark.parametrize("group", ["_0", "_1", "Tumor", "metastases"])
def test_tumour_groups_of_both_challenges_are_known(group):
    tumour = Annotation(name="a", group=group, exterior=np.array(SQUARE))
    other = Annotation(name="b", group="normal", exterior=np.array(SQUARE))
    both = AnnotationSet((other, tumour))
    assert list(both.tumour) == [tumour]
    assert both.groups == tuple(sorted({"normal", group}))
