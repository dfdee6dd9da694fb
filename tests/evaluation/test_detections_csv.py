"""Files of detections: the forms that go about, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cohorts import detections

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import SlideDetections, read_detections_csv
from napari_metastasis.lesions import Detection, write_detections_csv


@pytest.mark.parametrize(
    "text",
    [
        "0.5,10,20\n0.25,1.5,2\n",
        "p,x,y\n0.5,10,20\n0.25,1.5,2",
        "\ufeffprob,x,y\r\n0.5,10,20\r\n\r\n0.25,1.5,2\r\n",
        "X, Y, slide, Probability\n10,20,a,0.5\n1.5,2,a,0.25\n",
        " 0.5 , 10 , 20 \n,,\n0.25,1.5,2,more\n",
    ],
)
def test_forms_that_are_read(tmp_path, text):
    path = tmp_path / "Tumor_001.csv"
    path.write_bytes(text.encode())
    found = read_detections_csv(path)
    assert found.slide == "Tumor_001"
    assert found.probabilities.tolist() == [0.5, 0.25]
    assert found.points.tolist() == [[10, 20], [1.5, 2]]
    assert found.score == 0.5


@pytest.mark.parametrize("text", ["", "\n", "p,x,y\n"])
def test_an_empty_file_says_that_nothing_was_found(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = read_detections_csv(path)
    assert len(found) == 0
    assert found.points.shape == (0, 2)
    assert found.score == 0


@pytest.mark.parametrize("header", [True, False])
def test_what_a_scan_writes_is_read_back(tmp_path, header):
    path = tmp_path / "a.csv"
    write_detections_csv(path, [Detection(x=12.25, y=7.5, probability=0.125, lesion=1)], header=header)
    found = read_detections_csv(path)
    assert (found.probabilities.tolist(), found.points.tolist()) == ([0.125], [[12.25, 7.5]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0.5,10,20\n0.5,ten,20\n", "line 2 of .*'0.5,ten,20'; correct"),
        (b"0.5,10\n", "line 1 of"),
        (b",10,20\n", "line 1 of"),
        (b"5000,10,0.5\n", "probabilities of 0 to 1 .*got 5000 .*check the columns"),
        (b"nan,10,20\n", "got nan"),
        (b"0.5,inf,20\n", "finite locations"),
        (b"a,b,c\n0.5,1,2\n", "line 1 of"),
        (b"\xff\xfe\x00\x9d", "no text"),
        (b'0.5,"' + b"1" * 200_000, "no text"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(tmp_path, content, words):
    path = tmp_path / "wrong.csv"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=words) as caught:
        read_detections_csv(path)
    assert "wrong.csv" in str(caught.value)
    assert ";" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"missing\.csv \(No such file or directory\); check the path"):
        read_detections_csv(tmp_path / "missing.csv")


def test_a_score_of_the_slides_own_goes_before_the_highest_probability():
    found = SlideDetections(slide="s", probabilities=np.array([0.5]), points=np.array([[1, 2]]), slide_score=0.75)
    assert found.score == 0.75
    assert detections((0.5, 1, 2), (0.6, 1, 2)).score == 0.6
    with pytest.raises(EvaluationError, match="each of the 1 locations on s, got 2"):
        SlideDetections(slide="s", probabilities=np.array([0.5, 0.5]), points=np.array([[1, 2]]))
