"""GeoJSON: QuPath's forms, and what is refused."""

from __future__ import annotations

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
        (json.dumps([feature({"type": "Polygon", "coordinates": [SQUARE[:2]]})]), "at least three"),
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
