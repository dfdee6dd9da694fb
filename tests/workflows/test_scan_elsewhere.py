"""Scans of one slide as TIFF, as OME-Zarr and at an address: the same answers, and records that find it again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from disc_slide import DISC_CENTER
from ome_zarr_files import write_ome_zarr
from scans import SCAN, scan_with
from slide_server import serving

from napari_metastasis.cohorts.cohort import CohortSlide, read_cohort, read_slides, write_cohort
from napari_metastasis.geometry import Region
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.converting import convert_slide
from napari_metastasis.workflows.report import find_slides, is_one_slide
from napari_metastasis.workflows.report.result import read_result
from napari_metastasis.workflows.report.slide import open_reported_slide


@pytest.fixture(scope="module")
def others(tmp_path_factory, slide_path):
    """The slide with the disc in other forms."""
    folder = tmp_path_factory.mktemp("others")
    with open_slide(slide_path) as slide:
        pixels = slide.read_level(0, Region.of(slide.size))
        for name in ("node.ome.zarr", "node.ome.zarr.zip"):
            convert_slide(slide, folder / name)
    for version in ("0.4", "0.5"):
        write_ome_zarr(folder / f"node-{version}.ome.zarr", pixels, version=version, mpp=(0.486, 0.486), levels=1)
    (folder / "node.tif").write_bytes(slide_path.read_bytes())
    return folder


def same_scan(opened, slide, model, folder):
    """Scan both, and assert that they answer the same."""
    one = scan_with(slide, model, folder / "one", scan=SCAN)
    other = scan_with(opened, model, folder / "other", scan=SCAN)
    np.testing.assert_array_equal(other.probabilities, one.probabilities)
    assert [(lesion.x, lesion.y, lesion.area_mm2) for lesion in other.lesions] == [
        (lesion.x, lesion.y, lesion.area_mm2) for lesion in one.lesions
    ]
    assert (folder / "other" / "detections.csv").read_bytes() == (folder / "one" / "detections.csv").read_bytes()
    weights = np.nan_to_num(other.probabilities)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    assert other.frame.cell_center(column, row).distance(DISC_CENTER) < other.frame.cell_px / 2
    return other


@pytest.mark.parametrize("name", ["node.ome.zarr", "node.ome.zarr.zip", "node.tif"])
@pytest.mark.parametrize("remote", [False, True])
def test_the_same_slide_elsewhere_answers_the_same(others, slide, model, tmp_path, name, remote):
    with serving() as server:
        server.add_folder(others, "b")
        with open_slide(f"{server.url}/b/{name}" if remote else others / name) as opened:
            result = same_scan(opened, slide, model, tmp_path)
            record = json.loads((tmp_path / "other" / "run.json").read_text())["slide"]
            assert record["fingerprint"] == opened.fingerprint
            assert record["path"] == str(opened.path)
            assert record["name"] == "node"
            # Whoever reads the result finds the slide again.
            with open_reported_slide(read_result(result.output)) as again:
                assert (again.path, again.fingerprint) == (opened.path, opened.fingerprint)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_disc_lies_where_it_does_in_files_of_ome_zarr_py(others, slide_path, model, tmp_path, version):
    """They hold level 0 alone: the slide is read from that, too."""
    with open_slide(slide_path) as slide:
        pixels = slide.read_level(0, Region.of(slide.size))
    from napari_metastasis.geometry import Size
    from napari_metastasis.slides import write_pyramid

    write_pyramid(
        tmp_path / "node.tif", pixels, mpp=0.486, size=Size(pixels.shape[1], pixels.shape[0]), levels=1,
        compression="deflate",
    )  # fmt: skip
    with open_slide(tmp_path / "node.tif") as slide, open_slide(others / f"node-{version}.ome.zarr") as opened:
        same_scan(opened, slide, model, tmp_path)


def test_a_copy_here_goes_on_with_a_scan_of_an_address(others, model, tmp_path):
    with serving() as server:
        server.add_folder(others, "b")
        with open_slide(f"{server.url}/b/node.tif") as opened:
            scan_with(opened, model, tmp_path / "out", scan=SCAN)
    with open_slide(others / "node.tif") as local:
        again = scan_with(local, model, tmp_path / "out", scan=SCAN)
    # Nothing was left to scan.
    assert again.mpx_per_s == 0


def test_cohort_files_hold_addresses(tmp_path):
    slides = [
        CohortSlide(name="a", path=SlideUrl("https://host/x/a.svs"), split="test"),
        CohortSlide(name="b", path=SlideUrl("s3://bucket/b.ome.zarr"), mpp=0.25, split="test"),
        CohortSlide(name="c", path=tmp_path / "c.svs", split="test"),
    ]
    write_cohort(tmp_path / "cohort.csv", slides)
    assert list(read_cohort(tmp_path / "cohort.csv", validation_share=0.0, seed=0).slides) == slides
    assert [one.path for one in read_slides(tmp_path / "cohort.csv")] == [one.path for one in slides]
    found = find_slides([tmp_path / "cohort.csv", SlideUrl("https://host/x/a.svs"), SlideUrl("https://host/d.svs")])
    assert [one.name for one in found] == ["a", "b", "c", "d"]
    assert is_one_slide(SlideUrl("https://host/list.csv"))


def test_an_ome_zarr_is_one_slide_and_no_folder_of_slides(others):
    assert is_one_slide(others / "node.ome.zarr")
    assert [one.name for one in find_slides([others / "node.ome.zarr"])] == ["node"]
