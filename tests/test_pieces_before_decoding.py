"""What a TIFF's pieces claim is looked at before a decoder is: none fills the memory, and none ends the process."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_metastasis.annotations import MaskFile
from napari_metastasis.errors import AnnotationError, CorruptSlideError, NotASlideError
from napari_metastasis.geometry import Region
from napari_metastasis.pictures import PictureError, decode_picture
from napari_metastasis.pictures.claims import claimed_px
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.backend import UnsupportedDialectError

PIXELS = np.random.default_rng(1).integers(120, 250, (200, 180, 3), dtype=np.uint8)
MASK = (PIXELS[..., 0] > 200).astype(np.uint8)
RESOLUTION = {"resolution": (20000, 20000), "resolutionunit": 3}
HUGE = 60_000

ENCODERS = {
    "png": imagecodecs.png_encode,
    "jpeg": imagecodecs.jpeg8_encode,
    "jpeg2000": imagecodecs.jpeg2k_encode,
    "jpeg2000 stream": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
    "webp": lambda pixels: imagecodecs.webp_encode(pixels, level=80),
    "webp lossless": lambda pixels: imagecodecs.webp_encode(pixels, lossless=True),
    "webp with transparency": lambda pixels: imagecodecs.webp_encode(np.dstack([pixels, pixels[..., :1]]), level=80),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_piece_claims_its_size(kind) -> None:
    data = bytes(ENCODERS[kind](np.ascontiguousarray(PIXELS[:48, :80])))
    assert claimed_px(data) == 48 * 80
    # Cut off anywhere in its header, it claims nothing more, and is the decoder's to refuse.
    assert all(claimed_px(data[:length]) in (0, 48 * 80) for length in range(len(data)))


def claiming(data: bytes) -> bytes:
    """Return a JPEG 2000 or JPEG stream that claims to be huge."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at >= 0:
        return data[: at + 8] + struct.pack(">II", HUGE, HUGE) + data[at + 16 :]
    at = data.find(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", HUGE, HUGE) + data[at + 9 :]


def with_claims(path: Path, pixels: np.ndarray, compression: str) -> None:
    """Write a TIFF of which one piece claims to be huge."""
    photometric = "minisblack" if pixels.ndim == 2 else "rgb"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), compression=compression, photometric=photometric, metadata=None, **RESOLUTION
    )
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = path.read_bytes()
    changed = claiming(data[offset : offset + count])
    assert changed != data[offset : offset + count]
    path.write_bytes(data[:offset] + changed + data[offset + count :])


@pytest.mark.parametrize("compression", ["jpeg2000", "jpeg"])
def test_a_piece_that_claims_to_be_huge_is_not_decoded(tmp_path, compression) -> None:
    path = tmp_path / "a.tif"
    with_claims(path, PIXELS, compression)
    # Wherever it is read first.
    with (
        pytest.raises(CorruptSlideError, match=r"claims 3,600,000,000 px, where the page says 4,096"),
        open_slide(path) as slide,
    ):
        slide.read_level(0, Region(0, 0, 64, 64))
    with pytest.raises(PictureError, match=r"claims 3,600,000,000 px"):
        decode_picture(path.read_bytes(), most_px=1 << 24)
    with_claims(path, MASK * 255, compression)
    with MaskFile(path) as mask, pytest.raises(AnnotationError, match=r"claims|damaged"):
        mask.values()


def test_components_count_as_well() -> None:
    data = bytearray(imagecodecs.jpeg2k_encode(PIXELS[:64, :64], codecformat="j2k"))
    at = data.find(b"\xff\x4f\xff\x51") + 4 + 36
    assert data[at : at + 2] == b"\0\3"
    data[at : at + 2] = b"\x40\0"
    assert claimed_px(bytes(data)) == 64 * 64 * 4096


@pytest.mark.parametrize("compression", ["jpegxr", "lerc"])
def test_decoders_that_do_not_refuse_what_is_damaged_are_not_used(tmp_path, compression) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PIXELS, tile=(64, 64), compression=compression, photometric="rgb", metadata=None, **RESOLUTION
    )
    with pytest.raises((UnsupportedDialectError, NotASlideError, CorruptSlideError)) as raised:
        open_slide(path)
    assert "compression" in str(raised.value)
    with pytest.raises(PictureError, match="compression"):
        decode_picture(path.read_bytes(), most_px=1 << 24)
    tifffile.imwrite(path, MASK, tile=(64, 64), compression=compression, metadata=None)
    with pytest.raises(AnnotationError, match="compression"):
        MaskFile(path)


def test_a_compression_that_nothing_decodes_is_named(tmp_path) -> None:
    """Jetraw's decoder is proprietary: where it is missing, imagecodecs raises an ImportError."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, tile=(64, 64), compression="lzw", photometric="rgb", metadata=None, **RESOLUTION)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(48124)
    with pytest.raises((UnsupportedDialectError, CorruptSlideError), match="compression"):
        open_slide(path)
