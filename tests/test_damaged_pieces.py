"""Tiles, strips and chains of pages that decoders end the process on, or follow for hours, are refused before."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastasis.annotations import MaskFile
from napari_metastasis.errors import AnnotationError, SlideError
from napari_metastasis.geometry import Region
from napari_metastasis.pictures import PictureError, check_pages, check_piece
from napari_metastasis.slides import open_slide

LZW = SimpleNamespace(compression=5, fillorder=1)


def packed(codes: list[tuple[int, int]], *, lowest_first: bool = False) -> bytes:
    """Return codes and their bits as a stream."""
    bits = [
        (code >> bit) & 1 for code, width in codes for bit in (range(width) if lowest_first else range(width)[::-1])
    ]
    bits += [0] * (-len(bits) % 8)
    return np.packbits(bits, bitorder="little" if lowest_first else "big").tobytes()


def widths(count: int, *, lowest_first: bool) -> list[int]:
    """Return the bits of each code after strings were forgotten, one after the other, as decoders count them."""
    found, strings = [], 258
    for number in range(count):
        found.append(9 + sum(strings >= limit - (not lowest_first) for limit in (512, 1024, 2048)))
        strings += number > 0
    return found


@pytest.mark.parametrize("kind", ["noise", "steps", "flat"])
@pytest.mark.parametrize("size", [1, 2, 100, 5000, 300_000])
def test_whole_pieces_of_lzw_pass(kind, size):
    rng = np.random.default_rng(size)
    values = {"noise": rng.integers(0, 256, size), "steps": np.arange(size) // 7 % 256, "flat": np.zeros(size)}[kind]
    data = values.astype(np.uint8).tobytes()
    check_piece(LZW, imagecodecs.lzw_encode(data))
    reversed_bits = imagecodecs.bitorder_decode(imagecodecs.lzw_encode(data))
    check_piece(SimpleNamespace(compression=5, fillorder=2), reversed_bits)


def test_whole_pieces_that_another_program_wrote_pass():
    """libtiff forgets strings where they do not help."""
    pixels = np.random.default_rng(0).integers(0, 30, (300, 400, 3), dtype=np.uint8)
    pixels[100:200] = 7
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            check_piece(page, file.getvalue()[offset : offset + count])
        assert np.array_equal(page.asarray(), pixels)


@pytest.mark.parametrize("lowest_first", [False, True])
@pytest.mark.parametrize("before", [0, 1, 200, 300, 1500, 3839])
def test_a_string_that_was_never_said_is_refused_wherever_it_stands(before, lowest_first):
    """The decoder follows it into memory that is not its own."""
    bits = widths(before + 1, lowest_first=lowest_first)
    codes = [(256, 9), *((65, width) for width in bits[:before])]
    again = [(256, bits[before])] if before else []
    check_piece(LZW, packed([*codes, *again, (66, 9)], lowest_first=lowest_first))
    check_piece(LZW, packed([*codes, *again, (257, 9)], lowest_first=lowest_first))
    with pytest.raises(PictureError, match="damaged data"):
        check_piece(LZW, packed([*codes, *again, (300, 9)], lowest_first=lowest_first))


def test_a_piece_that_forgets_again_and_again_is_refused_soon():
    with pytest.raises(PictureError, match="damaged data"):
        check_piece(LZW, packed([(256, 9)] * 50_000))


def _damaged_tiff(path, *, photometric: str) -> None:
    """Write a TIFF whose only strip says a string that was never said, in the place of its first colour."""
    pixels = np.zeros((64, 64) if photometric == "minisblack" else (64, 64, 3), np.uint8)
    tifffile.imwrite(
        path, pixels, compression="lzw", photometric=photometric, metadata=None, resolution=(20000, 20000),
        resolutionunit=3,
    )  # fmt: skip
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = packed([(256, 9), (300, 9), (300, 9)])[:4]
    path.write_bytes(data)


def test_masks_and_slides_of_damaged_lzw_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    _damaged_tiff(path, photometric="minisblack")
    with pytest.raises(AnnotationError, match="damaged data"), MaskFile(path) as mask:
        mask.values()
    _damaged_tiff(path, photometric="rgb")
    with pytest.raises(SlideError, match="damaged data"), open_slide(path, 0.5) as slide:
        slide.read_level(0, Region(0, 0, 64, 64))


@pytest.mark.parametrize("pages", [1, 3, 150])
def test_pages_that_lead_back_are_refused(tmp_path, pages):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(pages):
            tiff.write(np.zeros((8, 8), np.uint8), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        check_pages(tiff)
        last = tiff.pages[pages - 1].offset
        (tags,) = struct.unpack("<H", path.read_bytes()[last : last + 2])
    data = bytearray(path.read_bytes())
    data[last + 2 + 12 * tags : last + 6 + 12 * tags] = struct.pack("<I", last)
    path.write_bytes(data)
    with tifffile.TiffFile(path) as tiff, pytest.raises(PictureError, match="without an end"):
        check_pages(tiff)
    with pytest.raises(AnnotationError, match="without an end"):
        MaskFile(path)
    with pytest.raises(SlideError):
        open_slide(path, 0.5)
