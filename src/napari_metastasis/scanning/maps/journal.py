"""Which ROIs of a heatmap are finished: one JSON line each, appended after its data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from napari_metastasis.geometry import Region
from napari_metastasis.plain_json import parse_json
from napari_metastasis.storage import storage_errors

__all__ = ["append_region", "read_regions"]

_FIELDS = ("x", "y", "width", "height")
#: Bytes of a line: several times what one takes.
_LONGEST = 512


def append_region(path: Path, cells: Region) -> None:
    """Add a finished region and wait until the line is on the disk.

    Raises
    ------
    StorageError
        If it cannot be written. A line that was cut short is skipped by :func:`read_regions`.
    """
    line = json.dumps({name: getattr(cells, name) for name in _FIELDS})
    with storage_errors(path), path.open("ab") as file:
        # The leading newline ends a line that an earlier process was killed in; empty lines are nothing.
        file.write(f"\n{line}".encode() if _is_torn(path) else line.encode())
        file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_regions(path: Path) -> Iterator[Region]:
    """Yield the region of every whole line; lines that were cut short are skipped.

    Raises
    ------
    StorageError
        If the file is there but cannot be read.
    """
    if not path.exists():
        return
    begins = True
    with storage_errors(path), path.open("rb") as file:
        while line := file.readline(_LONGEST):
            ends = line.endswith(b"\n")
            # A last line without its newline may be a prefix of the true one that still parses: it does not count.
            if begins and ends and (region := _region(line)) is not None:
                yield region
            begins = ends


def _region(line: bytes) -> Region | None:
    try:
        values = parse_json(line)
        found = Region(*(values[name] for name in _FIELDS))
    except (ValueError, TypeError, KeyError):
        return None
    whole = all(type(value) is int for value in (found.x, found.y, found.width, found.height))
    return found if whole and not found.is_empty else None
