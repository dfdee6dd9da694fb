"""Tables from disk: every row with its line, and what is no table refused with the line that is at fault."""

from __future__ import annotations

import pytest

from napari_metastasis.plain_csv import CsvRow, PlainCsvError, read_csv


def rows_of(tmp_path, data: bytes | str, **options) -> list[CsvRow]:
    path = tmp_path / "a.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_csv(path, **options)


def test_rows_come_with_their_lines_and_empty_ones_are_left_out(tmp_path):
    rows = rows_of(tmp_path, '\ufeffa,b\r\n\r\n , \r\n"x,\n1",2\r\n3,4')
    assert [(row.line, row.cells) for row in rows] == [(1, ["a", "b"]), (5, ["x,\n1", "2"]), (6, ["3", "4"])]
    assert rows_of(tmp_path, "") == []


def test_what_separates_cells_is_told_by_the_first_line(tmp_path):
    assert rows_of(tmp_path, "a;b\n1,5;2", delimiters=",;\t")[1].cells == ["1,5", "2"]
    # Of no line end but their own: names may hold others.
    assert rows_of(tmp_path, "a\u2028b,c\x85d")[0].cells == ["a\u2028b", "c\x85d"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a,b\n1,\xff\n", "line 2, which is no text in UTF-8"),
        (b"a,b\n\n1,\0\n", r"line 3, which holds the control character '\\x00'"),
        (b'a,b\n1,"open\n2,3\n', "line 3: unexpected end of data"),
        (b'a,b\n"x"y,2\n', "line 2: "),
        (b"a,b\n1," + b"x" * 200_000, "line 2: field larger"),
    ],
)
def test_the_line_that_is_at_fault_is_named(tmp_path, data, reason):
    with pytest.raises(PlainCsvError, match=reason) as caught:
        rows_of(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_a_table_of_gigabytes_is_not_held(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(PlainCsvError, match="more than 32 MiB"):
        read_csv(path)
