"""Mask images: every form that goes about, and which value is tumour."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_metastasis.annotations import detect_tumour_value, mask_value, read_mask, tumour_pixels
from napari_metastasis.errors import AnnotationError


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
        with pytest.raises(AnnotationError, match=r"a\.(png|tif), which cannot be read"):
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
