"""``slides info``: what a slide's file is, and what reads it."""

from __future__ import annotations

import sys

import imagecodecs
import numpy as np
import pytest
from czi_files import JPEG_XR, Tile, czi_bytes, tiles_of, write_czi

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

LABEL = np.random.default_rng(1).integers(60, 250, (40, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(150, 250, (40, 50, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))


@pytest.fixture(scope="module")
def tiff(picture, tmp_path_factory):
    path = tmp_path_factory.mktemp("info") / "node.tif"
    write_pyramid(path, picture, mpp=0.25, size=Size(800, 640), tile_px=128, compression="deflate")
    return path


@pytest.fixture(scope="module")
def zeiss(picture, tmp_path_factory):
    path = tmp_path_factory.mktemp("info") / "node.czi"
    tiles = [*tiles_of(picture, 256, scene=0, compression=JPEG_XR)]
    return write_czi(path, tiles, attachments={"Label": ("CZI", czi_bytes([Tile(LABEL, 0, 0)]))})


def test_every_slide_is_told_and_a_bad_one_is_one_line(here, tiff, zeiss, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"no slide" * 50)
    answer = here("slides", "info", tiff, bad, zeiss)
    assert answer.status == 1
    assert answer.err.count("\n") == 1
    assert "bad.svs" in answer.err
    for words in ("BigTIFF", "from TIFF resolution", "tifffile (used); openslide", "Zeiss CZI", "from CZI scaling",
                  "20x", "label", "pylibczirw (used)"):  # fmt: skip
        assert words in answer.out
    assert here("slides", "info", tiff).status == 0


def test_the_same_as_json(here, tiff, zeiss, tmp_path):
    missing = tmp_path / "none.svs"
    answer = here("slides", "info", "--json", tiff, missing, zeiss)
    assert answer.status == 1
    first, second = answer.json["slides"]
    (failed,) = answer.json["failed"]
    assert failed["path"] == str(missing)
    assert "does not exist" in failed["error"]
    assert first["levels"][0] == {"size": [800, 640], "downsample": 1, "tile": [128, 128]}
    assert [level["downsample"] for level in first["levels"]] == [1, 2, 4, 8]
    assert first["mpp"] == pytest.approx([0.25, 0.25])
    assert first["readers"] == [
        {"name": "tifffile", "installed": True, "extra": None, "used": True},
        {"name": "openslide", "installed": True, "extra": None, "used": False},
    ]
    assert second["objective_power"] == 20
    assert second["associated"] == ["label"]
    assert second["refused"] == ""


def test_a_reader_that_is_not_there_is_named_with_its_extra(here, zeiss, monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    here("slides", "info", zeiss).fails_with("pylibczirw", "napari-metastasis[formats]")


def test_what_would_not_be_scanned_as_it_is(here, picture, tmp_path):
    unsized, gray = tmp_path / "unsized.tif", tmp_path / "dark.tif"
    write_pyramid(unsized, picture, mpp=None, size=Size(800, 640))
    write_pyramid(gray, picture // 8, mpp=0.5, size=Size(800, 640))
    slides = here("slides", "info", "--json", unsized, gray).json["slides"]
    assert "--mpp" in slides[0]["refused"]
    assert slides[0]["mpp"] is None
    assert "fluorescence" in slides[1]["refused"]


def test_a_label_is_written_where_it_is_asked_for(here, zeiss, tiff, tmp_path):
    target = tmp_path / "label.png"
    assert here("slides", "info", zeiss, "--label", target).status == 0
    np.testing.assert_array_equal(imagecodecs.png_decode(target.read_bytes()), LABEL)
    here("slides", "info", zeiss, "--label", target).fails_with("label.png", "--overwrite")
    assert here("slides", "info", zeiss, "--label", target, "--overwrite").status == 0
    answer = here("slides", "info", zeiss, "--macro", tmp_path / "macro.png")
    assert answer.status == 1
    assert "expected a macro image in node.czi, got label" in answer.err
    assert not (tmp_path / "macro.png").exists()
    here("slides", "info", zeiss, tiff, "--label", tmp_path / "other.png").fails_with("one slide for --label", status=2)
