"""A fingerprint covers what lies between the ends of a file, and every file of a slide."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from napari_metastasis.errors import NotASlideError
from napari_metastasis.slides import earlier_fingerprint, open_slide
from napari_metastasis.slides import fingerprint as fingerprint_of
from napari_metastasis.slides.fingerprints import files_of

MODULE = "napari_metastasis.slides.fingerprints"
SIDE = 1024
MARGINS = {"_MIB": 1 << 12, "_WHOLE_BYTES": 0}


def write(path, *, tissue, compression=None):
    """Pink tissue of one grey or another in the middle of white margins."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    noise = np.random.default_rng(tissue).integers(0, 60, (256, 256, 3))
    pixels[384:640, 384:640] = (180 + noise).astype(np.uint8)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression=compression,
        resolution=(1e4 / 0.5, 1e4 / 0.5), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


@pytest.fixture
def sampled(monkeypatch):
    """Files are sampled as if they were large."""
    for name, value in MARGINS.items():
        monkeypatch.setattr(f"{MODULE}.{name}", value)


@pytest.mark.usefixtures("sampled")
def test_slides_of_one_size_with_the_same_margins_are_told_apart(tmp_path):
    one, other = (write(tmp_path / f"{tissue}.tif", tissue=tissue) for tissue in (1, 2))
    assert earlier_fingerprint(one) == earlier_fingerprint(other), "which is why it is not enough"
    with open_slide(one) as first, open_slide(other) as second:
        assert first.earlier_fingerprint == second.earlier_fingerprint
        assert first.fingerprint != second.fingerprint
        assert first.levels[0].array.name != second.levels[0].array.name, "dask would show one for the other"


@pytest.mark.usefixtures("sampled")
def test_a_copy_is_the_same_slide(tmp_path):
    one = write(tmp_path / "one.tif", tissue=1)
    shutil.copy(one, tmp_path / "copy.tif")
    assert fingerprint_of([one]) == fingerprint_of([tmp_path / "copy.tif"])


@pytest.mark.usefixtures("sampled")
def test_where_the_tiles_lie_counts_where_the_sample_is_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{MODULE}._PIECES", 0)
    monkeypatch.setattr(f"{MODULE}._MIB", 8)
    one, other = (write(tmp_path / f"{tissue}.tif", tissue=tissue, compression="deflate") for tissue in (1, 2))
    longest = max(path.stat().st_size for path in (one, other))
    for path in (one, other):
        with path.open("ab") as file:
            file.write(bytes(longest + 8 - path.stat().st_size))
    ends = {(path.read_bytes()[:8], path.read_bytes()[-8:]) for path in (one, other)}
    assert len(ends) == 1, "only the tables tell"
    assert fingerprint_of([one]) != fingerprint_of([other])


@pytest.mark.usefixtures("sampled")
def test_every_file_of_a_mirax_slide_counts(tmp_path):
    slide, folder = tmp_path / "s.mrxs", tmp_path / "s"
    slide.write_bytes(b"a picture of the slide")
    folder.mkdir()
    for name in ("Slidedat.ini", "Data0000.dat", "Data0001.dat"):
        (folder / name).write_bytes(name.encode() * 2000)
    files = files_of(slide, slide)
    assert [file.name for file in files] == ["s.mrxs", "Data0000.dat", "Data0001.dat", "Slidedat.ini"]
    before = fingerprint_of(files)
    data = bytearray((folder / "Data0001.dat").read_bytes())
    data[len(data) // 2 - 500 : len(data) // 2 + 500] = bytes(1000)
    (folder / "Data0001.dat").write_bytes(data)
    assert fingerprint_of(files) != before


def test_every_file_of_a_folder_counts(tmp_path):
    for name in ("b.dcm", "a.dcm"):
        (tmp_path / name).write_bytes(bytes(10))
    assert [file.name for file in files_of(tmp_path, tmp_path / "a.dcm")] == ["a.dcm", "b.dcm"]


@pytest.mark.parametrize("content", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0+" + bytes(40), b"II*\0" + b"\xff" * 60, b""])
def test_what_is_no_tiff_after_all_has_one_too(tmp_path, content):
    path = tmp_path / "damaged.tif"
    path.write_bytes(content)
    assert len(fingerprint_of([path])) == 64
    with pytest.raises((NotASlideError, OSError)):
        open_slide(path, mpp=0.5)
