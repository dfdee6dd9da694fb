"""Disc phantoms: the disc is where it is said to be, in memory and in the file."""

from __future__ import annotations

import numpy as np
import pytest
from disc_phantom import DiscPhantom, disc_slide

from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Point, Region, Size
from napari_metastasis.slides import open_slide


def centroid(pixels):
    weight = 230.0 - pixels[..., 1].astype(float)
    weight[weight < 60] = 0
    y, x = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]] + 0.5
    return (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()


@pytest.mark.parametrize("center", [Point(301.0, 250.0), Point(300.3, 211.8)])
def test_the_centroid_is_the_centre(center):
    phantom = DiscPhantom(size=Size(600, 500), mpp=0.5, center=center, radius_px=60)
    x, y = centroid(phantom.read(Region(0, 0, 600, 500)))
    assert (x, y) == pytest.approx((center.x, center.y), abs=0.05)


def test_any_tile_is_the_crop_of_a_larger_one():
    phantom = DiscPhantom(size=Size(900, 800), mpp=0.5, center=Point(400, 300), radius_px=100)
    whole = phantom.read(Region(0, 0, 900, 800))
    for part in (Region(3, 5, 300, 280), Region(250, 250, 20, 20), Region(899, 0, 1, 800)):
        np.testing.assert_array_equal(phantom.read(part), whole[part.slices])
    with pytest.raises(RegionError, match="choose one inside"):
        phantom.read(Region(0, 0, 901, 5))


@pytest.mark.parametrize("mpp", [0.243, 0.5])
def test_the_file_shows_the_disc_at_every_level(tmp_path, mpp):
    path = tmp_path / "disc.tif"
    phantom = disc_slide(path, size=Size(1200, 1000), mpp=mpp, center=Point(620, 410), radius_px=120)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(mpp, rel=1e-6)
        for index, level in enumerate(slide.levels):
            pixels = slide.read_level(index, Region.of(level.size))
            x, y = (value * level.downsample for value in centroid(pixels))
            assert (x, y) == pytest.approx((phantom.center.x, phantom.center.y), abs=0.3 * level.downsample)
