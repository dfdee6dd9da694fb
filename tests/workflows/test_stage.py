"""Patients are staged from tables, results of scans, and both; and from the command line."""

from __future__ import annotations

import json
import shutil

import pytest
from results import NO_TISSUE, PARTIAL, WHOLE, change_record, write_lesions

from napari_metastasis.cli import main
from napari_metastasis.errors import StagingError
from napari_metastasis.workflows.stage import result_verdict, stage_patients


def result_of(scanned, folder, name, classes, coverage=WHOLE):
    """Make the result of a slide with lesions of such classes."""
    made = folder / f"{name}.metastasis"
    shutil.copytree(scanned, made)
    lengths = {"itc": 0.1, "micro": 1.0, "macro": 3.0}
    lesions = [
        {"id": number, "x": 100, "y": 100, "mm": lengths[one], "size_class": one, "cut": 0}
        for number, one in enumerate(classes, 1)
    ]
    write_lesions(made, lesions)
    change_record(made, lambda record: record.update(coverage=coverage))
    change_record(made, lambda record: record["slide"].update(name=name))
    return made


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["stage", *map(str, arguments)])
    return ended.value.code


def test_the_verdict_on_a_slide_follows_from_its_result(scanned, tmp_path):
    for number, (classes, verdict) in enumerate([([], "negative"), (["itc", "micro"], "micro"), (["macro"], "macro")]):
        found = result_verdict(result_of(scanned, tmp_path, f"p_node_{number}", classes))
        assert (found.slide, found.verdict, found.settled) == (f"p_node_{number}", verdict, True)


def test_a_result_of_a_part_or_of_nothing_is_open_and_says_why(scanned, tmp_path):
    part = result_verdict(result_of(scanned, tmp_path, "a", [], PARTIAL))
    assert (part.verdict, part.settled) == ("negative", False)
    assert "36 % of the tissue scanned" in part.text
    nothing = result_verdict(result_of(scanned, tmp_path, "b", [], NO_TISSUE))
    assert not nothing.settled
    assert "no tissue found" in nothing.text
    unknown = result_verdict(result_of(scanned, tmp_path, "c", [], None))
    assert not unknown.settled
    assert "not recorded" in unknown.text
    gone = result_verdict(tmp_path / "gone.metastasis")
    assert (gone.slide, gone.verdict, gone.settled) == ("gone", None, False)
    assert "holds no run.json" in gone.text


def test_results_and_tables_are_staged_together(scanned, tmp_path, capsys):
    result_of(scanned, tmp_path, "patient_001_node_0", ["macro", "itc"])
    result_of(scanned, tmp_path, "patient_001_node_1", [])
    table = tmp_path / "more.csv"
    table.write_text(
        "patient,node,slide,verdict,result\n"
        "patient_001,2,s,MICRO,\n"
        "other,left,x,,patient_001_node_1.metastasis\nother,right,y,itc,\nother,right,z,negative,\n"
    )
    staged = stage_patients([tmp_path, table])
    assert [(one.patient, one.stage) for one in staged.patients] == [("patient_001", "pN1"), ("other", "pN0(i+)")]
    assert not staged.open
    output = tmp_path / "out" / "stages.csv"
    output.parent.mkdir()
    assert run(tmp_path, table, "--output", output) == 0
    assert "patient_001.zip,pN1\n" in output.read_text()
    said = capsys.readouterr()
    assert "pN0(i+)" in said.out
    assert said.err == ""
    # Read back, the table of the challenge says the same.
    again = stage_patients([output])
    assert [(one.patient, one.stage) for one in again.patients] == [("patient_001", "pN1"), ("other", "pN0(i+)")]


