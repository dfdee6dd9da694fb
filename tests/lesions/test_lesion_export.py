"""Files are read back at the right place, or were never there."""

from __future__ import annotations

import csv
import errno
import json
import os
import uuid
from dataclasses import replace

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Region
from napari_metastasis.lesions import (
    LesionIndex,
    write_detections_csv,
    write_lesions_csv,
    write_lesions_geojson,
)
from napari_metastasis.settings import DetectionSettings


@pytest.fixture(scope="module", params=[0.243, 0.25, 0.486, 0.5, 0.972])
def found(request):
    mpp = request.param
    frame = oracle.frame_of(100, 120, mpp=mpp, scale=0.972 / mpp)
    y, x = np.mgrid[:100, :120]
    values = np.zeros((100, 120), dtype=np.float32)
    # One lesion with a hole, one of a few cells; the centres are those of cells.
    distance = np.hypot(y - 40, x - 70)
    values[(distance < 20) & (distance >= 4)] = 0.875
    values[80:83, 20:23] = 0.7
    found = LesionIndex(values, frame, DetectionSettings(opening_um=16)).at(0.5)
    return frame, found


def test_detections_are_read_back_in_their_place(tmp_path, found):
    frame, found = found
    write_detections_csv(tmp_path / "tumor_001.csv", found.detections)
    rows = list(csv.reader((tmp_path / "tumor_001.csv").read_text().splitlines()))
    assert len(rows) == len(found.detections) == 2
    small = frame.cell_center(21, 81)
    assert [float(value) for value in rows[1]] == pytest.approx([0.7, small.x, small.y], abs=0.01)
    assert np.float32(rows[1][0]) == np.float32(0.7)
    for row, detection in zip(rows, found.detections, strict=True):
        assert [float(value) for value in row] == pytest.approx(
            [detection.probability, detection.x, detection.y], abs=0.006
        )


def test_a_header_on_request(tmp_path, found):
    write_detections_csv(tmp_path / "a.csv", found[1].detections, header=True)
    assert (tmp_path / "a.csv").read_text().startswith("p,x,y\n0.875,")


def test_no_detection_is_an_empty_file(tmp_path):
    write_detections_csv(tmp_path / "a.csv", [])
    write_lesions_csv(tmp_path / "b.csv", [])
    write_lesions_geojson(tmp_path / "c.geojson", [], slide="s")
    assert (tmp_path / "a.csv").read_text() == ""
    header = (tmp_path / "b.csv").read_text()
    assert (
        header
        == "id,x,y,probability,area_mm2,length_mm,size_class,detections,cut_by_edge,nuclei_estimated,size_class_by,"
        "review,look_again,reviewer,reviewed_at,comment,counted,counted_as,found_by,found_from,found_probability\n"
    )
    assert json.loads((tmp_path / "c.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_the_table_of_lesions(tmp_path, found):
    frame, found = found
    write_lesions_csv(tmp_path / "lesions.csv", found.lesions)
    large, small = csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines())
    center = frame.cell_center(21, 81)
    assert (float(small["x"]), float(small["y"])) == pytest.approx((center.x, center.y), abs=0.01)
    assert float(small["area_mm2"]) == pytest.approx(9 * (frame.cell_um / 1000) ** 2, abs=1e-6)
    # From the first centre to the last, and to both sides 2 of 7 parts of a cell: from 0.7 to 0, 0.5 lies there.
    across = 2 + 2 * 2 / 7
    assert float(small["length_mm"]) == pytest.approx(np.hypot(2, across) * frame.cell_um / 1000, abs=1e-4)
    assert int(small["nuclei_estimated"]) == round(9 * (frame.cell_um / 1000) ** 2 * 8000)
    assert (small["size_class"], small["detections"], small["id"]) == ("itc", "1", "2")
    assert small["size_class_by"] == large["size_class_by"] == "length"
    assert (large["size_class"], large["id"], large["probability"]) == ("micro", "1", "0.875")
    assert (large["cut_by_edge"], small["cut_by_edge"]) == ("0", "0")


def test_a_lesion_that_is_cut_by_the_edge_says_so_in_every_file(tmp_path, found):
    lesion = replace(found[1].lesions[0], cut_by_edge=True)
    write_lesions_csv(tmp_path / "lesions.csv", [lesion])
    (row,) = csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines())
    assert (row["size_class"], row["cut_by_edge"]) == ("micro", "1")
    write_lesions_geojson(tmp_path / "lesions.geojson", [lesion, found[1].lesions[1]], slide="slide")
    cut, whole = (each["properties"] for each in json.loads((tmp_path / "lesions.geojson").read_text())["features"])
    assert cut["name"] == "Lesion 1: Micro or larger, cut by the scanned area"
    assert whole["name"] == "Lesion 2"
    assert cut["classification"]["name"] == "Micro-metastasis"
    assert (cut["measurements"]["Cut by edge"], whole["measurements"]["Cut by edge"]) == (1, 0)


@pytest.mark.parametrize("bounds", [None, Region(300, 150, 5000, 4000)])
def test_geojson_is_read_back_in_its_place(tmp_path, found, bounds):
    frame, found = found
    path = tmp_path / "lesions.geojson"
    write_lesions_geojson(path, found.lesions, slide="slide", bounds=bounds)
    first = path.read_bytes()
    shift = (bounds.x, bounds.y) if bounds else (0, 0)
    features = json.loads(first)["features"]
    for feature, lesion in zip(features, found.lesions, strict=True):
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.is_valid
        moved = shapely.transform(geometry, lambda corners: corners + shift)
        assert moved.symmetric_difference(lesion.outline_px).area == pytest.approx(0, abs=1e-6)
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["measurements"]["Probability"] == pytest.approx(lesion.probability, abs=1e-6)
        assert uuid.UUID(feature["id"]).version == 5
    assert len(features[0]["geometry"]["coordinates"]) == 2, "the hole is a ring of its own"
    center, geometry = frame.cell_center(70, 40), shapely.geometry.shape(features[0]["geometry"])
    assert (geometry.centroid.x, geometry.centroid.y) == pytest.approx(
        (center.x - shift[0], center.y - shift[1]), abs=0.01
    )
    write_lesions_geojson(path, found.lesions, slide="slide", bounds=bounds)
    assert path.read_bytes() == first, "the same lesions give the same bytes"
    write_lesions_geojson(path, found.lesions, slide="another", bounds=bounds)
    ids = {feature["id"] for feature in features}
    assert ids.isdisjoint(feature["id"] for feature in json.loads(path.read_text())["features"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, found, code):
    found = found[1]
    writers = {
        "a.csv": lambda path: write_detections_csv(path, found.detections),
        "b.csv": lambda path: write_lesions_csv(path, found.lesions),
        "c.geojson": lambda path: write_lesions_geojson(path, found.lesions, slide="s"),
    }
    (tmp_path / "a.csv").write_text("old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    for name, write in writers.items():
        with pytest.raises(StorageError, match=r"expected .*, got .*; "):
            write(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"
