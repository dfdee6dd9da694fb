"""What people said of findings stands in every file of a result, follows it, and outlives another scan."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import pytest
import shapely
from read_only import make_read_only
from results import WHOLE, change_record
from scans import SCAN, scan_with

from napari_metastasis.annotations import (
    Correction,
    Corrections,
    CorrectionStore,
    Finding,
    read_asap_xml,
    write_corrections,
)
from napari_metastasis.cli.app import run
from napari_metastasis.cli.scan import say_result
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.scanning import never
from napari_metastasis.settings import DetectionSettings
from napari_metastasis.workflows.export import export_result
from napari_metastasis.workflows.report import read_result, update_tables, write_report
from napari_metastasis.workflows.report.summary import _COLUMNS, SlideSummary
from napari_metastasis.workflows.review import import_review, read_slide_review
from napari_metastasis.workflows.scan import (
    ReviewMark,
    Shown,
    corrections_folder,
    earlier_result,
    record_of,
    write_review,
    write_shown,
)
from napari_metastasis.workflows.scan.earlier import recorded_coverage
from napari_metastasis.workflows.stage import result_verdict

MISSED = shapely.box(100, 100, 300, 250)


def rows(folder):
    return {row["id"]: row for row in csv.DictReader((folder / "lesions.csv").read_text("utf-8").splitlines())}


def correction(key, label, shape, lesion=None, **how):
    found = None
    if lesion is not None:
        found = Finding(
            model="dark", map="probability", threshold=0.5, probability=lesion.probability, outline_px=lesion.outline_px
        )
    return Correction(key=key, label=label, shape_px=shape, found=found, reviewer="Dr. B", **how)


def reject_and_add(folder):
    """Reject the one finding, and draw another lesion; return the finding."""
    (lesion,) = read_result(folder).found
    CorrectionStore(corrections_folder(folder)).save(
        Corrections.of(
            [
                correction("1", "normal", lesion.outline_px, lesion, comment="a follicle"),
                correction("2", "tumour", MISSED, comment="missed"),
            ]
        )
    )
    return lesion


@pytest.fixture
def reviewed(result):
    """A result whose one finding was rejected, and on whose slide another lesion was drawn; its files know nothing."""
    change_record(result, lambda record: record["coverage"].update(WHOLE))
    reject_and_add(result)
    return result


def test_the_files_follow_what_was_said_and_are_not_written_twice(reviewed):
    before = rows(reviewed)
    assert [row["review"] for row in before.values()] == ["pending"]
    record = (reviewed / "run.json").read_bytes()
    assert update_tables(reviewed)
    after = rows(reviewed)
    assert {number: (row["review"], row["counted"], row["comment"]) for number, row in after.items()} == {
        "1": ("rejected", "0", "a follicle"),
        "P2": ("added", "1", "missed"),
    }
    # What the model found and measured is as it was.
    kept = [name for name in before["1"] if name not in ("review", "reviewer", "reviewed_at", "comment", "counted")]
    assert {name: after["1"][name] for name in kept} == {name: before["1"][name] for name in kept}
    assert (reviewed / "run.json").read_bytes() == record
    assert not update_tables(reviewed)
    # Everything taken back, they are as the scan wrote them.
    (reviewed / "annotations.geojson").unlink()
    assert update_tables(reviewed)
    assert rows(reviewed) == before


def test_every_verdict_counts_what_people_left_and_says_what_they_changed(reviewed, slide, model, capsys):
    result = read_result(reviewed)
    assert result.counts == {"itc": 1, "micro": 0, "macro": 0}
    told = "itc (1 rejected, not counted; 1 added)"
    assert (result.verdict.text, result_verdict(reviewed).text) == (told, told)
    assert result.largest_mm == pytest.approx(250 * 0.486 / 1000, abs=1e-3)
    summed = SlideSummary.of(reviewed, write_report(reviewed))
    assert summed.cells()[_COLUMNS.index("review")] == "1 added, 1 rejected"
    assert summed.result.verdict.review == "1 rejected, not counted; 1 added"
    scanned = scan_with(slide, model, reviewed, scan=SCAN)
    assert (scanned.verdict.text, scanned.counts) == (told, result.counts)
    assert record_of(reviewed)["lesions"] == 1
    summary = json.loads(json.dumps(scanned.summary(), allow_nan=False))
    assert summary["review"]["counts"]["rejected"] == summary["review"]["counts"]["added"] == 1
    assert [(one["id"], one["review"], one["counted"]) for one in summary["lesions"]] == [
        (1, "rejected", False),
        ("P2", "added", True),
    ]
    say_result(scanned)
    said = capsys.readouterr().out
    assert "Verdict on the slide: itc (1 rejected, not counted; 1 added)" in said
    assert "Reviewed: 1 added, 1 rejected" in said


def test_the_report_and_exports_tell_both(reviewed, tmp_path):
    html = write_report(reviewed).path.read_text("utf-8")
    for words in ("Reviewed: 1 added, 1 rejected.", "“a follicle”", "“missed”", "Dr. B, ", "P2", 'class="out"'):
        assert words in html
    assert rows(reviewed)["P2"]["review"] == "added", "a report brings the tables up to date"
    export_result(reviewed, "asap", output=tmp_path / "a.xml")
    outlines = read_asap_xml(tmp_path / "a.xml")
    assert [one.name for one in outlines.tumour] == ["Lesion P2: added"]
    assert [one.name for one in outlines.normal] == ["Lesion 1: rejected"]


def test_the_outline_of_the_model_stands_beside_that_of_a_person(result):
    (lesion,) = read_result(result).found
    wider = lesion.outline_px.buffer(80)
    CorrectionStore(result).save(Corrections.of([correction("1", "tumour", wider, lesion)]))
    html = write_report(result).path.read_text("utf-8")
    assert html.index("confirmed, counted as P1") < html.index("confirmed, outline redrawn; found by dark")
    features = {
        one["properties"]["name"]: one for one in json.loads((result / "lesions.geojson").read_text())["features"]
    }
    own, drawn = features["Lesion 1: confirmed"], features["Lesion P1: confirmed, outline redrawn"]
    assert shapely.geometry.shape(drawn["geometry"]).contains(shapely.geometry.shape(own["geometry"]))
    kept = shapely.geometry.shape(drawn["properties"]["review"]["found"]["geometry"])
    assert kept.symmetric_difference(shapely.geometry.shape(own["geometry"])).area < 5
    assert len(read_result(result).counted) == 1


def test_a_scan_at_another_threshold_and_with_other_settings_keeps_what_was_said(slide, model, tmp_path):
    output = tmp_path / "out"
    scan_with(slide, model, output, scan=SCAN)
    lesion = reject_and_add(output)
    before = (output / "annotations.geojson").read_bytes()
    low = scan_with(slide, model, output, scan=SCAN, detection=DetectionSettings(threshold=0.3))
    assert [(one.number, one.review.state) for one in low.lesions] == [("1", "rejected"), ("P2", "added")]
    none = scan_with(slide, model, output, scan=SCAN, detection=DetectionSettings(threshold=1.0))
    assert [one.number for one in none.lesions] == ["P2"]
    assert none.told == ("1 finding that was rejected is not among these",)
    other = scan_with(slide, model, output, scan=replace(SCAN, dense_coefficient=1))
    assert other.output.parent == output, "a folder of its own, inside"
    assert {one.number: one.review.state for one in other.lesions}["P2"] == "added"
    (found,) = (one for one in other.lesions if one.id > 0)
    assert found.review.state == "rejected"
    assert found.outline_px.intersection(lesion.outline_px).area > 0
    assert read_result(other.output).verdict == other.verdict
    assert rows(other.output)["1"]["comment"] == "a follicle"
    assert (output / "annotations.geojson").read_bytes() == before
    assert not (other.output / "annotations.geojson").exists()
    # What is imported into one result of the slide is said of all; one that is damaged stops none.
    drawn = output / "drawn.geojson"
    write_corrections(drawn, Corrections.of([correction("3", "tumour", shapely.box(700, 900, 800, 1000))]))
    damaged = output / "scan-damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("{", "utf-8")
    read = import_review(other.output, drawn)
    assert (read.added, len(read.faults)) == (1, 1)
    assert "scan-damaged does not follow what was said" in read.faults[0]
    assert "P3" in rows(output)
    assert "P3" in rows(other.output)


def test_the_window_writes_them_with_what_it_shows(slide, model, tmp_path):
    scan_with(slide, model, tmp_path, scan=SCAN)
    reject_and_add(tmp_path)
    earlier = earlier_result(slide, tmp_path)
    own, *_ = earlier.maps
    found = LesionIndex(own.values, own.frame, DetectionSettings()).at(0.4)
    write_shown(tmp_path, slide, found, Shown(0.4), coverage={}, journals=earlier.journals, should_stop=never)
    assert {number: row["review"] for number, row in rows(tmp_path).items()} == {"1": "rejected", "P2": "added"}
    assert record_of(tmp_path)["lesions"] == 1
    assert not update_tables(tmp_path)


def test_corrections_that_cannot_be_read_stop_no_scan_and_are_told(reviewed, slide, model, capsys):
    (reviewed / "annotations.geojson").write_text("{", "utf-8")
    scanned = scan_with(slide, model, reviewed, scan=SCAN)
    assert [one.review.told for one in scanned.lesions] == ["unknown"]
    assert scanned.verdict.text == "micro (what people said of the findings cannot be read)"
    say_result(scanned)
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "not known" in one]
    assert "annotations.geojson" in line
    assert rows(reviewed)["1"]["review"] == "unknown"
    assert (reviewed / "annotations.geojson").read_text("utf-8") == "{"
    far = correction("3", "tumour", shapely.box(0, 0, 1e18, 1e18))
    write_corrections(reviewed / "annotations.geojson", Corrections.of([far]))
    assert {one.review.told for one in read_result(reviewed).lesions} == {"unknown"}
    assert "What people said of the findings is not known" in write_report(reviewed).path.read_text("utf-8")
    assert run(["report", str(reviewed)]) == 0
    assert run(["export", str(reviewed), "--to", "dsa"]) == 0
    assert capsys.readouterr().err.count("What people said of the findings is not known") == 2


def test_a_result_that_nobody_may_write_is_read_with_what_was_said(reviewed, monkeypatch):
    before = rows(reviewed)
    with monkeypatch.context() as patched:
        make_read_only(patched, reviewed)
        assert result_verdict(reviewed).short == "itc"
    assert rows(reviewed) == before


def test_tables_of_an_earlier_version_stay_as_they_are_until_somebody_says_something(reviewed):
    whole = (reviewed / "annotations.geojson").read_bytes()
    (reviewed / "annotations.geojson").unlink()
    table = reviewed / "lesions.csv"
    older = "\n".join(",".join(line.split(",")[:11]) for line in table.read_text("utf-8").splitlines()) + "\n"
    table.write_text(older, "utf-8")
    assert not update_tables(reviewed)
    assert table.read_text("utf-8") == older
    (reviewed / "annotations.geojson").write_bytes(whole)
    assert update_tables(reviewed)
    # One that does not know which lesions are cut would have to say that none is.
    oldest = "\n".join(",".join(line.split(",")[:8]) for line in older.splitlines()) + "\n"
    table.write_text(oldest, "utf-8")
    assert not update_tables(reviewed)
    assert table.read_text("utf-8") == oldest
    assert read_result(reviewed).verdict.short == "itc", "what was said counts all the same"


def test_the_list_goes_on_where_a_result_is_damaged_and_knows_the_mark(reviewed, tmp_path, capsys):
    review = read_slide_review(reviewed)
    assert {name: count for name, count in review.counts.items() if count} == {"rejected": 1, "added": 1}
    assert review.reviewed == "no"
    coverage = recorded_coverage(record_of(reviewed))
    mark = ReviewMark(threshold=0.5, answered_cells=coverage.answered_cells, findings=1)
    write_review(reviewed, mark)
    assert read_slide_review(reviewed).reviewed == "yes"
    write_review(reviewed, replace(mark, threshold=0.7))
    assert read_slide_review(reviewed).reviewed == "changed since"
    for name, damage in (("a", "run.json"), ("z", "annotations.geojson")):
        other = tmp_path / f"{name}.metastasis"
        shutil.copytree(reviewed, other)
        (other / damage).write_text("{", "utf-8")
    assert run(["review", "list", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "changed" in out
    assert "since" in out
    lines = [line for line in err.splitlines() if "no review of" in line]
    assert [line.partition(": ")[2].split(":")[0] for line in lines] == [
        f"no review of {tmp_path / name}.metastasis" for name in ("a", "z")
    ]
    assert run(["review", "list", str(tmp_path / "nothing")]) == 1
    assert "holds no run.json" in capsys.readouterr().err
