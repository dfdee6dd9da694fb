"""GeoJSON: QuPath's forms, and what is refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from napari_metastasis.annotations import read_geojson
from napari_metastasis.errors import AnnotationError

SQUARE = [[0, 0], [8, 0], [8, 6], [0, 6], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 2]]


def feature(geometry, **properties):
    return {"type": "Feature", "id": "f1", "geometry": geometry, "properties": properties}


POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}


def read(tmp_path, document, **how):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(document))
    return read_geojson(path, **how)


def collection(one):
    return {"type": "FeatureCollection", "features": [one]}


@pytest.mark.parametrize("wrap", [collection, lambda one: [one], dict])
def test_a_collection_an_array_and_one_feature(tmp_path, wrap):
    (found,) = read(tmp_path, wrap(feature(POLYGON, name="n", classification={"name": "Tumor"})))
    assert (found.name, found.group, found.is_tumour) == ("n", "Tumor", True)
    np.testing.assert_array_equal(found.exterior, SQUARE[:-1])
    np.testing.assert_array_equal(found.holes[0], HOLE[:-1])


@pytest.mark.parametrize(
    ("properties", "group"),
    [
        ({"classification": "Tumor"}, "Tumor"),
        ({"classification": {"names": ["Tumor", "necrotic"]}}, "Tumor"),
        ({"name": "metastases"}, "metastases"),
        ({"classification": None}, "None"),
        ({}, "None"),
    ],
)
def test_the_class_is_the_group(tmp_path, properties, group):
    (found,) = read(tmp_path, [feature(POLYGON, **properties)])
    assert found.group == group


def test_several_polygons_and_what_encloses_no_area(tmp_path):
    several = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[*corner, 7] for corner in HOLE]]]}
    point, line = ({"type": kind, "coordinates": [1, 2]} for kind in ("Point", "LineString"))
    found = read(tmp_path, [feature(several), feature(point), feature(line), feature(None)])
    assert [len(one.exterior) for one in found] == [4, 3]
    shifted = read(tmp_path, [feature(several)], shift=(100, 10))
    np.testing.assert_array_equal(shifted.annotations[0].exterior[0], (100, 10))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "does not parse"),
        ("[" * 100_000, "does not parse"),
        ("17", "TypeError"),
        ("[17]", "another kind"),
        ('{"type": "Topology"}', "another kind"),
        (
            json.dumps([feature({"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [5, 10**400]]]})]),
            "more than 40 digits",
        ),
        (json.dumps([feature({"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [5, 1e7]]]})]), "within 400,000 px"),
        (json.dumps([feature({"type": "Polygon", "coordinates": [["ab", "cd", "ef"]]})]), "ValueError"),
        (json.dumps([feature({"type": "Polygon"})]), "KeyError"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, text, match):
    path = tmp_path / "wrong.geojson"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=match) as caught:
        read_geojson(path)
    assert "wrong.geojson" in str(caught.value)
    with pytest.raises(AnnotationError, match="check the path"):
        read_geojson(tmp_path / "missing.geojson")


def classed(geometry, name):
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def area(x=0):
    return {"type": "Polygon", "coordinates": [[[px + x, py] for px, py in SQUARE]]}


def test_a_derived_class_is_its_base_class(tmp_path):
    found = read(tmp_path, [classed(area(), "Tumor: Positive"), classed(area(900), "Stroma: Tumor")])
    assert [one.is_tumour for one in found] == [True, False]
    assert found.unknown_groups == ("Stroma: Tumor",)


def test_collections_are_opened_and_the_rest_is_counted(tmp_path):
    point, line = {"type": "Point", "coordinates": [1, 2]}, {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    nested = {
        "type": "GeometryCollection",
        "geometries": [area(), {"type": "GeometryCollection", "geometries": [point]}],
    }
    stray = {"type": "Polygon", "coordinates": [SQUARE[:2]]}
    found = read(
        tmp_path, [classed(nested, "Tumor"), classed(line, "Tumor"), classed(stray, "Tumor"), classed(None, "x")]
    )
    assert len(found.tumour) == 1
    assert found.omitted == {
        "points": 1, "lines": 1, "outlines of fewer than three corners": 1, "features without a geometry": 1,
    }  # fmt: skip
    assert "1 point, 1 line" in found.doubts("a")
    assert read(tmp_path, [classed(point, "Tumor")]).lacks_tumour
    assert not read(tmp_path, []).lacks_tumour


def test_cut_outs_become_holes_as_in_asap(tmp_path):
    half = {"type": "Polygon", "coordinates": [[[x / 2 + 5, y / 2 + 5] for x, y in SQUARE]]}
    found = read(tmp_path, [classed(area(), "Tumor"), classed(half, "Exclusion")])
    assert [len(one.holes) for one in found] == [1]


def test_what_is_gzipped_is_read_and_what_is_damaged_named(tmp_path):
    path = tmp_path / "a.geojson.gz"
    packed = gzip.compress(json.dumps([classed(area(), "Tumor")]).encode())
    path.write_bytes(packed)
    assert len(read_geojson(path).tumour) == 1
    for damaged in (packed[:-9], packed[:2], b"\x1f\x8b" + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(AnnotationError, match=r"a\.geojson\.gz"):
            read_geojson(path)


def test_more_text_than_memory_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_metastasis.annotations.geojson._MOST_BYTES", 1000)
    path = tmp_path / "a.geojson"
    path.write_bytes(gzip.compress(b" " * 5000))
    with pytest.raises(AnnotationError, match="export fewer annotations"):
        read_geojson(path)


def test_a_little_that_unpacks_to_gigabytes_is_refused(tmp_path):
    """No outlines pack to a hundredth."""
    path = tmp_path / "a.geojson.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write(b" " * (1 << 20))
    with pytest.raises(AnnotationError, match="at most 64 MiB"):
        read_geojson(path)


def test_a_ring_of_two_corners_is_counted_however_often_they_are_said(tmp_path):
    there_and_back = [[0, 0], [5, 5], [0, 0], [5, 5], [0, 0]]
    path = tmp_path / "a.geojson"
    geometry = {"type": "Polygon", "coordinates": [there_and_back]}
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    found = read_geojson(path)
    assert len(found) == 0
    assert found.omitted == {"outlines of fewer than three corners": 1}
