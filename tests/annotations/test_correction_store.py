"""The file of corrections: round trips, backups, other writers, damaged files and disks that refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import (
    ChangedBeneathError,
    Correction,
    Corrections,
    CorrectionStore,
    Finding,
    annotations_of_corrections,
    corrections_of,
    read_asap_xml,
    read_corrections,
    read_dsa_json,
    read_geojson,
    write_asap_xml,
    write_corrections,
    write_dsa_json,
)
from napari_metastasis.annotations import store as store_module
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import Region

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HOLED = shapely.box(10.25, 20.5, 100 + 1 / 3, 90).difference(shapely.box(40, 40, 50, 50))
PARTS = shapely.MultiPolygon([shapely.box(0, 0, 5, 5), shapely.box(10, 10, 15, 15)])
FOUND = Finding(model="metastasis-lite", map="heatmap", threshold=0.13, probability=0.87, outline_px=PARTS)
ALL = Corrections.of(
    [
        Correction(key="1", label="normal", shape_px=PARTS, found=FOUND, reviewer="Dr. Ä", at=AT, comment="sinus; –"),
        Correction(key="2", label="tumour", shape_px=HOLED, at=AT),
        Correction(key="3", label="ignore", shape_px=shapely.Point(7.125, 8), at=AT),
        Correction(key="4", label="undecided", shape_px=HOLED, found=replace(FOUND, probability=None), at=AT),
    ]
)


@pytest.mark.parametrize("bounds", [None, Region(100, 200, 5000, 5000)])
def test_corrections_are_read_back_as_they_were(tmp_path, bounds):
    path = tmp_path / "a.geojson"
    write_corrections(path, ALL, bounds=bounds)
    found = read_corrections(path, bounds=bounds)
    assert found.corrections == found.written == ALL
    # What nobody redrew is one outline again.
    one, other = (found.corrections[key] for key in "14")
    assert one.shape_px is one.found.outline_px
    assert other.shape_px is not other.found.outline_px
    assert not found.omitted
    if bounds is not None:
        # QuPath counts from the corner of the bounds.
        assert json.loads(path.read_text())["features"][2]["geometry"]["coordinates"] == [7.125 - 100, 8 - 200]


def test_corners_come_back_as_the_very_same_numbers_from_a_file_that_counts_from_bounds(tmp_path):
    corners = np.random.default_rng(0).uniform(0, 200_000, (200, 3, 2))
    drawn = [shapely.Polygon(three) for three in corners]
    corrections = Corrections.of(
        Correction(
            key=str(number), label="tumour", shape_px=shape, found=replace(FOUND, outline_px=drawn[number - 1]), at=AT
        )
        for number, shape in enumerate(drawn)
    )
    moved = np.abs(shapely.get_coordinates([one.shape_px for one in corrections]) - shapely.get_coordinates(drawn))
    assert 0 < moved.max() <= 1 / 512
    bounds = Region(37_003, 10_001, 150_000, 150_000)
    write_corrections(tmp_path / "a.geojson", corrections, bounds=bounds)
    assert read_corrections(tmp_path / "a.geojson", bounds=bounds).corrections == corrections
    # What lies on the grid is kept as it is: cells that were found of it are still its own.
    (first, *_) = corrections
    assert replace(first, comment="x").shape_px is first.shape_px


def test_other_programs_read_the_areas_with_their_classes(tmp_path):
    write_corrections(tmp_path / "a.geojson", ALL)
    drawn = read_geojson(tmp_path / "a.geojson")
    assert drawn.groups == ("Normal", "Tumor", "Undecided")
    assert drawn.omitted == {"points": 1}
    assert [one.outline_px.equals(ALL["2"].shape_px) for one in drawn.tumour] == [True]


def test_outlines_of_other_programs_become_corrections(tmp_path):
    square = shapely.geometry.mapping(shapely.box(0, 0, 10, 10))
    document = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "id": "x", "geometry": square, "properties": {"classification": {"name": name}}}
            | {"id": f"{number}"}
            for number, name in enumerate(("Tumor", "Normal", "Ignore*", "Stroma"))
        ],
    }
    (tmp_path / "q.geojson").write_text(json.dumps(document))
    found = read_corrections(tmp_path / "q.geojson", reviewer="B")
    assert sorted((one.state, one.reviewer) for one in found.drawn) == [
        ("added", "B"),
        ("ignored", "B"),
        ("normal", "B"),
    ]
    assert found.omitted == {"outlines of class 'Stroma'": 1}
    assert [one["properties"]["classification"]["name"] for one in found.others] == ["Stroma"]
    # The same outlines have the same keys, whatever the file calls them.
    again = read_corrections(tmp_path / "q.geojson")
    assert set(again.drawn.by_key) == set(found.drawn.by_key)


def test_cut_outs_of_other_programs_are_cut_out_and_equal_ids_do_not_collapse(tmp_path):
    areas = {"Tumor": shapely.box(0, 0, 100, 100), "Exclusion": shapely.box(40, 40, 80, 80)}
    areas |= {"tumour": shapely.box(200, 0, 300, 100)}
    features = [
        {
            "type": "Feature",
            "id": "PathAnnotationObject",
            "geometry": shapely.geometry.mapping(area),
            "properties": {"classification": {"name": name}},
        }
        for name, area in areas.items()
    ]
    (tmp_path / "q.geojson").write_text(json.dumps(features))
    found = read_corrections(tmp_path / "q.geojson").corrections
    assert sorted(one.shape_px.area for one in found) == [8_400, 10_000]


@pytest.mark.parametrize("kind", ["asap", "dsa"])
def test_areas_survive_the_formats_of_other_programs(tmp_path, kind):
    path = tmp_path / kind
    areas = annotations_of_corrections(ALL)
    assert areas.omitted == {"points": 1}
    if kind == "asap":
        write_asap_xml(path, areas)
        back, omitted = corrections_of(read_asap_xml(path), reviewer="C")
    else:
        write_dsa_json(path, areas, name="corrections")
        back, omitted = corrections_of(read_dsa_json(path), reviewer="C")
    assert not omitted
    for label in ("tumour", "normal", "undecided"):
        mine = shapely.union_all([one.shape_px for one in ALL if one.label == label])
        theirs = shapely.union_all([one.shape_px for one in back if one.label == label])
        assert mine.symmetric_difference(theirs).area < 1e-6, label


def test_what_could_not_be_read_back_is_refused_before_it_is_written():
    for wrong in ({"comment": "a\nb"}, {"reviewer": "x" * 5000}, {"comment": "\ud800"}):
        with pytest.raises(AnnotationError, match="one line"):
            replace(ALL["2"], **wrong)
    with pytest.raises(AnnotationError, match="finite"):
        replace(FOUND, probability=float("nan"))
    assert type(replace(FOUND, probability=np.float32(0.5)).probability) is float


@pytest.mark.parametrize(
    ("member", "value"),
    [("label", "tumor"), ("at", "yesterday"), ("reviewer", "a\nb"), ("comment", "x" * 5000), ("found", {"model": "m"})],
)
def test_a_damaged_correction_is_refused_in_one_line(tmp_path, member, value):
    path = tmp_path / "a.geojson"
    write_corrections(path, ALL)
    document = json.loads(path.read_text())
    document["features"][0]["properties"]["metastasis"][member] = value
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"expected .* got ") as error:
        read_corrections(path)
    assert "\n" not in str(error.value)


class TestStore:
    def test_what_was_saved_is_there_in_another_session(self, tmp_path):
        store = CorrectionStore(tmp_path)
        assert store.read() == Corrections()
        store.save(ALL)
        assert CorrectionStore(tmp_path).read() == ALL
        assert not store.is_changed_beneath

    def test_what_another_program_wrote_into_the_file_is_kept(self, tmp_path):
        store = CorrectionStore(tmp_path)
        store.save(ALL)
        document = json.loads(store.path.read_text())
        square = shapely.geometry.mapping(shapely.box(0, 0, 10, 10))
        stroma = {"type": "Feature", "geometry": square, "properties": {"classification": {"name": "Stroma"}}}
        store.path.write_text(json.dumps({**document, "features": [*document["features"], stroma]}))
        other = CorrectionStore(tmp_path)
        other.save(other.read().without("1"))
        assert json.loads(store.path.read_text())["features"][-1] == json.loads(json.dumps(stroma))
        assert CorrectionStore(tmp_path).read() == ALL.without("1")

    def test_a_file_that_changed_beneath_is_not_overwritten_and_both_are_put_together(self, tmp_path):
        mine, theirs = CorrectionStore(tmp_path), CorrectionStore(tmp_path)
        mine.save(ALL)
        theirs.read()
        theirs.save(ALL.without("2"))
        assert mine.is_changed_beneath
        with pytest.raises(ChangedBeneathError, match="somebody else"):
            mine.save(ALL.without("3"))
        assert CorrectionStore(tmp_path).read() == ALL.without("2")
        together, disputed = mine.merge(ALL.without("3"))
        assert (together, disputed) == (ALL.without("2", "3"), ())
        assert CorrectionStore(tmp_path).read() == together
        backups = sorted((tmp_path / "annotations.backups").iterdir())
        assert read_corrections(backups[-1]).corrections == ALL.without("2")

    def test_of_what_both_changed_neither_sides_word_is_lost(self, tmp_path):
        mine, theirs = CorrectionStore(tmp_path / "new"), CorrectionStore(tmp_path / "new")
        mine.save(ALL)
        theirs.read()
        theirs.save(ALL.with_(replace(ALL["1"], label="ignore", at=datetime(2027, 1, 1, tzinfo=UTC))))
        said = ALL.with_(replace(ALL["1"], label="tumour", at=datetime(2026, 5, 5, tzinfo=UTC)))
        together, disputed = mine.merge(said)
        assert (together["1"].label, disputed) == ("ignore", ("1",))
        backups = (tmp_path / "new" / "annotations.backups").iterdir()
        assert said in [read_corrections(path).corrections for path in backups]

    def test_the_first_save_of_a_session_backs_up_what_was_there_and_later_ones_do_now_and_then(
        self, tmp_path, monkeypatch
    ):
        CorrectionStore(tmp_path).save(ALL)
        store = CorrectionStore(tmp_path)
        store.read()
        for key in "1234":
            store.save(store.saved.without(key))
        backups = list((tmp_path / "annotations.backups").iterdir())
        assert [read_corrections(one).corrections for one in backups] == [ALL]
        monkeypatch.setattr(store_module, "_BETWEEN_BACKUPS", store_module._BETWEEN_BACKUPS * 0)
        store.save(ALL)
        store.save(ALL.without("1"))
        assert len(list((tmp_path / "annotations.backups").iterdir())) == 3

    def test_what_somebody_else_writes_right_after_is_no_change_of_ones_own(self, tmp_path, monkeypatch):
        mine, theirs = CorrectionStore(tmp_path), CorrectionStore(tmp_path)
        whole = store_module.write_corrections

        def and_another(path, corrections, **how):
            digest = whole(path, corrections, **how)
            whole(path, corrections.without("3"), **how)
            return digest

        with monkeypatch.context() as patch:
            patch.setattr(store_module, "write_corrections", and_another)
            mine.save(ALL)
        assert mine.is_changed_beneath
        with pytest.raises(ChangedBeneathError):
            mine.save(ALL)
        theirs.read()
        assert not theirs.is_changed_beneath

    def test_a_damaged_file_is_left_as_it_is(self, tmp_path):
        (tmp_path / "annotations.geojson").write_text("{")
        store = CorrectionStore(tmp_path)
        with pytest.raises(AnnotationError):
            store.read()
        with pytest.raises(ChangedBeneathError):
            store.save(ALL)
        assert (tmp_path / "annotations.geojson").read_text() == "{"

    def test_a_disk_that_refuses_leaves_the_file_and_the_next_save_succeeds(self, tmp_path, monkeypatch):
        store = CorrectionStore(tmp_path)
        store.save(ALL.without("1"))

        def full(*_: object, **__: object):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="full disk"):
                store.save(ALL)
        assert CorrectionStore(tmp_path).read() == ALL.without("1")
        store.save(ALL)
        assert CorrectionStore(tmp_path).read() == ALL

    def test_what_somebody_else_wrote_outlives_a_merge_that_the_disk_refuses(self, tmp_path, monkeypatch):
        mine, theirs = CorrectionStore(tmp_path), CorrectionStore(tmp_path)
        mine.save(ALL.without("4"))
        theirs.read()
        theirs.save(ALL)

        def full(*_: object, **__: object):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="full disk"):
                mine.merge(ALL.without("2", "4"))
        with pytest.raises(ChangedBeneathError):
            mine.save(ALL.without("2", "4"))
        together, _ = mine.merge(ALL.without("2", "4"))
        assert together == CorrectionStore(tmp_path).read() == ALL.without("2")

    def test_a_killed_writer_leaves_a_whole_file(self, tmp_path):
        script = (
            "import sys, itertools, shapely\n"
            "from pathlib import Path\n"
            "from napari_metastasis.annotations import *\n"
            "store = CorrectionStore(Path(sys.argv[1]))\n"
            "held = store.read()\n"
            "for number in itertools.count(len(held)):\n"
            "    square = shapely.box(0, 0, number + 1, 9)\n"
            "    held = held.with_(Correction(key=str(number), label='tumour', shape_px=square))\n"
            "    store.save(held)\n"
            "    print(number, flush=True)\n"
        )
        generator, said = np.random.default_rng(0), -1
        for _ in range(10):
            process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            said = max(said, int(process.stdout.readline()))
            time.sleep(float(generator.uniform(0, 0.05)))
            process.send_signal(signal.SIGKILL)
            said = max([said, *map(int, process.stdout.read().split())])
            process.wait()
            process.stdout.close()
            # What was said to be saved is there, and at most the change that was being saved besides.
            held = CorrectionStore(tmp_path).read()
            assert said + 1 <= len(held) <= said + 2
            said = len(held) - 1
        # Each session backed up what it began with; nothing half-written lies beside.
        backups = sorted((tmp_path / "annotations.backups").iterdir())
        assert backups
        began = [len(read_corrections(one).corrections) for one in backups]
        assert began == sorted(began)
