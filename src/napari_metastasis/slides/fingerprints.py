"""What tells one file from another without reading all of it: its size, both ends, a sample, and a TIFF's tables."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_metastasis.slides.naming import pixels_beside

__all__ = ["earlier_fingerprint", "files_of", "fingerprint"]

_MIB = 1 << 20
#: Files up to this size are read whole.
_WHOLE_BYTES = 16 * _MIB
#: Pieces of larger ones, spread evenly: few enough for a disk that turns, or one behind a network.
_PIECES, _PIECE_BYTES = 64, 1 << 14
#: Pages whose tables are read; a stack of more is told apart by these.
_PAGES = 256
_TIFF_BEGINS = (b"II", b"MM")


def files_of(path: Path, file: Path) -> tuple[Path, ...]:
    """Return the files that hold a slide's pixels.

    Parameters
    ----------
    path
        What a user opened: a file or a folder.
    file
        The file that a library opens.
    """
    if path.is_dir():
        return _inside(path)
    # MIRAX keeps its pixels in a folder of the same name, VSI in folders of one.
    suffix, beside = file.suffix.lower(), file.with_suffix("")
    if suffix == ".vsi":
        return (file, *sorted(path for path in pixels_beside(file).rglob("*") if path.is_file()))
    return (file, *_inside(beside)) if suffix == ".mrxs" and beside.is_dir() else (file,)


def fingerprint(files: Sequence[Path]) -> str:
    """Return a SHA-256 over files: sizes, both ends, a sample between them, and where a TIFF's tiles lie.

    Compressed tiles of other pixels have other lengths, so that the tables tell slides apart whose sample is equal.

    Parameters
    ----------
    files
        In their order, which counts; names and dates do not.

    Raises
    ------
    OSError
        If one cannot be read.
    """
    digest = hashlib.sha256()
    sizes = [file.stat().st_size for file in files]
    digest.update(repr(sizes).encode())
    for file, pieces in _sampled(files, sizes):
        with file.open("rb") as stream:
            for start, count in pieces:
                stream.seek(start)
                digest.update(stream.read(count))
    # Of files that were read whole, the tables were too.
    for file in files if sum(sizes) > _WHOLE_BYTES else ():
        for table in _tables(file):
            digest.update(np.asarray(table, dtype="<u8").tobytes())
    return digest.hexdigest()


def earlier_fingerprint(file: Path) -> str:
    """Return what results of versions before 0.3 know a file by: a SHA-256 over its size and both ends.

    Two slides of one size with the same margins share it.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        digest.update(str(size).encode())
        for start in (0, max(0, size - _MIB)):
            stream.seek(start)
            digest.update(stream.read(_MIB))
    return digest.hexdigest()


def _inside(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.iterdir() if path.is_file()))


def _sampled(files: Sequence[Path], sizes: Sequence[int]) -> Iterator[tuple[Path, list[tuple[int, int]]]]:
    """Yield every file with the pieces of it that are read: (first byte, bytes)."""
    total = sum(sizes)
    if total <= _WHOLE_BYTES:
        yield from ((file, [(0, size)]) for file, size in zip(files, sizes, strict=True))
        return
    pieces: list[list[tuple[int, int]]] = [[] for _ in files]
    ends = list(accumulate(sizes))
    for number in range(_PIECES):
        at = number * total // _PIECES
        index = bisect_right(ends, at)
        pieces[index].append((at - (ends[index] - sizes[index]), _PIECE_BYTES))
    # Both ends hold what a format says of itself.
    pieces[0].insert(0, (0, _MIB))
    pieces[-1].append((max(0, sizes[-1] - _MIB), _MIB))
    yield from zip(files, pieces, strict=True)


def _tables(file: Path) -> Iterator[Any]:
    """Yield where the tiles of a TIFF's pages lie, and how long they are; nothing of other files."""
    with file.open("rb") as stream:
        if stream.read(2) not in _TIFF_BEGINS:
            return
    try:
        with tifffile.TiffFile(file) as tiff:
            for page in tiff.pages[:_PAGES]:
                yield page.dataoffsets
                yield page.databytecounts
    except (tifffile.TiffFileError, struct.error, ValueError, IndexError, KeyError, TypeError, OverflowError):
        # Damaged, or no TIFF after all: whoever reads the pixels says so.
        return
