"""Locations that a model took for tumour and that are not, and the file that keeps them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_metastasis.errors import StorageError
from napari_metastasis.plain_csv import CsvRow, read_csv
from napari_metastasis.storage import atomic_text, holds_control_characters, plain_cell, text_of_cell

__all__ = ["HardNegative", "read_hard_negatives", "strongest_first", "write_hard_negatives"]

#: How far a location lies from a slide's corner, in level-0 pixels: farther than any scanner reaches.
_MOST_PX = 1 << 24
_COLUMNS = ["slide", "x", "y", "probability"]


@dataclass(frozen=True, slots=True)
class HardNegative:
    """Normal tissue that a model took for tumour.

    Attributes
    ----------
    slide
        The slide's name.
    x, y
        Centre of the patch, in level-0 pixels.
    probability
        The model's answer, a float32.
    """

    slide: str
    x: float
    y: float
    probability: float


def strongest_first(mined: Iterable[HardNegative]) -> tuple[HardNegative, ...]:
    """Return locations of several slides by falling probability; equal ones by slide, then row, then column."""
    return tuple(sorted(mined, key=lambda one: (-one.probability, one.slide, one.y, one.x)))


def write_hard_negatives(path: str | os.PathLike[str], mined: Iterable[HardNegative]) -> None:
    """Write mined locations as ``slide,x,y,probability``, so that they read back the very same.

    Parameters
    ----------
    path
        File to write.
    mined
        Written in the order given; none is a result too.

    Raises
    ------
    StorageError
        If the file cannot be written; nothing half-written is left.
    """
    with atomic_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(
            # The shortest decimals that read back the same.
            (plain_cell(one.slide), repr(one.x), repr(one.y), np.format_float_positional(np.float32(one.probability)))
            for one in mined
        )


def read_hard_negatives(path: str | os.PathLike[str]) -> tuple[HardNegative, ...]:
    """Read what :func:`write_hard_negatives` wrote, in its order.

    Raises
    ------
    StorageError
        If the file cannot be read or is damaged; the line is named.
    """
    path = Path(path)
    try:
        rows = read_csv(path)
    except OSError as error:
        raise StorageError(
            f"expected mined locations in {path}, got none to read ({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        raise _damaged(path, 1, f"no such table ({error})") from error
    if not rows or rows[0].cells != _COLUMNS:
        raise _damaged(path, 1, repr(",".join(rows[0].cells)[:60]) if rows else "an empty file")
    return tuple(_location(path, row) for row in rows[1:])


def _location(path: Path, row: CsvRow) -> HardNegative:
    try:
        slide, x, y, probability = row.cells
        location = HardNegative(text_of_cell(slide), float(x), float(y), float(probability))
    except ValueError as error:
        raise _damaged(path, row.line, repr(",".join(row.cells)[:60])) from error
    # Written so that NaN, which compares false with everything, is refused as well.
    on_a_slide = abs(location.x) <= _MOST_PX and abs(location.y) <= _MOST_PX
    if not (slide and not holds_control_characters(slide) and on_a_slide and 0 <= location.probability <= 1):
        raise _damaged(path, row.line, repr(",".join(row.cells)[:60]))
    # As it was written: what is drawn follows from its digits.
    return replace(location, probability=float(np.float32(probability)))


def _damaged(path: Path, number: int, got: str) -> StorageError:
    return StorageError(
        f"expected {','.join(_COLUMNS)} in line {number} of {path}, got {got}; move the file away and mine again"
    )
