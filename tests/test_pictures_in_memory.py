"""Pictures in memory: what is claimed is looked at before anything is decoded."""

from __future__ import annotations

import contextlib
import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastasis.pictures import PictureError, decode_picture

RGB = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def packed(pixels, kind, **options):
    stream = io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(stream, pixels, **options)
    else:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0], np.dstack([RGB, RGB[..., 0]]), RGB[..., 0].astype(np.uint16)])
def test_pixels_come_back(kind, pixels):
    found = decode_picture(packed(pixels, kind), most_px=2400)
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"comment": b"x" * 300}, {"exif": b"Exif\0\0" + bytes(99)}]
)
def test_a_jpeg_states_its_size(options):
    data = packed(np.full_like(RGB, 90), "JPEG", **options)
    assert decode_picture(data, most_px=2400).shape == (40, 60, 3)
    with pytest.raises(PictureError, match="60 x 40 px, where 1 to 2,399"):
        decode_picture(data, most_px=2399)


def test_a_palette_is_colours_or_numbers():
    numbers = (RGB[..., 0] % 3).astype(np.uint8)
    image = Image.fromarray(numbers, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    data = packed(image, "PNG")
    np.testing.assert_array_equal(decode_picture(data, most_px=2400, indexed=True), numbers)
    assert decode_picture(data, most_px=2400).shape == (40, 60, 3)


PNG, JPEG, TIFF = packed(RGB, "PNG"), packed(RGB, "JPEG"), packed(RGB, "TIFF")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (b"GIF89a" + bytes(50), "no PNG, JPEG or TIFF"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(50), "no PNG, JPEG or TIFF"),
        (PNG[:8], "damaged"),
        (PNG[:20], "damaged"),
        (PNG[:300], "damaged"),
        (PNG[:16] + struct.pack(">II", 1 << 30, 1 << 30) + PNG[24:], "1073741824 x 1073741824 px"),
        (PNG[:16] + struct.pack(">II", 0, 40) + PNG[24:], "0 x 40 px"),
        (JPEG[:3], "damaged"),
        (JPEG[:200], "damaged"),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(60), "damaged"),
        (TIFF[:9], "damaged"),
        (TIFF[:200], "damaged"),
    ],
)
def test_what_cannot_be_decoded_says_what_came(data, what):
    with pytest.raises(PictureError, match=what):
        decode_picture(data, most_px=2400)


@pytest.mark.parametrize("data", [PNG, JPEG, TIFF])
def test_flipped_bytes_end_in_one_kind_of_error(data):
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 3):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(PictureError):
            assert decode_picture(bytes(damaged), most_px=1 << 16).size <= 4 * (1 << 16)


def test_jpeg_of_one_channel_is_gray():
    assert decode_picture(imagecodecs.jpeg_encode(np.ascontiguousarray(RGB[..., 0])), most_px=2400).shape == (40, 60)
