"""What the benchmark of mitoses counts: everything, and nothing else, where a network answers π itself."""

from __future__ import annotations

from pathlib import Path

import mitoses
import numpy as np
import pytest
from dotted_crops import POINTS, write_dotted_crops

from napari_metastasis.cohorts.point_crops import open_point_crops
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import PointMapSettings


def test_a_network_that_answers_pi_finds_every_point_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = open_point_crops(*write_dotted_crops(tmp_path), mpp=0.25)
    maps = PointMapSettings(decay_per_um=0.5)
    mosaics = PointMosaics(crops, np.arange(len(crops)), 1, 2, 0, 0, maps, seed=1)

    def knowing(of: PointMosaics):
        for one in map(of.mosaic, range(len(of))):
            yield one, *mitoses.found_points(one.probability, 4.0)

    found, mm2 = mitoses.outcomes([mosaics], knowing, radius_um=1.0)
    # Two crops of the first slide show each other's point.
    assert [(each.slide, each.points) for each in found] == [("a/one", 5), ("a/two", 1), ("b/one", 2)]
    assert [each.counts_at(0.3) for each in found] == [(5, 0, 0), (1, 0, 0), (2, 0, 0)]
    # Six crops of 8 µm, a quarter of one of which lies beside its slide.
    assert mm2 == pytest.approx(5.75 * 8**2 / 1e6)
    # The figure in the middle is found by guessing where nothing is shifted, others are not.
    blind, _ = mitoses.outcomes([mosaics], mitoses.blind, radius_um=1.0)
    assert [each.counts_at(0.3) for each in blind] == [(3, 0, 2), (1, 0, 0), (2, 0, 0)]
    # Corners hold none of the red dots; one in which another lies is not known.
    monkeypatch.setattr(mitoses, "CORNER_PX", 10)
    monkeypatch.setattr(mitoses, "AROUND_PX", 2)
    emptied = mitoses.Emptied(crops.pictures, crops.slides, crops.xy, crops.mpp, crops.side_px)
    for index in range(len(crops)):
        corner = emptied.read(index)
        assert corner.image.shape == crops.read(index).image.shape
        assert not (corner.image[..., 0][corner.known] > 0).any()
        assert len(corner.xy) == 0


def test_no_slide_is_both_learnt_from_and_measured(tmp_path: Path) -> None:
    crops = open_point_crops(*write_dotted_crops(tmp_path), mpp=0.25)
    # With repeats, so that there are fifths.
    crops = type(crops)(
        crops.pictures, tuple(f"{name}{k % 9}" for k, name in enumerate(crops.slides)), crops.xy, 0.25, 32
    )
    parts = mitoses.split(crops, seed=3)
    assert sorted(slide for part in parts for slide in part) == sorted(set(crops.slides))
    assert [len(part) for part in parts] == [4, 1, 1]
    assert POINTS.keys() == {slide[:-1] for part in parts for slide in part}
    assert mitoses.split(crops, seed=3) == parts
