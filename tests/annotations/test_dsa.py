"""JSON of the Digital Slide Archive: its own forms, a round trip, and what is refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Annotation, AnnotationSet, covered, read_dsa_json, write_dsa_json
from napari_metastasis.errors import AnnotationError, StorageError

SQUARE = [[10, 10, 0], [50, 10, 0], [50, 40, 0], [10, 40, 0]]
HOLE = [[20, 20, 0], [30, 20, 0], [30, 30, 0]]


def line(points=SQUARE, **more):
    return {"type": "polyline", "points": points, "closed": True, **more}


def annotation(*elements, name="tumor"):
    return {"name": name, "description": "", "attributes": {}, "elements": list(elements)}


def read(tmp_path, document):
    path = tmp_path / "a.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_dsa_json(path)


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path):
    square, hole = np.array(SQUARE, float)[:, :2], np.array(HOLE, float)[:, :2]
    written = AnnotationSet(
        (
            Annotation.of_rings("Lesion 1", "Macro-metastasis", square + 1 / 3, [hole, hole + 1 / 7]),
            Annotation.of_rings("Lesion 1", "Macro-metastasis", square + 100),
            Annotation.of_rings('Lesion "2" µ', "_0", square + 1000.123456789),
        )
    )
    path = tmp_path / "a.json"
    write_dsa_json(path, written, name="s")
    assert read_dsa_json(path).annotations == written.annotations
    document = json.loads(path.read_text())
    assert set(document) == {"name", "description", "attributes", "elements"}
    first = document["elements"][0]
    assert (first["type"], first["closed"], first["group"]) == ("polyline", True, "Macro-metastasis")
    assert all(len(point) == 3 for ring in (first["points"], *first["holes"]) for point in ring)
    write_dsa_json(path, AnnotationSet(), name="s")
    assert len(read_dsa_json(path)) == 0


@pytest.mark.parametrize("wrap", [dict, lambda one: [one], lambda one: {"_id": "1", "annotation": one}])
def test_an_annotation_its_record_and_a_list_are_read(tmp_path, wrap):
    (found,) = read(tmp_path, wrap(annotation(line(holes=[HOLE, HOLE[:2]]))))
    assert (found.name, found.group, found.is_tumour) == ("tumor", "tumor", True)
    np.testing.assert_array_equal(found.exterior, np.array(SQUARE)[:, :2])
    assert len(found.holes) == 1


@pytest.mark.parametrize(
    ("more", "name", "group"),
    [
        ({"group": "_0", "label": {"value": "a"}}, "a", "_0"),
        ({"label": {"value": "metastases"}}, "metastases", "metastases"),
        ({"label": "b"}, "b", "b"),
        ({"group": None}, "tumor", "tumor"),
    ],
)
def test_the_group_or_the_label_or_the_annotation_says_what_it_is(tmp_path, more, name, group):
    (found,) = read(tmp_path, annotation(line(**more)))
    assert (found.name, found.group) == (name, group)
    (nameless,) = read(tmp_path, {"elements": [line()]})
    assert nameless.group == "None"


def test_rectangles_circles_and_ellipses_enclose_areas(tmp_path):
    found = read(
        tmp_path,
        annotation(
            {"type": "rectangle", "center": [100, 50, 0], "width": 40, "height": 20, "rotation": np.pi / 2},
            {"type": "circle", "center": [100, 50, 0], "radius": 30},
            {"type": "ellipse", "center": [100, 50, 0], "width": 80, "height": 20, "rotation": np.pi / 4},
        ),
    )
    rectangle, circle, ellipse = (covered(one) for one in found)
    assert rectangle.area == pytest.approx(800)
    assert rectangle.bounds == pytest.approx((90, 30, 110, 70))
    assert circle.area == pytest.approx(np.pi * 900, rel=0.002)
    assert ellipse.area == pytest.approx(np.pi * 400, rel=0.002)
    # Turned clockwise with y downwards: its end lies to the lower right.
    assert ellipse.distance(shapely.Point(100 + 28, 50 + 28)) < 1
    assert ellipse.distance(shapely.Point(100 + 28, 50 - 28)) > 10


def test_what_encloses_nothing_is_counted(tmp_path):
    found = read(
        tmp_path,
        annotation(
            line(), {"type": "point", "center": [1, 2, 0]}, {"type": "polyline", "points": SQUARE, "closed": False},
            {"type": "heatmap", "points": []}, {"type": "griddata"}, {"type": "arrow"}, line(SQUARE[:2]), {},
        ),
    )  # fmt: skip
    assert len(found) == 1
    assert found.omitted == {
        "points": 1, "lines": 1, "heatmaps": 1, "elements of type 'griddata'": 1, "arrows": 1,
        "outlines of fewer than three corners": 1, "elements of type 'None'": 1,
    }  # fmt: skip


def test_cut_outs_become_holes_as_in_asap(tmp_path):
    found = read(tmp_path, annotation(line(group="_0"), line(HOLE, group="exclusion")))
    assert [len(one.holes) for one in found] == [1]


def test_a_hundred_thousand_corners_take_no_time(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    ring = np.column_stack((np.cos(angle), np.sin(angle))) * 9000 + 20_000
    path = tmp_path / "a.json"
    write_dsa_json(path, AnnotationSet((Annotation.of_rings("a", "_0", ring),)), name="s")
    begun = time.process_time()
    (found,) = read_dsa_json(path)
    assert time.process_time() - begun < 5
    np.testing.assert_array_equal(found.exterior, ring)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "does not parse"),
        ("[" * 100_000, "does not parse"),
        ("17", "AttributeError"),
        ("[17]", "AttributeError"),
        ({"name": "a"}, "KeyError"),
        ({"elements": {}}, "elements that are no list"),
        (annotation("x"), "AttributeError"),
        (annotation(line(None)), "TypeError"),
        (annotation(line([["a", "b", 0]] * 3)), "ValueError"),
        (annotation(line([[1, 2, 0], [3, None, 0], [5, 6, 0]])), "at least three finite"),
        (annotation(line([[1, 2, 0], [3, 4, 0], [5, 1e7, 0]])), "within 400,000 px"),
        (annotation({"type": "circle", "center": [1, 2, 0]}), "KeyError"),
    ],
)
def test_a_file_that_is_wrong_is_named_in_one_line(tmp_path, document, words):
    with pytest.raises(AnnotationError, match=words) as caught:
        read(tmp_path, document)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(AnnotationError, match="check the path"):
        read_dsa_json(tmp_path / "missing.json")
    with pytest.raises(StorageError, match="expected a folder"):
        write_dsa_json(tmp_path / "no" / "a.json", AnnotationSet(), name="s")
