"""CAMELYON17's table of stages, in and out."""

from __future__ import annotations

import pytest

from napari_metastasis.cohorts.stages import node_of, read_stages, write_stages
from napari_metastasis.errors import StagingError
from napari_metastasis.lesions import SlideVerdict, stage_patient

TABLE = """patient,stage
patient_000.zip,pN0
patient_000_node_0.tif,negative
patient_000_node_1.tif,negative
patient_004.zip,pN1
patient_004_node_0.tif,itc
patient_004_node_1.tif,macro
"""


def test_a_table_of_the_challenge_is_read_with_and_without_its_header(tmp_path):
    path = tmp_path / "stages.csv"
    for text in (TABLE, TABLE.partition("\n")[2], TABLE.replace("\n", "\r\n"), TABLE.replace("pN1", "PN1 ")):
        path.write_text(text)
        read = read_stages(path)
        assert read.patients == {"patient_000": "pN0", "patient_004": "pN1"}
        assert read.slides["patient_004_node_1"] == "macro"
        assert len(read.slides) == 4


def test_what_is_written_is_read_back(tmp_path):
    slides = {"0": [SlideVerdict(slide="a", verdict="micro"), SlideVerdict(slide="b", verdict="negative")]}
    slides |= {"1": [SlideVerdict(slide="c", verdict="macro")], "2": [SlideVerdict(slide="d", verdict="itc")]}
    # Open, and without a say in the stage: nothing is said of it.
    slides |= {"3": [SlideVerdict(slide="e", verdict="negative", whole=False)]}
    path = tmp_path / "out.csv"
    write_stages(path, [stage_patient("patient_007", slides), stage_patient("=x", {"0": slides["0"]})])
    assert path.read_text() == (
        "patient,stage\npatient_007.zip,pN1\npatient_007_node_0.tif,micro\npatient_007_node_1.tif,macro\n"
        "patient_007_node_2.tif,itc\n'=x.zip,pN1mi\n'=x_node_0.tif,micro\n"
    )
    read = read_stages(path)
    assert read.patients == {"patient_007": "pN1", "=x": "pN1mi"}
    assert read.slides["=x_node_0"] == "micro"


def test_a_patient_without_a_stage_is_not_written(tmp_path):
    open_patient = stage_patient("p", {"0": [SlideVerdict(slide="a", verdict=None, whole=False)]})
    with pytest.raises(StagingError, match=r"whose stage is known for out.csv, got p \(not known\); leave"):
        write_stages(tmp_path / "out.csv", [open_patient])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_004.zip,pN9\n", "expected one of pN0, .*macro in line 1 of .*, got 'pN9'; correct"),
        ("a.tif,itc\na.tif,macro\n", "each patient and slide once in line 2 of .*, got 'a a second time'"),
        ("a.tif\n", "a patient or a slide, a comma, and its stage in line 1"),
        ("patient,node,verdict\np,1,itc\n", "in line 1 of .*, got .*; correct the line, or let 'stage --output' make"),
        ("a.tif,itc,more\n", "in line 1"),
        ("patient,stage\n", "got none; choose a table"),
        ("", "got none; choose a table"),
        ("a,\x00\n", "control character"),
    ],
)
def test_what_is_no_table_of_stages_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "stages.csv"
    path.write_text(text)
    with pytest.raises(StagingError, match=words):
        read_stages(path)
    with pytest.raises(StagingError, match="expected a table of stages, got"):
        read_stages(tmp_path / "none.csv")


def test_a_name_states_its_patient_and_node():
    assert node_of("patient_004_node_2") == ("patient_004", "2")
    assert node_of("A_Node_left") == ("A", "left")
    assert node_of("tumor_001") is None
