"""Every way in which TIFF stores 8-bit RGB, and damaged tiles."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_metastasis.errors import CorruptSlideError
from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.tiff_tiles import compose_on_white

RESOLUTION = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}


def read_back(path):
    with open_slide(path, backend="tifffile") as slide:
        return slide.read_level(0, Region.of(slide.size))


# One compression tells the headers of TIFF and BigTIFF apart, and no scanner writes strips of JPEG 2000.
LAYOUTS = [
    (compression, layout, planar, bigtiff)
    for compression in (None, "lzw", "zlib", "jpeg", "jpeg2000")
    for layout in ("tiles", "strips", "one strip")
    for planar in ("contig", "separate")
    for bigtiff in (False, True)
    if (compression != "jpeg2000" or layout == "tiles") and (compression == "lzw" or not bigtiff)
]


@pytest.mark.parametrize(("compression", "layout", "planar", "bigtiff"), LAYOUTS)
def test_layouts(tmp_path, picture, compression, layout, planar, bigtiff):
    pixels = picture[:300, :421]
    options = {"tile": (64, 80)} if layout == "tiles" else {"rowsperstrip": 300 if layout == "one strip" else 37}
    if compression == "jpeg":
        options |= {"compressionargs": {"level": 95}}
        options |= {} if layout == "tiles" else {"rowsperstrip": 300 if layout == "one strip" else 40}
    data = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, data, photometric="rgb", planarconfig=planar, compression=compression, bigtiff=bigtiff, metadata=None,
        **RESOLUTION, **options,
    )  # fmt: skip
    found = read_back(path)
    assert found.shape == pixels.shape
    lossy = compression in ("jpeg", "jpeg2000")
    difference = np.abs(found.astype(int) - pixels)
    assert difference.mean() < 6 if lossy else difference.max() == 0


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_alpha_is_composed_on_white(tmp_path, alpha):
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, :32] = (200, 100, 0, 255)
    rgba[:, 32:48] = (100, 50, 0, 128) if alpha == "assocalpha" else (200, 100, 0, 128)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=[alpha], tile=(32, 32), metadata=None, **RESOLUTION)
    found = read_back(path)
    np.testing.assert_array_equal(found[0, 0], (200, 100, 0))
    np.testing.assert_allclose(found[0, 40].astype(int), (227, 177, 127), atol=1)
    np.testing.assert_array_equal(found[0, 60], (255, 255, 255))


def test_opaque_alpha_changes_nothing():
    rgba = np.random.default_rng(0).integers(0, 256, (9, 9, 4)).astype(np.uint8)
    rgba[..., 3] = 255
    np.testing.assert_array_equal(compose_on_white(rgba, premultiplied=False), rgba[..., :3])


def patched(path, tmp_path, change):
    """Return a copy of a slide with its first tile changed: ``change(data, offset, count)``."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        change(data, page)
    copy = tmp_path / "changed.tif"
    copy.write_bytes(data)
    return copy


def test_a_missing_tile_is_white(pyramid, picture, tmp_path):
    def drop(data, page):
        tag = page.tags["TileByteCounts"]
        size = tag.valuebytecount // tag.count
        data[tag.valueoffset : tag.valueoffset + size] = bytes(size)

    found = read_back(patched(pyramid, tmp_path, drop))
    assert (found[:128, :128] == 255).all()
    np.testing.assert_array_equal(found[:128, 128:256], picture[:128, 128:256])


def test_a_damaged_tile_is_named(pyramid, tmp_path):
    def damage(data, page):
        data[page.dataoffsets[0] : page.dataoffsets[0] + 40] = bytes(40)

    path = patched(pyramid, tmp_path, damage)
    with open_slide(path) as slide:
        slide.read_level(0, Region(200, 200, 50, 50))
        with pytest.raises(CorruptSlideError, match=r"damaged data.*copy the slide again") as caught:
            slide.read_level(0, Region(0, 0, 50, 50))
    assert "\n" not in str(caught.value)
