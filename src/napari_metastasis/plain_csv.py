"""Tables of comma-separated values as they come from disk: no more than can be held, and every row with its line."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass

from napari_metastasis.storage import read_at_most

__all__ = ["CsvRow", "PlainCsvError", "read_csv"]

#: Bytes of a table: a million rows. Read, a byte can become twenty-five.
_MOST_BYTES = 1 << 25
#: Characters that no table has: those that neither end lines nor separate cells.
_NEVER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class PlainCsvError(ValueError):
    """A file that is no table; says why, and in which line, in a few words."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A row that holds something.

    Attributes
    ----------
    line
        Its line in the file, from 1; the last one, where a quoted cell spans several.
    cells
        As they are written, but for quotes.
    """

    line: int
    cells: list[str]


def read_csv(path: str | os.PathLike[str], *, delimiters: str = ",") -> list[CsvRow]:
    """Return the rows of a table, in UTF-8 with or without a byte-order mark; empty ones are left out.

    Parameters
    ----------
    path
        The file.
    delimiters
        Any of which may separate cells: that which the first line has most of does.

    Raises
    ------
    OSError
        If it cannot be read.
    PlainCsvError
        If it is too large, or no text; if a quote is not closed, or a cell is no text. The line is named.
    """
    try:
        data = read_at_most(path, _MOST_BYTES)
    except ValueError as error:
        raise PlainCsvError(str(error)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PlainCsvError(f"line {line}, which is no text in UTF-8") from error
    if found := _NEVER.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise PlainCsvError(f"line {line}, which holds the control character {found.group()!r}")
    # As csv wants it: line ends are its own to find, also in quoted cells.
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=max(delimiters, key=text.partition("\n")[0].count), strict=True)
    try:
        return [CsvRow(rows.line_num, row) for row in rows if any(map(str.strip, row))]
    except csv.Error as error:
        raise PlainCsvError(f"line {rows.line_num}: {error}") from error
