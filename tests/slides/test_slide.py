"""Pixels of a slide: alignment through every level and scale, windows, threads, pickling, dask."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import write_empty_levels, write_levels

from napari_metastasis.errors import SlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import open_slide

DOT = Region(700, 428, 24, 16)


@pytest.fixture(scope="module")
def dot(make_slide):
    """A black dot on white, as pyramid, with gaps in it, and as a single level."""
    pixels = np.full((1103, 1501, 3), 255, np.uint8)
    pixels[DOT.slices] = 0
    gaps = make_slide("dot-full.tif", pixels).with_name("dot-gaps.tif")
    write_levels(gaps, pixels, downsamples=(1, 4), mpp=0.243)
    return {
        "pyramid": make_slide("dot-full.tif", pixels),
        "gaps": gaps,
        "single": make_slide("dot-single.tif", pixels, levels=1),
    }


def centroid(pixels):
    """Return (x, y) of the ink, in continuous pixel coordinates (corner of the first pixel at 0)."""
    ink = 255.0 - pixels.mean(axis=2)
    rows, columns = np.indices(ink.shape)
    return (ink * (columns + 0.5)).sum() / ink.sum(), (ink * (rows + 0.5)).sum() / ink.sum()


@pytest.mark.parametrize("kind", ["pyramid", "gaps", "single"])
def test_a_dot_lies_at_one_place_through_every_level(dot, kind):
    with open_slide(dot[kind]) as slide:
        assert len(slide.levels) >= 2
        for index, level in enumerate(slide.levels[:4]):
            x, y = centroid(slide.read_level(index, Region.of(level.size)))
            assert x * level.downsample == pytest.approx(DOT.center.x, abs=0.05 * level.downsample)
            assert y * level.downsample == pytest.approx(DOT.center.y, abs=0.05 * level.downsample)


@pytest.mark.parametrize("mpp", [0.2, 0.243, 0.25, 0.36, 0.486, 0.5, 0.972, 1.0])
@pytest.mark.parametrize("kind", ["pyramid", "gaps", "single"])
def test_a_dot_lies_at_one_place_at_every_scale(dot, kind, mpp):
    with open_slide(dot[kind]) as slide:
        frame = slide.frame(mpp)
        pixels = slide.read(frame, Region.of(frame.size))
        x, y = centroid(pixels[:-2, :-2])
    assert x * frame.scale == pytest.approx(DOT.center.x, abs=0.05 * frame.scale)
    assert y * frame.scale == pytest.approx(DOT.center.y, abs=0.05 * frame.scale)


def test_level_zero_is_the_picture(pyramid, picture):
    with open_slide(pyramid) as slide:
        assert slide.size == Size(1501, 1103)
        assert slide.mpp == pytest.approx(0.243, rel=1e-6)
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), picture)


def test_a_level_that_fits_is_taken_as_it_is(pyramid):
    with open_slide(pyramid) as slide:
        frame = slide.frame(0.48)
        assert frame.scale == 2
        region = Region(40, 50, 60, 70)
        np.testing.assert_array_equal(slide.read(frame, region), slide.read_level(1, region))


def test_a_synthesised_level_equals_the_model_pixels_of_its_scale(single_level):
    with open_slide(single_level) as slide:
        frame = slide.frame(0.486)
        region = Region(3, 4, 50, 60)
        np.testing.assert_array_equal(slide.read(frame, region), slide.read_level(1, region))


def test_white_outside(pyramid, picture):
    with open_slide(pyramid) as slide:
        pixels = slide.read_level(0, Region(-5, -7, 20, 20))
        assert (pixels[:7] == 255).all()
        assert (pixels[:, :5] == 255).all()
        np.testing.assert_array_equal(pixels[7:, 5:], picture[:13, :15])
        frame = slide.frame(0.36)
        far = slide.read(frame, Region(frame.size.width + 50, -100, 30, 30))
        assert far.shape == (30, 30, 3)
        assert (far == 255).all()
        assert slide.read_level(0, Region(0, 0, 0, 0)).shape == (0, 0, 3)


@settings(max_examples=25, deadline=None)
@given(x=st.integers(-40, 300), y=st.integers(-40, 300), side=st.integers(1, 90), mpp=st.sampled_from([0.25, 0.5, 0.9]))
def test_a_window_changes_no_pixel(pyramid, x, y, side, mpp):
    with open_slide(pyramid) as slide:
        frame = slide.frame(mpp)
        whole = slide.read(frame, Region(-40, -40, 430, 430))
        part = slide.read(frame, Region(x, y, side, side))
    np.testing.assert_array_equal(part, whole[y + 40 : y + 40 + side, x + 40 : x + 40 + side])


def test_dask_levels(pyramid, single_level):
    for path in (pyramid, single_level):
        with open_slide(path) as slide:
            for index, level in enumerate(slide.levels):
                assert level.array.shape == (*level.size.shape, 3)
                assert level.array.dtype == np.uint8
                expected = slide.read_level(index, Region.of(level.size))
                np.testing.assert_array_equal(level.array.compute(scheduler="threads", num_workers=2), expected)
            piece = slide.levels[0].array[1000:1050, 700:650:-1, 1]
            np.testing.assert_array_equal(
                piece.compute(), slide.read_level(0, Region(0, 1000, 800, 50))[:, 700:650:-1, 1]
            )


def test_many_threads_read_the_same(pyramid, picture):
    rng = np.random.default_rng(5)
    regions = [Region(*rng.integers(0, 900, 2), 200, 150) for _ in range(60)]
    with open_slide(pyramid, settings=SlideSettings(cache_mib=1)) as slide, ThreadPoolExecutor(8) as pool:
        for region, pixels in zip(regions, pool.map(lambda part: slide.read_level(0, part), regions), strict=True):
            np.testing.assert_array_equal(pixels, picture[region.slices])


def test_pickled_it_opens_again(pyramid):
    with open_slide(pyramid, mpp=0.5) as slide:
        copy = pickle.loads(pickle.dumps(slide))
        with copy:
            assert (copy.mpp, copy.mpp_supplied, copy.path) == (0.5, True, slide.path)
            region = Region(10, 10, 50, 50)
            np.testing.assert_array_equal(copy.read_level(1, region), slide.read_level(1, region))


def test_closed_it_reads_no_more(pyramid):
    slide = open_slide(pyramid)
    slide.close()
    slide.close()
    assert slide.closed
    with pytest.raises(SlideError, match="was closed"):
        slide.read_level(0, Region(0, 0, 5, 5))
    with pytest.raises(SlideError, match="was closed"):
        slide.levels[0].array[:5, :5].compute()


def test_fingerprint_tells_slides_apart(pyramid, single_level):
    with open_slide(pyramid) as one, open_slide(single_level) as other, open_slide(pyramid) as again:
        assert one.fingerprint == again.fingerprint != other.fingerprint
        assert len(one.fingerprint) == 64


def test_a_huge_slide_is_opened_and_sliced_without_being_read(tmp_path):
    """76,000 tiles at level 0, all of them left out: only what depends on the size of the slide takes time."""
    path = tmp_path / "huge.tif"
    write_empty_levels(path, Size(200_000, 100_000))
    start = time.process_time()
    with open_slide(path) as slide:
        piece = slide.levels[0].array[50_000:50_400, 150_000:150_300]
        assert piece.shape == (400, 300, 3)
        assert (piece.compute() == 255).all()
        coarsest = slide.levels[-1].array
        assert max(coarsest.shape) <= 1024
        assert (coarsest.compute() == 255).all()
    # It takes 0.1 s; a reader that touches every chunk takes minutes.
    assert time.process_time() - start < 2
