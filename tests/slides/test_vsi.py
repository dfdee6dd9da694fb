"""Olympus VSI: what its reader shows, on a slide of another format that the same library reads, and what is refused.

No VSI file could be had that may lie here.
"""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
import tifffile

from napari_metastasis.errors import CorruptSlideError, FluorescenceError, MissingDependencyError, NotASlideError
from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.fingerprints import files_of
from napari_metastasis.slides.vsi import describe_vsi

FACTS = {
    "chosen": [4000, 3000, "3 uint8"],
    "images": [[400, 300, "3 uint8"], [4000, 3000, "3 uint8"]],
    "planes": 1,
    "frames": 1,
    "metres": [2.5e-7, 2.5e-7],
    "magnification": 20.0,
}


@pytest.mark.shared
def test_the_library_shows_what_tifffile_shows(shared_data, tmp_path):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    module = tmp_path / "svs.py"
    module.write_text(
        textwrap.dedent(f"""
        import runpy
        def open_file(path, cache_bytes):
            return runpy.run_path({str(MODULES / "vsi.py")!r})["SlideioFile"](path, "SVS")
        """)
    )
    other = ApartBackend(module, path, cache_bytes=1 << 24, name="slideio", describe=describe_vsi)
    try:
        with open_slide(path) as slide:
            assert other.metadata.pixel_size is not None
            assert (other.metadata.pixel_size.x, other.metadata.objective_power) == (pytest.approx(slide.mpp), 20)
            assert [level.size for level in other.levels] == [level.size for level in slide.levels if level.stored]
            assert other.metadata.notes == ()
            for region in (Region(100, 700, 900, 500), Region(2000, 2800, 220, 167)):
                difference = other.read(0, region).astype(int) - slide.read_level(0, region)
                assert np.abs(difference).max() <= 2
            assert set(other.associated) == set(slide.associated_images)
            for name, read in other.associated.items():
                assert np.abs(read().astype(int) - slide.associated_images[name]).mean() < 1
    finally:
        other.close()


def test_what_a_file_states():
    found = describe_vsi(FACTS, "node.vsi")
    assert (found.pixel_size.x, found.objective_power, found.notes) == (pytest.approx(0.25), 20, ())
    images = [*FACTS["images"], [3000, 3000, "3 uint8"]]
    two, stack = describe_vsi(FACTS | {"images": images}, "a"), describe_vsi(FACTS | {"planes": 5}, "a")
    assert "4000 x 3000, 3000 x 3000 px" in two.notes[0]
    assert "got 5" in stack.notes[0]
    assert describe_vsi(FACTS | {"metres": [0, 0], "magnification": 0}, "a").pixel_size is None
    for error, facts in (
        (FluorescenceError, {"chosen": [4000, 3000, "4 uint16"]}),
        (FluorescenceError, {"chosen": [4000, 3000, "3 uint16"]}),
        (NotASlideError, {"frames": 2}),
    ):
        with pytest.raises(error, match="; "):
            describe_vsi(FACTS | facts, "node.vsi")


def refused(error, path) -> str:
    with pytest.raises(error) as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_picture_in_the_file_is_not_taken_for_the_slide(tmp_path, monkeypatch):
    """A VSI file is a TIFF, whose only image is an overview of what lies in the folder beside it."""
    path = tmp_path / "node.vsi"
    tifffile.imwrite(path, np.full((300, 400, 3), 230, np.uint8), photometric="rgb", resolution=(20000, 20000))
    assert "the folder _node_" in refused(CorruptSlideError, path)
    folder = tmp_path / "_node_" / "stack1"
    folder.mkdir(parents=True)
    (folder / "frame_t.ets").write_bytes(b"SIS\0" + bytes(300))
    assert [file.name for file in files_of(path, path)] == ["node.vsi", "frame_t.ets"]
    assert "got its overview of 400 x 300 px alone" in refused(CorruptSlideError, path)
    monkeypatch.setitem(sys.modules, "slideio", None)
    assert "pip install 'napari-metastasis[formats]'" in refused(MissingDependencyError, path)
