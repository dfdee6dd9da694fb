"""Coarse levels of files that hold none."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.geometry import Region
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import open_slide, overview


@pytest.fixture
def decoded(monkeypatch):
    """Make small files count as large, and record what is decoded."""
    monkeypatch.setattr(overview, "_MIN_RATIO", 8)
    monkeypatch.setattr(overview, "_BUDGET_PX", 250_000)


@pytest.fixture(scope="module")
def path(make_slide):
    """Glass with a block of textured tissue, one level, JPEG."""
    rng = np.random.default_rng(2)
    picture = np.full((1500, 2000, 3), 240, np.uint8)
    picture[256:1024, 512:1408] = rng.integers(90, 190, (768, 896, 3))
    return make_slide("overview.tif", picture, levels=1, tile_px=128, compression="jpeg")


@pytest.mark.usefixtures("decoded")
def test_tissue_lies_where_it_lies_to_a_tile(path):
    with open_slide(path, settings=SlideSettings(thumbnail_px=64)) as slide:
        coarse = [index for index, level in enumerate(slide.levels) if not level.exact]
        assert [slide.levels[index].downsample for index in coarse] == [8, 16, 32]
        seen = slide.read_level(coarse[0], Region.of(slide.levels[coarse[0]].size))
    assert seen.shape == (188, 250, 3)
    tissue = seen.mean(axis=2) < 200
    expected = np.zeros((188, 250), bool)
    expected[32:128, 64:176] = True
    assert (tissue == expected).mean() > 0.97


@pytest.mark.usefixtures("decoded")
def test_a_fraction_is_decoded_and_only_once(path, monkeypatch):
    with open_slide(path, settings=SlideSettings(thumbnail_px=64)) as slide:
        read = []
        original = slide._backend.read
        monkeypatch.setattr(
            slide._backend, "read", lambda level, region: read.append(region) or original(level, region)
        )
        first = slide.levels[-1].array.compute()
        pixels = sum(region.width * region.height for region in read)
        assert pixels < slide.size.area / 5
        count = len(read)
        np.testing.assert_array_equal(slide.levels[-1].array.compute(), first)
        assert len(read) == count


@pytest.mark.usefixtures("decoded")
def test_what_a_model_sees_is_never_sampled(path):
    with open_slide(path) as slide:
        frame = slide.frame(slide.mpp * 8)
        found = slide.read(frame, Region.of(frame.size))
        exact = slide.read_level(0, Region(0, 0, 2000, 1496)).reshape(187, 8, 250, 8, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(found[:187], exact, atol=0.501)


def test_ordinary_slides_are_exact(pyramid, single_level):
    for path in (pyramid, single_level):
        with open_slide(path) as slide:
            assert all(level.exact for level in slide.levels)
