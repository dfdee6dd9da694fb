"""Points of mitoses among the corrections: in the one file, undone, put together, and nothing that lesions know of."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import (
    Correction,
    Corrections,
    CorrectionStore,
    Finding,
    History,
    PointSet,
    add_points,
    corrections_of_points,
    decide_point,
    mitosis_points,
    read_corrections,
    read_points,
    write_corrections,
)
from napari_metastasis.annotations import store as store_module
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.lesions import list_lesions
from napari_metastasis.workflows.review import read_from, write_for

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PLACE = shapely.Point(40.25, 50)
FOUND = Finding(model="mitosis-a", map="mitoses", threshold=0.4, probability=0.75, outline_px=PLACE)
TUMOUR = Correction(key="t", label="tumour", shape_px=shapely.box(0, 0, 90, 90), at=AT)
ALL = Corrections.of(
    [
        TUMOUR,
        Correction(key="1", label="mitosis", shape_px=shapely.Point(7.125, 8), at=AT, reviewer="Dr. Ä"),
        Correction(key="2", label="not-mitosis", shape_px=PLACE, found=FOUND, at=AT),
        Correction(key="3", label="mitosis", shape_px=PLACE, found=replace(FOUND, probability=None), at=AT),
    ]
)


@pytest.mark.parametrize("bounds", [None, Region(100, 200, 5000, 5000)])
def test_they_are_read_back_and_others_read_them_as_points(tmp_path, bounds):
    path = tmp_path / "annotations.geojson"
    write_corrections(path, ALL, bounds=bounds)
    assert read_corrections(path, bounds=bounds).corrections == ALL
    corner = (0.0, 0.0) if bounds is None else (bounds.x, bounds.y)
    points = read_points(path, shift=corner)
    np.testing.assert_array_equal(points.xy, [(7.125, 8), (40.25, 50), (40.25, 50)])
    assert points.classes == ("Mitosis", "Not a mitosis", "Mitosis")
    np.testing.assert_array_equal(points.mitoses.xy, points.xy[[0, 2]])
    assert [one.state for one in ALL] == ["added", "added", "rejected", "confirmed"]


def test_points_of_another_program_are_taken_over_once(tmp_path):
    path = tmp_path / "a.geojson"

    def feature(kind, coordinates, **properties):
        return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}

    features = [
        feature("MultiPoint", [[3, 4], [5, 6]], classification={"name": "Mitosis"}),
        feature("Point", [7, 8, 0.5], classification={"name": "hard negative"}),
        # Of what class a point is, its file has to say.
        feature("Point", [1, 1]),
        feature("Point", [2, 2], classification={"name": "Tumor"}),
    ]
    path.write_text(json.dumps(features))
    read = read_corrections(path, bounds=Region(100, 0, 500, 500), reviewer="Dr. B")
    said = mitosis_points(read.corrections)
    np.testing.assert_array_equal(said.xy, [(103, 4), (105, 6), (107, 8)])
    assert said.is_mitosis.tolist() == [True, True, False]
    assert {one.reviewer for one in read.corrections} == {"Dr. B"}
    # What is not understood is kept as it is.
    assert list(read.others) == features[2:]
    assert read.omitted == {"points": 2}
    again = read_corrections(path, bounds=Region(100, 0, 500, 500))
    assert list(again.corrections.by_key) == list(read.corrections.by_key)
    found, omitted = corrections_of_points(PointSet(said.xy, ("Mitosis", "cell", "Mitosis")), reviewer="")
    assert (len(found), omitted) == (2, {"points of class 'cell'": 1})


def test_dots_of_asap_and_tables_are_taken_over(tmp_path):
    dots = "".join(
        f'<Annotation Name="a" Type="Dot" PartOfGroup="{group}"><Coordinates><Coordinate Order="0" X="{x}" Y="5"/>'
        "</Coordinates></Annotation>"
        for x, group in ((3, "Mitosis"), (4, "imposter"), (6, "cell"), (7, "None"))
    )
    (tmp_path / "a.xml").write_text(f"<ASAP_Annotations><Annotations>{dots}</Annotations></ASAP_Annotations>")
    read = read_from(tmp_path / "a.xml", bounds=Region(100, 0, 500, 500), reviewer="B")
    said = mitosis_points(read.corrections)
    # Its coordinates are level-0 pixels whatever the bounds.
    np.testing.assert_array_equal(said.xy, [(3, 5), (4, 5)])
    assert said.is_mitosis.tolist() == [True, False]
    assert read.omitted == {"points of class 'cell'": 1, "points of no group": 1}
    # They go out as they came in.
    written = write_for("asap", tmp_path / "b.xml", ALL.with_(*read.corrections), slide="a", bounds=None)
    assert (written.written, written.omitted) == (6, {})
    out = read_points(tmp_path / "b.xml")
    np.testing.assert_array_equal(out.xy, [(7.125, 8), (40.25, 50), (40.25, 50), (3, 5), (4, 5)])
    assert out.classes == ("Mitosis", "Not a mitosis", "Mitosis", "Mitosis", "Not a mitosis")
    dsa = write_for("dsa", tmp_path / "b.json", ALL, slide="a", bounds=None)
    assert dsa.omitted == {"points of mitoses": 3}
    (tmp_path / "a.csv").write_text("x,y\n3,5\n")
    (one,) = read_from(tmp_path / "a.csv", bounds=None, reviewer="B").corrections
    assert (one.key, one.label) == (said.keys[0], "mitosis")


def test_they_are_added_decided_on_and_taken_back():
    begun, (first, second) = add_points(Corrections(), [(1, 2), (3, 4)], reviewer="A")
    history = History(begun)
    now, key = decide_point(begun, "not-mitosis", key=second, reviewer="B")
    history.do("Reject a mitosis", now)
    assert key == second
    assert (now[second].label, now[second].reviewer) == ("not-mitosis", "B")
    # Of what a model found, whoever decides on it speaks in one correction.
    mine, key = decide_point(now, "mitosis", found=FOUND, reviewer="A")
    theirs, other = decide_point(Corrections(), "not-mitosis", found=FOUND, reviewer="B")
    assert other == key
    assert len(mine.merged(theirs, Corrections())[0].mitoses) == 3
    assert decide_point(mine, None, key=key, reviewer="A") == (now, "")
    assert decide_point(now, None, key=first, reviewer="A")[0].mitoses == now.mitoses[1:]
    assert history.undo()
    assert history.present == begun
    for wrong in ("tumour", "x"):
        with pytest.raises(AnnotationError, match=f"expected one of mitosis, not-mitosis of a point, got {wrong}"):
            add_points(begun, (1, 2), wrong, reviewer="A")
    with pytest.raises(AnnotationError, match="got neither; add it"):
        decide_point(begun, "mitosis", reviewer="A")
    with pytest.raises(AnnotationError, match="not finite"):
        add_points(begun, [(np.nan, 2)], reviewer="A")
    with pytest.raises(AnnotationError, match="expected a point as mitosis, got a Polygon"):
        replace(TUMOUR, label="mitosis")


def test_they_are_saved_backed_up_and_put_together_with_what_another_wrote(tmp_path, monkeypatch):
    mine, theirs = CorrectionStore(tmp_path), CorrectionStore(tmp_path)
    mine.save(ALL)
    theirs.read()
    monkeypatch.setattr(store_module, "_BETWEEN_BACKUPS", store_module._BETWEEN_BACKUPS * 0)
    theirs.save(add_points(theirs.saved, (1, 1), reviewer="B")[0])
    together, disputed = mine.merge(add_points(ALL, (2, 2), reviewer="A")[0])
    assert disputed == ()
    assert len(together.mitoses) == len(ALL.mitoses) + 2
    assert read_corrections(mine.path).corrections == together
    assert list((tmp_path / store_module.BACKUPS).iterdir())


def test_lesions_know_nothing_of_them():
    lesions = Corrections.of([TUMOUR])
    size = Size(200, 200)
    assert list_lesions((), ALL, size=size, mpp=0.5) == list_lesions((), lesions, size=size, mpp=0.5)
    for name in ("areas", "points", "states", "drawn"):
        assert getattr(ALL, name) == getattr(lesions, name)
    assert not len(ALL.places_px)
