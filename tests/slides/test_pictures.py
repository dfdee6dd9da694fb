"""PNG and JPEG pictures as slides of one level."""

from __future__ import annotations

import pickle
import struct

import imagecodecs
import numpy as np
import pytest

from napari_metastasis.errors import CorruptSlideError, MissingPixelSizeError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import open_slide

PIXELS = np.random.default_rng(4).integers(120, 256, (301, 402, 3), dtype=np.uint8)


def write(path, pixels=PIXELS):
    encode = imagecodecs.png_encode if path.suffix == ".png" else imagecodecs.jpeg8_encode
    path.write_bytes(encode(np.ascontiguousarray(pixels)))
    return path


@pytest.mark.parametrize("cache_mib", [0, 96])
@pytest.mark.parametrize("name", ["region.png", "region.jpg"])
def test_a_picture_is_read_like_any_slide(tmp_path, name, cache_mib):
    path = write(tmp_path / name)
    decoded = imagecodecs.imread(path.read_bytes())
    settings = SlideSettings(cache_mib=cache_mib)
    with open_slide(path, 0.5, settings) as slide, pickle.loads(pickle.dumps(slide)) as again:
        assert (slide.size, slide.mpp, slide.backend) == (Size(402, 301), 0.5, "imagecodecs")
        assert slide.format == ("PNG" if name.endswith("png") else "JPEG")
        np.testing.assert_array_equal(slide.read_level(0, Region(30, 20, 50, 40)), decoded[20:60, 30:80])
        assert (slide.read_level(0, Region(400, 299, 10, 10))[2:] == 255).all()
        half = slide.read(slide.frame(1.0), Region(5, 6, 20, 30))
        blocks = decoded[12:72, 10:50].reshape(30, 2, 20, 2, 3).mean(axis=(1, 3))
        assert abs(half - blocks).max() <= 0.5
        np.testing.assert_array_equal(again.read(again.frame(1.0), Region(5, 6, 20, 30)), half)


def test_a_picture_states_no_pixel_size(tmp_path):
    with pytest.raises(MissingPixelSizeError, match=r"region\.png to state its pixel size"):
        open_slide(write(tmp_path / "region.png"))


def test_transparent_parts_are_white(tmp_path):
    alpha = np.where(np.arange(402) < 200, 255, 0).astype(np.uint8)
    path = write(tmp_path / "a.png", np.dstack([PIXELS, np.broadcast_to(alpha, PIXELS.shape[:2])]))
    with open_slide(path, 0.5) as slide:
        seen = slide.read_level(0, Region(0, 0, 402, 301))
    np.testing.assert_array_equal(seen[:, :200], PIXELS[:, :200])
    assert (seen[:, 200:] == 255).all()


def test_what_is_no_rgb_picture_is_refused(tmp_path):
    grey = write(tmp_path / "grey.png", PIXELS[..., 0])
    with pytest.raises(NotASlideError, match=r"RGB picture of 8 bits, got uint8 .*grey\.png; export"):
        open_slide(grey, 0.5)
    (tmp_path / "cut.png").write_bytes(write(tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(CorruptSlideError, match=r"got damaged data in cut\.png; copy"):
        open_slide(tmp_path / "cut.png", 0.5)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 100_000, 100_000) + bytes(9)
    (tmp_path / "huge.png").write_bytes(huge)
    with pytest.raises(
        CorruptSlideError, match=r"got 100000 x 100000 px, where 1 to 134,217,728 .*; copy it .* save it"
    ):
        open_slide(tmp_path / "huge.png", 0.5)
