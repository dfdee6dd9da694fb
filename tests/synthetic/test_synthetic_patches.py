"""Patches of synthetic tissue: their labels are the outlines', and the same call makes the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.geometry import Region
from napari_metastasis.synthetic import SyntheticSlide, make_patches
from napari_metastasis.synthetic import _patches as room


def test_labels_agree_with_the_outlines():
    slide = SyntheticSlide(room._settings(7))
    outlines = shapely.union_all([shapely.Polygon(annotation.exterior) for annotation in slide.annotations])
    patches = list(room._chosen(slide, 400, 7))
    labels = [patch.label for patch in patches]
    assert 150 <= sum(labels) <= 250
    for patch in patches:
        assert Region.of(slide.size).contains(patch.region)
        center = shapely.Point(patch.region.center.x, patch.region.center.y)
        if patch.label:
            assert outlines.contains(center)
        else:
            # 31 µm: the centre that a label speaks of.
            assert outlines.distance(center) * slide.mpp > 31


def test_a_patch_is_the_average_of_the_slides_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    halved = room._halved(pixels)
    for y in range(4):
        for x in range(3):
            expected = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(4, 3).mean(axis=0)
            assert np.abs(halved[y, x] - expected).max() <= 0.5


@pytest.mark.timeout(600)
def test_the_archive_is_read_back_and_repeats_itself(tmp_path):
    told = []
    for name in ("first.zip", "second.zip"):
        make_patches(
            tmp_path / name, slides=1, per_slide=4, seed=3, progress=lambda done, total: told.append((done, total))
        )
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    source = open_patches(tmp_path / "first.zip")
    assert source.read(0).shape == (96, 96, 3)
    assert set(source.labels.tolist()) == {0, 1}
    assert told[-1][0] == len(source)
