"""Points with their classes, from every kind of file, and errors that name the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_metastasis.annotations import PointSet, read_points
from napari_metastasis.errors import AnnotationError


def asap(*annotations):
    rows = []
    for kind, group, points in annotations:
        corners = "".join(f'<Coordinate Order="{k}" X="{x}" Y="{y}"/>' for k, (x, y) in enumerate(points))
        head = f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}">'
        rows.append(f"{head}<Coordinates>{corners}</Coordinates></Annotation>")
    return f"<ASAP_Annotations><Annotations>{''.join(rows)}</Annotations></ASAP_Annotations>"


def feature(kind, coordinates, **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def check(found, xy, classes):
    np.testing.assert_array_equal(found.xy, np.array(xy, dtype=float).reshape(-1, 2))
    assert found.classes == tuple(classes)
    assert len(found) == len(xy)


def test_asaps_dots_and_point_sets(tmp_path):
    path = tmp_path / "a.xml"
    ring = [(0, 0), (9, 0), (9, 9)]
    path.write_text(
        asap(("Dot", "mitosis", [(3.5, 4)]), ("Polygon", "_0", ring), ("PointSet", "look-alike", [(1, 2), (5, 6)]))
    )
    # Its coordinates are level-0 pixels whatever the bounds.
    found = read_points(path, shift=(100, 200))
    check(found, [(3.5, 4), (1, 2), (5, 6)], ["mitosis", "look-alike", "look-alike"])
    check(found.of("Mitosis"), [(3.5, 4)], ["mitosis"])
    check(found.of("mitosis", "look-alike"), found.xy, found.classes)
    check(found.of("other"), [], [])
    assert not found.xy.flags.writeable


def test_geojsons_points_and_multi_points_count_from_the_bounds(tmp_path):
    path = tmp_path / "a.geojson"
    features = [
        feature("Point", [3, 4, 0.5], classification={"name": "mitosis"}),
        feature("Polygon", [[[0, 0], [9, 0], [9, 9], [0, 0]]]),
        feature("MultiPoint", [[1, 2], [5, 6]], name="cell"),
        feature("Point", [7, 8]),
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    expected = [(103, 204), (101, 202), (105, 206), (107, 208)]
    check(read_points(path, shift=(100, 200)), expected, ["mitosis", "cell", "cell", "None"])


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("x,y,class\n3,4.5,mitosis\n\n1,2,\n", ["mitosis", "None"]),
        ("\ufeffLabel, Y, X\na,4.5,3\nb,2,1\n", ["a", "b"]),
        ("x,y\n3,4.5\n1,2\n", ["None", "None"]),
    ],
)
def test_csv_by_its_columns(tmp_path, text, classes):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    check(read_points(tmp_path / "a.csv"), [(3, 4.5), (1, 2)], classes)


def test_tupacs_columns_have_no_names_and_are_read_only_where_their_order_is_said(tmp_path):
    path = tmp_path / "01.csv"
    path.write_text("40,3\n20,1\n")
    check(read_points(path, order="yx"), [(3, 40), (1, 20)], ["None", "None"])
    check(read_points(path, order="xy"), [(40, 3), (20, 1)], ["None", "None"])
    with pytest.raises(AnnotationError, match="expected columns x and y"):
        read_points(path)
    # Names of columns count more.
    path.write_text("x,y,class\n3,40,mitosis\n")
    check(read_points(path, order="yx"), [(3, 40)], ["mitosis"])
    path.write_text("40,3\n20\n")
    with pytest.raises(AnnotationError, match="got '20'; correct the line"):
        read_points(path, order="yx")
    path.write_text("")
    check(read_points(path, order="yx"), [], [])


def midog(*boxes, names=("001.tiff", "002.tiff")):
    return {
        "images": [{"id": 7 + k, "file_name": name, "width": 9000, "height": 7000} for k, name in enumerate(names)],
        "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}],
        "annotations": [{"image_id": image, "bbox": box, "category_id": kind} for image, box, kind in boxes],
    }


def test_midogs_boxes_are_points_of_the_slide_that_is_named(tmp_path):
    path = tmp_path / "MIDOG.json"
    boxes = [(7, [10, 20, 60, 70], 1), (8, [0, 0, 51, 50], 1), (7, [100, 200, 150, 250], 2)]
    path.write_text(json.dumps(midog(*boxes)))
    # Its coordinates are level-0 pixels whatever the bounds.
    check(
        read_points(path, slide="001.tiff", shift=(5, 5)), [(35, 45), (125, 225)], ["mitotic figure", "hard negative"]
    )
    check(read_points(path, slide="002.tiff"), [(25.5, 25)], ["mitotic figure"])
    path.write_text(json.dumps(midog((7, [10, 20, 60, 70], 3), names=("001.tiff",))))
    check(read_points(path), [(35, 45)], ["None"])


@pytest.mark.parametrize(
    ("document", "slide", "words"),
    [
        (midog(), None, "expected the points of one slide in .*, got those of 2; say which"),
        (midog(), "9.tiff", "expected the points of 9.tiff in .*, got those of 001.tiff, 002.tiff …; check"),
        (midog((7, [10, 20, 50, 20], 1)), "001.tiff", "expected left, top, right, bottom .* COCO's own boxes"),
        (midog((7, [10, 20, 50], 1)), "001.tiff", "expected four numbers as every bbox"),
        (midog((7, [10, "a", 50, 70], 1)), "001.tiff", "expected four numbers as every bbox"),
        ({"images": [{}], "annotations": []}, None, "expected images and boxes in"),
        ({"images": 3, "annotations": []}, None, "expected images and boxes in"),
    ],
)
def test_what_is_wrong_with_midogs_json_is_said_in_one_line(tmp_path, document, slide, words):
    path = tmp_path / "MIDOG.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=words) as caught:
        read_points(path, slide=slide)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_points_are_an_answer(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n")
    (tmp_path / "a.xml").write_text(asap())
    (tmp_path / "a.json").write_text("[]")
    for name in ("a.csv", "a.xml", "a.json"):
        check(read_points(tmp_path / name), [], [])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "3,4\n", "expected columns x and y in .*, got 3, 4; write"),
        ("a.csv", "", "got none; write a first line x,y,class"),
        ("a.csv", "x,y\n3\n", "got '3'; correct the line"),
        ("a.csv", "x,y\n3,far\n", "got '3,far'; correct"),
        ("a.csv", "x,y\n3,nan\n", "1 of them not finite; correct the points"),
        ("a.xml", "<nothing/>", "expected <ASAP_Annotations>"),
        ("a.xml", asap(("Dot", "a", [("far", 1)])), "expected numbers as the coordinates of 'a'"),
        ("a.geojson", "{", "does not parse"),
        ("a.geojson", json.dumps([feature("Point", [])]), "expected GeoJSON features with coordinates"),
        ("a.geojson", json.dumps([feature("Point", ["x", 1])]), "expected GeoJSON features with coordinates"),
        ("a.txt", "3 4", "expected points as ASAP XML, GeoJSON, MIDOG JSON or CSV, got .*; export them"),
    ],
)
def test_what_is_no_points_is_named(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_points(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["no.csv", "no.xml", "no.geojson"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(AnnotationError, match=r"no\..* check the path"):
        read_points(tmp_path / name)


def test_every_point_has_one_class():
    with pytest.raises(AnnotationError, match="got 1 classes of 2 points"):
        PointSet(np.zeros((2, 2)), ("a",))
