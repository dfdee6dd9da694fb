"""What people said of a result: counted, exchanged with other programs, and never lost on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
import shapely

from napari_metastasis.annotations import (
    Correction,
    Corrections,
    CorrectionStore,
    Finding,
    read_corrections,
    write_corrections,
)
from napari_metastasis.cli.app import run
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.review import export_review, import_review, read_slide_review


@pytest.fixture
def said(result):
    """A lesion confirmed, an area drawn, one called normal, and a point to ignore."""
    lesion = read_result(result).lesions[0]
    found = Finding(
        model="dark", map="heatmap", threshold=0.5, probability=lesion.probability, outline_px=lesion.outline_px
    )
    drawn = shapely.box(10, 10, 90, 60).difference(shapely.box(30, 30, 40, 40))
    corrections = Corrections.of(
        [
            Correction(key="1", label="tumour", shape_px=lesion.outline_px, found=found, reviewer="B"),
            Correction(key="2", label="tumour", shape_px=drawn, reviewer="A", comment="missed"),
            Correction(key="3", label="normal", shape_px=shapely.box(100, 100, 200, 200), reviewer="A"),
            Correction(key="4", label="ignore", shape_px=shapely.Point(5, 5)),
        ]
    )
    CorrectionStore(result).save(corrections)
    return corrections


@pytest.mark.usefixtures("said")
def test_what_was_said_is_counted(result, capsys):
    review = read_slide_review(result)
    assert {state: count for state, count in review.counts.items() if count} == {
        "confirmed": 1,
        "added": 1,
        "normal_regions": 1,
        "ignored_regions": 1,
    }
    assert review.reviewers == ("A", "B")
    assert run(["review", "list", str(result.parent), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["slides"]
    assert one["counts"]["confirmed"] == 1
    assert one["counts"]["rejected"] == 0
    assert run(["review", "list", str(result)]) == 0
    assert "confirmed" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["asap", "dsa", "geojson"])
def test_what_is_exported_is_imported_elsewhere(result, said, scanned, to, tmp_path, capsys):
    assert run(["review", "export", str(result), "--to", to]) == 0
    out, err = capsys.readouterr()
    assert ("left out 1 point," in err) == (to != "geojson")
    elsewhere = tmp_path / "other.metastasis"
    shutil.copytree(scanned, elsewhere)
    read = import_review(elsewhere, tmp_path / out.strip(), reviewer="C")
    assert (read.added, read.changed, read.same) == (4 if to == "geojson" else 3, 0, 0)
    held = CorrectionStore(elsewhere).read()
    if to == "geojson":
        assert held == said
        return
    assert {one.reviewer for one in held} == {"C"}
    for label in ("tumour", "normal"):
        mine = shapely.union_all([one.shape_px for one in said if one.label == label])
        theirs = shapely.union_all([one.shape_px for one in held if one.label == label])
        assert mine.symmetric_difference(theirs).area < 1e-6


def test_what_is_imported_twice_is_there_once_and_nothing_is_taken_away(result, said, tmp_path):
    path = export_review(result, "geojson", output=tmp_path / "a.geojson").path
    store = CorrectionStore(result)
    later = (
        store.read()
        .without("1")
        .with_(
            replace(said["2"], comment="seen", at=said["2"].at + timedelta(minutes=1)),
            Correction(key="9", label="normal", shape_px=shapely.box(0, 0, 9, 9)),
        )
    )
    store.save(later)
    read = import_review(result, path)
    assert (read.added, read.changed, read.same, read.older) == (1, 0, 2, 1)
    held = CorrectionStore(result).read()
    assert set(held.by_key) == {"1", "2", "3", "4", "9"}
    assert held["2"].comment == "seen"
    newest = replace(held["2"], comment="again", at=held["2"].at + timedelta(hours=1))
    write_corrections(tmp_path / "b.geojson", Corrections.of([newest]))
    assert import_review(result, tmp_path / "b.geojson").changed == 1
    assert CorrectionStore(result).read()["2"] == newest


def test_outlines_of_qupath_keep_their_time_when_they_are_read_again(result, tmp_path):
    square = shapely.geometry.mapping(shapely.box(0, 0, 10, 10))
    feature = {"type": "Feature", "id": "q", "geometry": square, "properties": {"classification": {"name": "Tumor"}}}
    (tmp_path / "q.geojson").write_text(json.dumps([feature]))
    assert import_review(result, tmp_path / "q.geojson", reviewer="Q").added == 1
    before = CorrectionStore(result).read()
    assert import_review(result, tmp_path / "q.geojson").same == 1
    assert CorrectionStore(result).read() == before


def test_files_are_not_overwritten_unasked_and_never_the_corrections_themselves(result, said):
    export_review(result, "asap")
    with pytest.raises(StorageError, match="--overwrite"):
        export_review(result, "asap")
    export_review(result, "asap", overwrite=True)
    with pytest.raises(StorageError, match="corrections themselves"):
        export_review(result, "geojson", output=result / "annotations.geojson", overwrite=True)
    assert read_corrections(result / "annotations.geojson").corrections == said


@pytest.mark.parametrize("name", ["a.txt", "a.png", "missing.geojson"])
def test_what_holds_no_outlines_is_refused_in_one_line(result, tmp_path, name):
    if name != "missing.geojson":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(AnnotationError, match="expected"):
        import_review(result, tmp_path / name)


def test_a_folder_without_results_is_said(tmp_path, capsys):
    assert run(["review", "list", str(tmp_path)]) == 1
    assert "expected a result folder" in capsys.readouterr().err


def test_a_slide_has_one_file_of_corrections_whatever_it_is_scanned_with(result, tmp_path):
    inside = result / "scan-0123abcd"
    shutil.copytree(result, inside, ignore=shutil.ignore_patterns("scan-*"))
    square = Correction(key="a", label="tumour", shape_px=shapely.box(0, 0, 10, 10))
    write_corrections(tmp_path / "a.geojson", Corrections.of([square]))
    import_review(inside, tmp_path / "a.geojson")
    assert "a" in CorrectionStore(result).read()
    assert not (inside / "annotations.geojson").exists()
    assert read_slide_review(inside).counts == read_slide_review(result).counts
    # A result that somebody called so has its own.
    lone = tmp_path / "scan-of-mine"
    shutil.copytree(result, lone, ignore=shutil.ignore_patterns("scan-*", "annotations*"))
    import_review(lone, tmp_path / "a.geojson")
    assert (lone / "annotations.geojson").exists()