def test_missing_and_partial_slides_are_said_and_nobody_is_called_negative(scanned, tmp_path, capsys):
    result_of(scanned, tmp_path, "p_node_1", [], PARTIAL)
    table = tmp_path / "nodes.csv"
    table.write_text(
        "patient,node,slide,verdict,result\np,2,,negative,\np,3,,,nowhere.metastasis\np,4,,,\nq,1,,macro,\nq,2,,,\n"
    )
    output = tmp_path / "stages.csv"
    assert run(tmp_path / "p_node_1.metastasis", table, "--output", output) == 1
    said = capsys.readouterr()
    assert "at least pN0" in said.out
    for words in ("node 1", "36 % of the tissue scanned", "node 3", "holds no run.json", "node 4", "no verdict"):
        assert words in said.err
    assert "expected every patient to be staged, got 1 of 2 that cannot be, and left out of" in said.err
    # The other one is pN1 whatever the missing slide holds.
    assert output.read_text() == "patient,stage\nq.zip,pN1\nq_node_1.tif,macro\n"
    assert run(tmp_path / "p_node_1.metastasis", table, "--json") == 1
    first, second = json.loads(capsys.readouterr().out)["patients"]
    assert (first["stage"], first["at_least"], first["at_most"]) == (None, "pN0", "pN1")
    assert second["stage"] == "pN1"
    assert first["nodes"][0]["slides"][0]["whole"] is False


def test_an_earlier_file_is_replaced_only_if_asked_for(tmp_path, capsys):
    table, output = tmp_path / "t.csv", tmp_path / "o.csv"
    table.write_text("patient,node,verdict\np,1,macro\n")
    output.write_text("mine")
    assert run(table, "--output", output) == 1
    assert "use --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert run(table, "--output", output, "--overwrite") == 0
    assert output.read_text().startswith("patient,stage\np.zip,pN1\n")


def test_the_challenge_s_own_table_says_what_it_lacks_and_where_it_is_wrong(tmp_path):
    table = tmp_path / "stages.csv"
    table.write_text(
        "patient_004.zip,pN0\npatient_004_node_0.tif,macro\npatient_004_node_2.tif,itc\npatient_005.zip,pN1\n"
    )
    staged = stage_patients([table])
    assert [one.stage for one in staged.patients] == ["pN1"]
    assert staged.notes == (
        "patient_004: stated as pN0, pN1 by its slides",
        "patient_004: no slide of node 1, 3, 4, and CAMELYON17's patients have five",
        "patient_005: stated as pN1, without a slide; not staged",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "patient,node,verdict\np,1,mirco\n",
            "one of negative, itc, micro, macro as the verdict, got 'mirco' in line 2",
        ),
        ("patient,node,verdict\np,,macro\n", "expected a patient and a node"),
        ("patient,node,verdict\np,1,macro\np,1,itc\n", "expected each slide once, got p_node_1 of p, node 1, twice"),
        ("patient,node,verdict,result\np,1,macro,x\n", "a verdict or a result, got both in line 2"),
        ("patient,node,verdict,grade\np,1,macro,2\n", "the columns .* alone, .* got .*grade"),
        ("patient,node,verdict\np,1\n", "with a cell each"),
        ("", "a first line of patient,node .*, got an empty table"),
        ("patient,node\np,1\n", "a first line of patient,node and verdict or result"),
        ("patient,verdict\np,macro\n", "a first line of patient,node"),
        ("patient,node,verdict\n", "expected slides of patients in .*, got none"),
        ("patient_004.zip,pN1\n", "expected slides of patients in .*, got none"),
        ("tumor_001.tif,macro\n", "a slide called PATIENT_node_N, got 'tumor_001'"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(tmp_path, text, words, capsys):
    table = tmp_path / "t.csv"
    table.write_text(text)
    with pytest.raises(StagingError, match=words):
        stage_patients([table])
    assert run(table) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_no_result_is_refused(tmp_path, scanned):
    with pytest.raises(StagingError, match=r"expected a table .*, got .*, which holds no result"):
        stage_patients([tmp_path])
    with pytest.raises(StagingError, match=r"expected a table .*, got .*nowhere, which is none"):
        stage_patients([tmp_path / "nowhere"])
    with pytest.raises(StagingError, match="a slide called PATIENT_node_N, got node in"):
        stage_patients([scanned])
    with pytest.raises(StagingError, match=r"expected a table of slides, got .*none.csv"):
        stage_patients([tmp_path / "none.csv"])
