"""Quadratic weighted kappa against scikit-learn, its interval over patients, and what tables lack."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from napari_metastasis.cli import main
from napari_metastasis.cohorts.stages import StageTable
from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import agreement, quadratic_kappa, score_stages
from napari_metastasis.lesions import STAGES, VERDICTS

HOW = {"resamples": 200, "seed": 1}


def drawn(seed, n=60, classes=5, noise=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    return truth, np.clip(np.rint(truth + rng.normal(0, noise, n)), 0, classes - 1).astype(int)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("names", "noise"), [(STAGES, 0.4), (STAGES, 2.0), (VERDICTS, 1.0)])
def test_kappa_and_confusion_are_those_of_scikit_learn(seed, names, noise):
    truth, said = drawn(seed, classes=len(names), noise=noise)
    true, predicted = [names[one] for one in truth], [names[one] for one in said]
    found = agreement(true, predicted, names, patients=[str(one) for one in range(len(true))], **HOW)
    expected = cohen_kappa_score(true, predicted, labels=list(names), weights="quadratic")
    assert found.kappa.value == pytest.approx(expected)
    assert found.accuracy.value == pytest.approx(np.mean(truth == said))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(true, predicted, labels=list(names)))
    assert found.kappa.low < found.kappa.value < found.kappa.high


def test_a_resample_has_the_kappa_of_its_patients_written_out():
    truth, said = drawn(3, n=25)
    counts = np.random.default_rng(0).integers(0, 4, (10, 25))
    got = quadratic_kappa(truth, said, counts, classes=5)
    for row, kappa in zip(counts, got, strict=True):
        expected = cohen_kappa_score(np.repeat(truth, row), np.repeat(said, row), labels=range(5), weights="quadratic")
        assert kappa == pytest.approx(expected)


def test_a_class_that_nobody_has_still_lies_between_the_others():
    truth, said = np.array([0, 0, 4, 4]), np.array([0, 4, 4, 4])
    once = np.ones((1, 4), dtype=int)
    assert quadratic_kappa(truth, said, once, classes=5) == pytest.approx([0.5])
    assert quadratic_kappa(np.array([0, 2, 4]), np.array([0, 2, 4]), np.ones((1, 3), int), classes=5) == [1.0]


def test_where_all_are_of_one_class_there_is_no_kappa():
    found = agreement(["pN0"] * 3, ["pN0"] * 3, STAGES, patients=["a", "b", "c"], **HOW)
    assert np.isnan(found.kappa.value)
    assert "quadratic_kappa" not in found.kappa.to_json("quadratic_kappa")


def test_patients_are_redrawn_with_all_their_slides():
    # Ten patients, each right or wrong as a whole, of one slide or of twenty: as wide an interval.
    truth = ["negative", "macro"] * 5
    said = ["negative", "macro"] * 3 + ["macro", "negative"] * 2
    owners = [str(one) for one in range(10)]
    one = agreement(truth, said, VERDICTS, patients=owners, **HOW)
    many = agreement(truth * 20, said * 20, VERDICTS, patients=owners * 20, **HOW)
    assert many.accuracy == one.accuracy
    assert many.n == 200


TRUTH = StageTable(
    {"patient_001": "pN0", "patient_002": "pN1", "patient_003": "pN2"},
    {"patient_001_node_0": "negative", "patient_002_node_0": "macro", "patient_003_node_0": "macro"},
)


def test_what_is_in_one_table_alone_is_named_and_counts_in_no_figure():
    said = StageTable({"Patient_001": "pN0", "patient_002": "pN1mi", "other": "pN2"}, {"PATIENT_001_node_0": "itc"})
    report = score_stages(said, TRUTH, **HOW)
    assert report.patients.n == 2
    assert (report.missing, report.unknown) == (("patient_003",), ("other",))
    assert report.missing_slides == ("patient_002_node_0", "patient_003_node_0")
    assert report.slides.confusion.tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    with pytest.raises(EvaluationError, match=r"expected patients that both tables stage, got 1 of other names than"):
        score_stages(StageTable({"x": "pN0"}, {}), TRUTH, **HOW)
    for said, true in ((StageTable({}, TRUTH.slides), TRUTH), (TRUTH, StageTable({}, TRUTH.slides))):
        with pytest.raises(EvaluationError, match=r"stages of patients, .*, got slides alone in "):
            score_stages(said, true, **HOW)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    return ended.value.code


def test_what_one_patient_leaves_undefined_is_said_in_words(tmp_path, capsys):
    table = tmp_path / "one.csv"
    table.write_text("patient_001.zip,pN1\n")
    assert run("--stages", table, "--truth", table) == 0
    said = capsys.readouterr().out
    assert "1 patient\n" in said.replace(" ", "").replace("1patient", "1 patient")
    assert "not defined" in said
    assert "nan" not in said


def test_the_command_prints_kappa_with_its_interval(tmp_path, capsys):
    truth, said = drawn(5, n=40, noise=0.8)
    rows = [f"patient_{number:03}.zip,{STAGES[one]}" for number, one in enumerate(truth)]
    (tmp_path / "truth.csv").write_text("\n".join([*rows, "patient_000_node_0.tif,micro"]) + "\n")
    rows = [f"patient_{number:03}.zip,{STAGES[one]}" for number, one in enumerate(said)]
    (tmp_path / "said.csv").write_text("\n".join(["patient,stage", *rows, "patient_000_node_0.tif,macro"]) + "\n")
    tables = ("--stages", tmp_path / "said.csv", "--truth", tmp_path / "truth.csv")
    assert run(*tables, "--json", "--resamples", 300) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truth, said, weights="quadratic"))
    low, high = figures["quadratic_kappa_ci95"]
    assert low < figures["quadratic_kappa"] < high
    assert (figures["n"], figures["slides"]) == (40, 1)
    assert figures["slide_confusion"][2] == [0, 0, 0, 1]
    assert run(*tables) == 0
    assert "quadratic kappa" in capsys.readouterr().out
    # A patient who is left out is named, and the command fails.
    (tmp_path / "said.csv").write_text("\n".join(rows[1:]) + "\n")
    assert run(*tables) == 1
    told = capsys.readouterr().err
    assert "stages no patient_000, which the truth has: left out" in told
    assert "expected every patient of" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stages", "a.csv"), "expected --stages with --truth, got one alone"),
        (("--stages", "a.csv", "--truth", "b.csv", "--output", "c"), "got it with --stages"),
        (("--stages", "a.csv", "--truth", "b.csv", "--detections", "c"), "got none or several"),
        (("--stages", "a.csv", "--truth", "b.csv", "--model", "m"), "--stages makes use of, got --model"),
        (("--stages", "a.csv", "--truth", "b.csv", "--threshold", "0.4"), "--stages makes use of, got --threshold"),
    ],
)
def test_options_that_do_not_go_with_stages_are_wrong_usage(arguments, words, capsys):
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err
