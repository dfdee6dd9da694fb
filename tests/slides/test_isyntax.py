"""Philips iSyntax: what its wavelets show lies at the same place on every level, and damage is a damaged slide.

No file of a scanner could be had that may lie here; these are written from what the library reads.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from isyntax_files import BLOCK_PX, LEVELS, PADDING_PX, low_band_shape, write_isyntax

from napari_metastasis.errors import (
    CorruptSlideError,
    MissingDependencyError,
    MissingPixelSizeError,
    NotASlideError,
    SlideError,
)
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide

SIZE = Size(1500, 900)
GLASS, DEPTH = 230, 180
#: Of a dark spot, in pixels of the low band.
SPOT = 41.0, 52.0
LABEL = np.full((40, 60, 3), (200, 90, 30), np.uint8)


def low_band(*spots: tuple[float, float]):
    rows, columns = np.mgrid[tuple(slice(side) for side in low_band_shape(SIZE.width, SIZE.height))]
    dark = sum(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 9.0**2)) for x, y in spots)
    return (GLASS - DEPTH * dark).round().astype(np.uint8)


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("isyntax") / "node.isyntax"
    return write_isyntax(path, SIZE.width, SIZE.height, low_band(SPOT, (150.0, 70.0)), label=LABEL)


def refused(error, path) -> str:
    with pytest.raises(error) as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)
    return str(caught.value)


def test_what_the_file_states(slide_file):
    with open_slide(slide_file) as slide:
        assert (slide.format, slide.backend, slide.mpp) == ("Philips iSyntax", "pyisyntax", pytest.approx(0.25))
        assert slide.size == SIZE
        assert [level.downsample for level in slide.levels if level.stored] == [1, 2, 4]
        assert slide.levels[0].size == SIZE
        assert set(slide.associated_images) == {"label"}
        assert np.abs(slide.associated_images["label"].astype(int) - LABEL).max() < 8


def test_a_spot_lies_at_the_same_place_on_every_level(slide_file):
    # Each level's low band begins on the third pixel of the next finer one.
    expected = [(at * 2**LEVELS + 2 * (2**LEVELS - 1)) - PADDING_PX + 0.5 for at in SPOT]
    with open_slide(slide_file) as slide:
        for number, level in enumerate(slide.levels):
            if not level.stored:
                continue
            dark = GLASS - slide.read_level(number, Region.of(level.size)).astype(float)
            assert (dark[..., 0] == dark[..., 2]).all()
            weights = dark[: level.size.height, : int(800 / level.downsample), 0]
            weights[weights < 3] = 0
            places = [float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape)[::-1]]
            for place, right in zip(places, expected, strict=True):
                assert (place + 0.5) * level.downsample == pytest.approx(right, abs=0.51 * level.downsample)
            assert dark.max() == pytest.approx(DEPTH, abs=3)


def test_many_threads(slide_file):
    regions = [Region(x, y, 300, 200) for x in range(0, 1200, 290) for y in range(0, 700, 190)]
    with open_slide(slide_file) as slide:
        whole = slide.read_level(0, Region.of(slide.size))
        slide.forget()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda region: slide.read_level(0, region), regions))
    for region, pixels in zip(regions, found, strict=True):
        np.testing.assert_array_equal(pixels, whole[region.slices])


def test_without_a_pixel_size(tmp_path):
    path = write_isyntax(tmp_path / "unsized.isyntax", SIZE.width, SIZE.height, low_band(SPOT), mpp=None)
    assert "--mpp" in refused(MissingPixelSizeError, path)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.6, 0.9, 0.999])
def test_cut_off(slide_file, tmp_path, share, capfd):
    path = tmp_path / "cut.isyntax"
    path.write_bytes(slide_file.read_bytes()[: int(slide_file.stat().st_size * share)])
    with pytest.raises((CorruptSlideError, NotASlideError)) as caught, open_slide(path) as slide:
        slide.read_level(0, Region.of(slide.size))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_other_xml_is_no_slide(tmp_path):
    path = tmp_path / "other.isyntax"
    path.write_text("<?xml version='1.0'?><Slide/>\r\n\x04")
    refused(SlideError, path)


def test_without_the_library(slide_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "isyntax", None)
    assert "pip install 'napari-metastasis[formats]'" in refused(MissingDependencyError, slide_file)


def test_the_low_band_holds_the_padding():
    assert low_band_shape(1024 - 2 * PADDING_PX, 1025 - 2 * PADDING_PX) == (2 * BLOCK_PX, BLOCK_PX)
