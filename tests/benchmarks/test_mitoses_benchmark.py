"""What the benchmark of mitoses counts: everything, and nothing else, where a network answers π itself."""

from __future__ import annotations

from pathlib import Path

import mitoses
import numpy as np
import pytest
from dotted_crops import write_dotted_crops

from napari_metastasis.cohorts.point_crops import open_point_crops
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import PointMapSettings
from napari_metastasis.training.point_metric import map_points


def test_a_network_that_answers_pi_finds_every_point_once(tmp_path: Path) -> None:
    crops = open_point_crops(*write_dotted_crops(tmp_path), mpp=0.25)
    maps = PointMapSettings(decay_per_um=0.5)
    mosaics = PointMosaics(crops, np.arange(len(crops)), 1, 2, 0, 0, maps, seed=1)

    def knowing(of: PointMosaics):
        for one in map(of.mosaic, range(len(of))):
            yield one, *map_points(one.probability, 4.0)

    found, seen = mitoses.outcomes([mosaics], knowing, radius_um=1.0)
    # Two crops of the first slide show each other's point.
    assert [(each.slide, each.points) for each in found] == [("a/one", 5), ("a/two", 1), ("b/one", 2)]
    assert [each.counts_at(0.3) for each in found] == [(5, 0, 0), (1, 0, 0), (2, 0, 0)]
    # Six crops of 8 µm, a quarter of the one of the second slide lies beside it.
    np.testing.assert_allclose([one.mm2 for one in seen], np.array([3, 0.75, 2]) * 8**2 / 1e6)
    # No piece is without a point.
    assert [one.empty_mm2 for one in seen] == [0, 0, 0]
    # The figure in the middle is found by guessing where nothing is shifted, others are not.
    blind, _ = mitoses.outcomes([mosaics], mitoses.blind, radius_um=1.0)
    assert [each.counts_at(0.3) for each in blind] == [(3, 0, 2), (1, 0, 0), (2, 0, 0)]


def test_what_is_found_besides_counts_as_often_as_where_figures_are_rare() -> None:
    sure, reference = np.array([0.9, 0.8, 0.2]), np.array([[0.0, 0.0], [50.0, 0.0], [90.0, 0.0]])
    found = np.array([[0.0, 1.0], [20.0, 0.0], [50.0, 0.0]])
    one = mitoses.match_points("s", found=found, probability=sure, reference=reference, mpp=1.0, radius_um=5.0)
    assert one.counts_at(0.5) == (1, 1, 2)
    # Three in half a mm² are 6 in one; where there are 2, the false one counts three times.
    rare = mitoses.where_rare([one], [0.5], 0.5, 2.0)
    assert rare.value == pytest.approx(2 / (2 + 3 + 2))
