"""Mask images: every form that goes about, and which value is tumour."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastasis.annotations import MaskFile, detect_tumour_value, mask_value, read_mask, tumour_pixels
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region


@pytest.fixture
def base():
    """Level 0 of a mask, 512 x 384."""
    return (np.random.default_rng(0).random((384, 512)) < 0.3).astype(np.uint8) * 2


def pyramid(path, base, scales):
    with tifffile.TiffWriter(path) as file:
        for scale in scales:
            extra = {"subfiletype": 1} if scale > 1 else {}
            file.write(base[::scale, ::scale], tile=(64, 64), metadata=None, **extra)


@pytest.mark.parametrize("scales", [(1, 2, 4, 8), (1, 2), (1, 4, 16), (1, 3), (1, 10), (1, 5, 20)])
def test_a_pyramid_is_read_at_any_level_it_can_make(tmp_path, base, scales):
    path = tmp_path / "Tumor_001_Mask.tif"
    pyramid(path, base, scales)
    for downsample in (1, 2, 4, 8):
        found = read_mask(path, downsample=downsample, stored_downsample=32)
        np.testing.assert_array_equal(found.values, base[::downsample, ::downsample])
        assert found.values.dtype == np.uint8
        assert found.extent == (512, 384)
        assert found.stored_values == {0, 2}


def test_strips_join_without_a_seam(tmp_path, base, monkeypatch):
    monkeypatch.setattr("napari_metastasis.annotations.masks._STRIP", 5)
    path = tmp_path / "a.tif"
    pyramid(path, base[:381, :509], (1, 2))
    found = read_mask(path, downsample=32, stored_downsample=1)
    np.testing.assert_array_equal(found.values, base[:381, :509][::32, ::32])


def test_pictures_are_of_one_resolution(tmp_path, base):
    for name, write in (("a.png", imagecodecs.png_encode), ("a.tif", None)):
        path = tmp_path / name
        if write:
            path.write_bytes(write(base))
        else:
            tifffile.imwrite(path, base)
        found = read_mask(path, downsample=32, stored_downsample=32)
        np.testing.assert_array_equal(found.values, base)
        assert found.extent == (513 * 32, 385 * 32)
        finer = read_mask(path, downsample=32, stored_downsample=16)
        np.testing.assert_array_equal(finer.values, base[::2, ::2])


def test_what_is_no_mask_is_named(tmp_path, base):
    for name in ("a.png", "a.tif"):
        path = tmp_path / name
        with pytest.raises(AnnotationError, match=r"a\.(png|tif), which cannot be read"):
            read_mask(path, downsample=32, stored_downsample=32)
        path.write_bytes(b"not an image")
        with pytest.raises(AnnotationError, match=r"got no PNG, JPEG or TIFF in .*a\.png|a\.tif, which cannot be read"):
            read_mask(path, downsample=32, stored_downsample=32)
    wide = tmp_path / "wide.tif"
    tifffile.imwrite(wide, base)
    for stored in (64, 20):
        with pytest.raises(AnnotationError, match=f"got one for every {stored} in .*; export it"):
            read_mask(wide, downsample=32, stored_downsample=stored)


@pytest.mark.parametrize(
    ("values", "tumour"),
    [
        ({0, 255}, 255),
        ({255}, 255),
        ({0, 1}, 1),
        ({0, 2}, 2),
        ({0, 1, 2}, 2),
        ({0}, 255),
        (set(), 255),
        (set(range(256)), 255),
    ],
)
def test_tumour_is_found_among_the_values(values, tumour):
    assert mask_value(values, "masks") == tumour


@pytest.mark.parametrize("values", [{0, 1, 255}, {0, 3}, {0, 2, 255}, set(range(100))])
def test_ambiguous_values_are_named(values):
    with pytest.raises(AnnotationError, match=r"got the values \d.* in these; .*--tumour-value"):
        mask_value(values, "these")


@pytest.mark.parametrize(
    ("masks", "value"),
    [([{0, 1}, {0, 255}], 1), ([{0, 1}, {1, 2}, {0}], 2), ([{0, 255}, {0}], 255), ([{0, 255}, set(range(256))], 255)],
)
def test_the_masks_of_a_cohort_say_together_what_tumour_is(masks, value):
    assert detect_tumour_value({str(number): values for number, values in enumerate(masks)}) == value


def test_the_mask_that_is_ambiguous_is_named():
    with pytest.raises(AnnotationError, match=r"got the values 3 in b\.tif; "):
        detect_tumour_value({"a.tif": {0, 1}, "b.tif": {0, 3}})


def test_a_value_that_was_stated_is_meant():
    pixels = np.array([0, 1, 2, 7, 255], np.uint8)

    def called(values, tumour_value):
        return pixels[tumour_pixels(pixels, values, tumour_value)].tolist()

    assert called({0, 7, 255}, 7) == [7]
    # Beside classes 255 may be what nobody looked at: nothing of this is detected, the user decides.
    assert called({0, 1, 255}, 1) == [1]
    assert called({0, 1, 255}, 255) == [255]
    assert called({0, 255}, 1) == [255]
    assert called({0, 1, 2}, 2) == [2, 255]


def test_a_pyramid_may_begin_at_another_level(tmp_path, base):
    path = tmp_path / "a.tif"
    pyramid(path, base, (1, 2, 4))
    found = read_mask(path, downsample=16, stored_downsample=1, pyramid_downsample=8)
    np.testing.assert_array_equal(found.values, base[::2, ::2])
    assert found.extent == (512 * 8, 384 * 8)


VALUES = np.zeros((300, 420), np.uint8)
VALUES[40:90, 30:200] = 1
VALUES[200:290, 250:400] = 2


def written(path, values=VALUES, **options):
    tifffile.imwrite(path, values, **({"compression": "deflate", "tile": (64, 64)} | options))
    return path


def test_the_numbers_of_a_palette_are_the_classes(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[1, 2] = 65535
    image = Image.fromarray(VALUES, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.png")
    written(tmp_path / "a.tif", photometric="palette", colormap=table)
    for name in ("a.png", "a.tif"):
        with MaskFile(tmp_path / name) as mask:
            assert mask.values() == {0, 1, 2}
            np.testing.assert_array_equal(mask.read(Region(0, 0, 420, 300)), VALUES)


@pytest.mark.parametrize("bits", [1, 8])
def test_white_is_zero_where_the_file_says_so(tmp_path, bits):
    tumour = VALUES == 2
    inverted = ~tumour if bits == 1 else np.where(tumour, 0, 255).astype(np.uint8)
    options = {"tile": None, "rowsperstrip": 300} if bits == 1 else {}
    path = written(tmp_path / "a.tif", inverted, photometric="miniswhite", **options)
    with MaskFile(path) as mask:
        assert mask.values() == ({0, 1} if bits == 1 else {0, 255})
        np.testing.assert_array_equal(mask.read(Region(0, 0, 420, 300)) > 0, tumour)


BLANK = VALUES * 0
COLOURED = {
    "blue": np.dstack([BLANK, BLANK, VALUES * 127]),
    "green and opaque": np.dstack([BLANK, VALUES * 100, BLANK, BLANK + 255]),
    "black and transparent": np.dstack([BLANK, BLANK, BLANK, VALUES * 127]),
    "grey and transparent": np.dstack([BLANK, VALUES * 127]),
}


@pytest.mark.parametrize("name", COLOURED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_are_refused_with_what_to_do(tmp_path, name, suffix):
    path, pixels = tmp_path / f"mask{suffix}", COLOURED[name]
    if suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        colours = pixels.shape[2] > 2
        written(path, pixels, photometric="rgb" if colours else "minisblack", planarconfig="contig")
    with (
        pytest.raises(AnnotationError, match=r"expected a grey mask in mask.*; save it as 8-bit grey"),
        MaskFile(path) as mask,
    ):
        mask.values()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_three_equal_samples_are_grey(tmp_path, suffix):
    path, pixels = tmp_path / f"mask{suffix}", np.repeat(VALUES[..., None] // 2 * 255, 3, axis=2)
    written(path, pixels, photometric="rgb") if suffix == ".tif" else Image.fromarray(pixels).save(path)
    with MaskFile(path) as mask:
        np.testing.assert_array_equal(mask.read(Region(0, 0, 420, 300)) > 127, VALUES == 2)


@pytest.mark.parametrize("photometric", ["separated", "cielab"])
def test_samples_of_other_kinds_are_refused(tmp_path, photometric):
    samples = 4 if photometric == "separated" else 3
    path = written(tmp_path / "a.tif", np.repeat(VALUES[..., None], samples, axis=2), photometric=photometric)
    with pytest.raises(AnnotationError, match=f"samples of the kind {photometric.upper()}"):
        MaskFile(path)


@pytest.mark.parametrize("layout", [{}, {"tile": None, "rowsperstrip": 7}, {"tile": (128, 64)}])
def test_the_values_of_a_mask_are_those_of_its_pixels(tmp_path, layout):
    rng = np.random.default_rng(2)
    speckled = VALUES.copy()
    speckled[rng.integers(0, 300, 9), rng.integers(0, 420, 9)] = np.arange(100, 109)
    with MaskFile(written(tmp_path / "a.tif", speckled, **layout)) as mask:
        assert mask.values() == set(np.unique(speckled).tolist())
    # Tiles reach past the image, with values that nobody sees.
    ones = np.ones((70, 70), np.uint8)
    with MaskFile(written(tmp_path / "b.tif", ones)) as mask:
        assert mask.values() == {1}


def test_a_huge_mask_of_glass_is_looked_through_at_once(tmp_path):
    tile = np.zeros((256, 256), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, (tile for _ in range(100 * 100)), shape=(25_600, 25_600), dtype=np.uint8, tile=(256, 256),
        compression="deflate",
    )  # fmt: skip
    decoded = []
    with MaskFile(path) as mask:
        own = mask._opened._pages[0].decode
        mask._opened._pages[0].decode = lambda *args, **more: decoded.append(1) or own(*args, **more)
        assert mask.values() == {0}
    assert len(decoded) == 1


@pytest.fixture
def lesions():
    """A mask of two lesions, 512 x 384."""
    rows, columns = np.mgrid[:384, :512]
    found = (np.hypot(rows - 90, columns - 120) < 60) | (np.hypot(rows - 200, columns - 430) < 9)
    return found.astype(np.uint8) * 255


@pytest.mark.parametrize("reduced", ["sampled", "averaged"])
def test_levels_that_show_the_same_are_read(tmp_path, lesions, reduced):
    path, base = tmp_path / "mask.tif", lesions
    coarse = base[::2, ::2]
    if reduced == "averaged":
        coarse = base.reshape(192, 2, 256, 2).mean(axis=(1, 3)).astype(np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(base, tile=(64, 64), metadata=None)
        tiff.write(coarse, tile=(64, 64), metadata=None, subfiletype=1)
    with MaskFile(path) as mask:
        assert len(mask.levels) == 2


@pytest.mark.parametrize("other", ["upside down", "everything", "nothing"])
def test_a_page_of_a_levels_size_that_shows_something_else_is_refused(tmp_path, lesions, other):
    """Such as a tissue mask behind the tumour mask."""
    path, base = tmp_path / "mask.tif", lesions
    page = {"upside down": base[::-2, ::2], "everything": base[::2, ::2] * 0 + 255, "nothing": base[::2, ::2] * 0}[
        other
    ]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(base, tile=(64, 64), metadata=None)
        tiff.write(page, tile=(64, 64), metadata=None, subfiletype=1)
    with pytest.raises(AnnotationError, match=r"the levels of one mask.*shows something else"):
        MaskFile(path)


@pytest.mark.parametrize("as_stack", [True, False])
def test_several_images_of_one_size_are_no_mask(tmp_path, lesions, as_stack):
    """Such as a page for each lesion."""
    path = tmp_path / "mask.tif"
    pages = np.stack([lesions, lesions[::-1]])
    with tifffile.TiffWriter(path) as tiff:
        for page in [pages] if as_stack else pages:
            tiff.write(page, photometric="minisblack", metadata=None)
    with pytest.raises(AnnotationError, match=r"expected one mask .* got 2 images of 512 x 384 px; save them as one"):
        MaskFile(path)


@pytest.mark.parametrize("side", [3, 6, 13, 40])
@pytest.mark.parametrize("corner", [(5, 9), (100, 101), (203, 350)])
def test_a_mark_too_small_for_coarse_levels_refuses_no_mask(tmp_path, side, corner):
    """An isolated tumour cell is gone from the levels that are sampled coarser than it is wide."""
    path, base = tmp_path / "mask.tif", np.zeros((384, 512), np.uint8)
    base[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 255
    pyramid(path, base, (1, 2, 4, 8, 16, 32))
    with MaskFile(path) as mask:
        assert len(mask.levels) == 6


@pytest.mark.parametrize("step", [2, 4])
def test_levels_that_keep_the_highest_value_are_levels_too(tmp_path, step):
    """Small lesions grow with every level that is pooled so."""
    path, base = tmp_path / "mask.tif", np.zeros((768, 1024), np.uint8)
    for row, column in np.random.default_rng(1).integers(0, 750, (30, 2)):
        base[row : row + 5, column : column + 5] = 255
    with tifffile.TiffWriter(path) as tiff:
        level = base
        while min(level.shape) >= 8 * step:
            tiff.write(level, tile=(64, 64), metadata=None, subfiletype=int(level is not base))
            rows, columns = (side // step for side in level.shape)
            level = level[: rows * step, : columns * step].reshape(rows, step, columns, step).max(axis=(1, 3))
    with MaskFile(path) as mask:
        assert len(mask.levels) > 2
