"""DICOM: a file a level, one level in several files, tiles that are scattered, and files that are not there."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from dicom_slides import read_volume, scattered, split, write_slide

from napari_metastasis.errors import CorruptSlideError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide

MPP = 0.486
PARTS = 3


@pytest.fixture(scope="module")
def levels(picture):
    whole = picture[:1024, :1408]
    halved = whole.reshape(512, 2, 704, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return whole, halved


@pytest.fixture(scope="module")
def folder(levels, tmp_path_factory):
    """Return a slide in two files, one a level."""
    path = tmp_path_factory.mktemp("dicom") / "node"
    write_slide(path, levels, mpp=MPP)
    return path


def write_parts(source, target, parts=PARTS):
    """Write a slide anew, its finest level as a concatenation."""
    shutil.copytree(source, target)
    volume = read_volume(target)
    for path in list(target.iterdir()):
        # A name tells nothing: the finest level is found by what it is.
        if str(volume.SOPInstanceUID).encode() in path.read_bytes()[:2000]:
            path.unlink()
    for number, part in enumerate(split(volume, parts)):
        part.save_as(target / f"part{number}.dcm")
    return target


def pixels_of(path, level=0):
    with open_slide(path) as slide:
        return slide.read_level(level, Region.of(slide.levels[level].size))


def failure(path) -> str:
    with pytest.raises((CorruptSlideError, NotASlideError)) as caught:
        pixels_of(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_a_level(folder, levels):
    with open_slide(folder) as slide:
        assert (slide.format, slide.backend, slide.mpp) == ("DICOM", "openslide", pytest.approx(MPP))
        assert slide.objective_power == 20
        assert slide.size == Size(1408, 1024)
        assert [level.downsample for level in slide.levels if level.stored] == [1, 2]
    for number, level in enumerate(levels):
        assert np.abs(pixels_of(folder, number).astype(int) - level).max() <= 12, "only JPEG's loss"


def test_a_concatenation_shows_the_same_from_whichever_file(folder, tmp_path):
    path = write_parts(folder, tmp_path / "split")
    assert len(list(path.iterdir())) == PARTS + 1
    expected = pixels_of(folder)
    for opened in (path, path / "part0.dcm", path / "part2.dcm", path / "level1.dcm"):
        np.testing.assert_array_equal(pixels_of(opened), expected)


@pytest.mark.parametrize("number", range(PARTS))
def test_a_concatenation_without_one_of_its_files(folder, tmp_path, number):
    path = write_parts(folder, tmp_path / "split")
    (path / f"part{number}.dcm").unlink()
    assert "in concatenation" in failure(path)


def test_a_concatenation_with_a_file_of_another(folder, tmp_path):
    path, other = (write_parts(folder, tmp_path / name) for name in ("one", "other"))
    shutil.copy(other / "part1.dcm", path / "part1.dcm")
    assert "Concatenation UID" in failure(path)


def test_a_concatenation_that_is_cut_off(folder, tmp_path):
    path = write_parts(folder, tmp_path / "split")
    data = (path / "part1.dcm").read_bytes()
    (path / "part1.dcm").write_bytes(data[: len(data) // 2])
    failure(path)


def test_scattered_tiles_lie_where_they_say(folder, tmp_path):
    scattered(read_volume(folder)).save_as(tmp_path / "sparse.dcm")
    np.testing.assert_array_equal(pixels_of(tmp_path), pixels_of(folder))


def test_tiles_that_were_not_scanned_are_white(folder, tmp_path):
    scattered(read_volume(folder), frozenset({1, 12})).save_as(tmp_path / "sparse.dcm")
    pixels, expected = pixels_of(tmp_path), pixels_of(folder).copy()
    expected[:128, 128:256] = expected[128:256, 128:256] = 255
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.shared
def test_a_real_slide_as_a_concatenation(shared_data, tmp_path):
    source = shared_data / "slides" / "CMU-1-Small-Region-dicom"
    writable = tmp_path / "real"
    writable.mkdir()
    for file in source.iterdir():
        (writable / file.name).write_bytes(file.read_bytes())
    path = write_parts(writable, tmp_path / "split", 4)
    with open_slide(source) as one, open_slide(path) as other:
        assert (one.mpp, one.size) == (other.mpp, other.size)
        assert set(one.associated_images) == set(other.associated_images)
        whole = Region.of(one.size)
        np.testing.assert_array_equal(one.read_level(0, whole), other.read_level(0, whole))
