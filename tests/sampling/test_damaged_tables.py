"""Tables and journals of training that cannot be so: named by their line, or passed over where little hangs on them."""

from __future__ import annotations

import pytest

from napari_metastasis.errors import StorageError
from napari_metastasis.sampling.failures import SlideFailure, add_failure, read_failures
from napari_metastasis.sampling.hard_negatives import read_hard_negatives
from napari_metastasis.training.learning_curves import read_curves

HEADER = "slide,x,y,probability\na,1,2,0.5\n"


@pytest.mark.parametrize(
    "row",
    [
        "b,1e300,2,0.5", "b,nan,2,0.5", "b,1,inf,0.5", "b,1,2,1e400", "b,1,2,-0.1", "b,1,2", "b,1,2,0.5,6", ",1,2,0.5",
        "b,x,2,0.5", '"b\nc",1,2,0.5', "b\0,1,2,0.5", '"b,1,2,0.5', f"{'b' * 200_000},1,2,0.5",
    ],
)  # fmt: skip
def test_a_mined_location_that_lies_on_no_slide_is_named(tmp_path, row):
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}{row}\n")
    with pytest.raises(StorageError, match=r"line [34]") as caught:
        read_hard_negatives(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"slide,x\n", b"\xff", b"slide,x,x,probability\n"])
def test_what_is_no_table_of_mined_locations_is_refused(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(StorageError, match="line 1"):
        read_hard_negatives(path)


def test_lines_of_a_journal_of_failures_that_name_none_are_passed_over(tmp_path):
    path = tmp_path / "failures.jsonl"
    add_failure(path, SlideFailure("a", "why"))
    with path.open("ab") as file:
        for line in (b"[]", b"[" * 5000, b'{"slide": [], "reason": ""}', b'{"slide": "b", "reason": 3}', b"\xff", b"{"):
            file.write(line + b"\n")
    add_failure(path, SlideFailure("c", "why"))
    assert [failure.slide for failure in read_failures(path)] == ["a", "c"]


def test_a_log_that_is_damaged_costs_no_run_its_curves(tmp_path):
    for number, text in (
        (1, "epoch,auc\n0,0.5\n1,x\ny,0.6\n2,0.7\n"),
        (2, "epoch,auc\n\0"),
        (10, "epoch,auc\n2,0.8\n"),
    ):
        log = tmp_path / "log" / f"version_{number}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text(text)
    (tmp_path / "log" / "version_x").mkdir()
    (tmp_path / "log" / "version_x" / "metrics.csv").write_text("epoch,auc\n3,0.9\n")
    assert read_curves(tmp_path, ["auc"]) == {0: {"auc": 0.5}, 2: {"auc": 0.8}}
