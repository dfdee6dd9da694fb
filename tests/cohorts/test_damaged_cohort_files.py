"""Cohort files that cannot be so: one line that names the row, before any slide is looked for."""

from __future__ import annotations

import pytest

from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.cohorts.layouts import read_layout
from napari_metastasis.errors import CohortError

HEADER = "slide,annotation,split,patient,node,tumour,mpp,exhaustive\n"


def refusal(tmp_path, data: str | bytes) -> str:
    path = tmp_path / "cohort.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(CohortError) as caught:
        read_cohort(path, validation_share=0.2, seed=1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        "~nosuchuser/x,,train,,,no,0.5,yes",
        "b.tif,~nosuchuser/x,train,,,no,0.5,yes",
        ",,train,,,no,0.5,yes",
        '" ",,train,,,no,0.5,yes',
        "..,,train",
        "a/..,,train",
        "/,,train",
        f"{'x' * 300}.tif,,train",
        f"b.tif,{'x' * 300},train",
        f"b.tif,{'é' * 200}.xml,train",
        f"{'ab/' * 2000}c.tif,,train",
        "a\0b.tif,,train",
        '"a\nb.tif",,train',
        "a.tif,,train,p\x1bq",
        "a.tif,,sideways",
        "a.tif,,train,,,perhaps",
        *(f"a.tif,,train,,,no,{mpp}" for mpp in ("1e400", "nan", "-1", "0", "inf", "half", "1" * 5000)),
        f"a.tif,,train,{'p' * 10_000}",
        f"a.tif,,train,{'p' * 1_000_000}",
        "a.tif,,train,p,n,no,0.5,yes,more",
        'a.tif,"open',
        '"a"b.tif,,train',
    ],
)
def test_a_row_that_cannot_be_so_is_named(tmp_path, row):
    said = refusal(tmp_path, f"{HEADER}a.tif,,train,,,no,0.5,yes\n{row}\n")
    # A quoted cell may end a line further down.
    assert "line 3" in said or "line 4" in said


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path):
    assert "line 3" in refusal(tmp_path, f"{HEADER}a.tif\nb".encode() + b"\xff\xfe.tif\n")


@pytest.mark.parametrize("header", ["slide,slide", "slide,SLIDE ", "slide,anotation", "annotation", "x" * 100_000])
def test_columns_that_nobody_knows_are_refused(tmp_path, header):
    assert "expected a first line of slide" in refusal(tmp_path, f"{header}\na,b\n")


def test_names_keep_what_no_line_ends_with(tmp_path):
    """Only line feeds end lines: other programs' line separators stand in names of files."""
    path = tmp_path / "cohort.csv"
    path.write_text(f"{HEADER}a\u2028b.tif,,train\n./=c.tif,,test\n")
    slides = read_cohort(path, validation_share=0, seed=1).slides
    assert [slide.name for slide in slides] == ["a\u2028b", "=c"]


def test_a_table_of_camelyon16_that_is_no_text_is_refused(tmp_path):
    for name in ("training/normal/normal_001.tif", "testing/images/test_001.tif"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    table = tmp_path / "testing" / "reference.csv"
    for data in (b"test_001,Tumor\n\xff\n", b'test_001,"Tumor\n', b"test_001,\0\n"):
        table.write_bytes(data)
        with pytest.raises(CohortError, match=r"table of slides in .*, got line \d") as caught:
            read_layout(tmp_path)
        assert "\n" not in str(caught.value)
