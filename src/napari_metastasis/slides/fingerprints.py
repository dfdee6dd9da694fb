"""What tells one file from another without reading all of it: its size, both ends, a sample, and a TIFF's tables."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_metastasis.errors import CorruptSlideError, NetworkError
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlidePath, SlideUrl
from napari_metastasis.slides.lifetime import ByteSource, PositionedFile
from napari_metastasis.slides.naming import pixels_beside
from napari_metastasis.slides.network import Network
from napari_metastasis.slides.ngff import find_image, multiscale_of, read_node
from napari_metastasis.slides.ome_zarr_level import OmeZarrLevel
from napari_metastasis.slides.remote_file import REQUESTS_AT_ONCE, RemoteFile, SourceReader
from napari_metastasis.slides.zarr_files import ZarrFiles, open_zarr_files

__all__ = ["content_fingerprint", "earlier_fingerprint", "files_of", "fingerprint"]

_MIB = 1 << 20
#: Files up to this size are read whole.
_WHOLE_BYTES = 16 * _MIB
#: Pieces of larger ones, spread evenly: few enough for a disk that turns, or one behind a network.
_PIECES, _PIECE_BYTES = 64, 1 << 14
#: Pages whose tables are read; a stack of more is told apart by these.
_PAGES = 256
_TIFF_BEGINS = (b"II", b"MM")
#: Of an OME-Zarr, chunks whose lengths are asked for, and those of the coarsest level that are read.
_CHUNKS, _COARSE_CHUNKS = 32, 16
#: Of a coarse chunk that is longer, the length alone counts: it is no sample but a download.
_MOST_CHUNK_BYTES = 1 << 25
_DEFAULTS = SlideSettings()

#: What tifffile raises on damaged headers.
_PARSING_ERRORS = (
    tifffile.TiffFileError, struct.error, ValueError, IndexError, KeyError, TypeError, OverflowError, CorruptSlideError,
)  # fmt: skip


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


def content_fingerprint(path: SlidePath, file: SlidePath, settings: SlideSettings = _DEFAULTS) -> str:
    """Return what tells a slide's content from others', wherever it lies: a copy has the same.

    Parameters
    ----------
    path
        What a user opened: a file, a folder or an address.
    file
        What a library opens.
    settings
        How a network is waited for.

    Raises
    ------
    OSError
        If a file cannot be read, or the network fails.
    NotASlideError
        If nothing lies at an address.
    """
    hierarchy = open_zarr_files(file, settings) if isinstance(file, SlideUrl) or file.exists() else None
    if hierarchy is not None:
        with closing(hierarchy):
            return _zarr_fingerprint(hierarchy)
    if isinstance(file, SlideUrl):
        source = RemoteFile(Network(file, settings), capacity_bytes=settings.cache_mib << 18, block_bytes=_PIECE_BYTES)
        with closing(source):
            return _fingerprint([source.size], lambda _: nullcontext(source))
    assert isinstance(path, Path)
    return fingerprint(files_of(path, file))


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
    # Of a thousand files, the system would not let all be open at once.
    sizes = [file.stat().st_size for file in files]
    return _fingerprint(sizes, lambda number: closing(PositionedFile(files[number])))


def _fingerprint(sizes: Sequence[int], opened: Callable[[int], AbstractContextManager[ByteSource]]) -> str:
    """Return the SHA-256 of files.

    Parameters
    ----------
    sizes
        Of each, in bytes.
    opened
        Opens one of them, by its number.
    """
    digest = hashlib.sha256()
    digest.update(repr(list(sizes)).encode())
    for number, pieces in enumerate(_sampled(sizes)):
        inside = [(start, min(count, sizes[number] - start)) for start, count in pieces if start < sizes[number]]
        with opened(number) as file:
            file.expect(inside)
            for start, count in inside:
                digest.update(file.read(start, count))
    # Of files that were read whole, the tables were too.
    for number in range(len(sizes)) if sum(sizes) > _WHOLE_BYTES else ():
        with opened(number) as file:
            for table in _tables(file):
                digest.update(np.asarray(table, dtype="<u8").tobytes())
    return digest.hexdigest()


def _zarr_fingerprint(files: ZarrFiles) -> str:
    """Return a SHA-256 over an OME-Zarr: all descriptions, lengths of a sample of chunks, and the coarsest level."""
    digest = hashlib.sha256()
    images, _ = find_image(files)
    for path, node in images.items():
        scales = multiscale_of(node.attributes, files.name)
        levels = []
        for own in (f"{path}/{level}" if path else level for level in scales.paths):
            found = read_node(files, own, inside=node)
            if found is not None and found.array is not None:
                levels.append(OmeZarrLevel.of(files, own, found.array, scales.axes))
                digest.update(repr((own, levels[-1].array.layout)).encode())
        digest.update(json.dumps([path, node.attributes], sort_keys=True).encode())
        if not levels:
            continue
        first, last = max(levels, key=_area), min(levels, key=_area)
        step = max(1, first.grid.count // _CHUNKS)
        sample = [first.array.key(first.chunks_of(index)[0]) for index in range(0, first.grid.count, step)]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE if files.is_remote else 1) as pool:
            digest.update(repr(list(pool.map(files.size, dict.fromkeys(sample)))).encode())
        may_be_long = math.prod(last.array.layout.shard or last.array.layout.chunk) > _MOST_CHUNK_BYTES // 2
        coarse = (last.array.key(at) for index in range(last.grid.count) for at in last.chunks_of(index))
        for key in list(dict.fromkeys(coarse))[:_COARSE_CHUNKS]:
            length = (files.size(key) or 0) if may_be_long else 0
            if length > _MOST_CHUNK_BYTES:
                digest.update(repr(length).encode())
            else:
                digest.update(files.read(key, most_bytes=_MOST_CHUNK_BYTES) or b"")
    return digest.hexdigest()


def _area(level: OmeZarrLevel) -> int:
    return level.size.area


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


def _sampled(sizes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Return of every file the pieces that are read: (first byte, bytes)."""
    total = sum(sizes)
    if total <= _WHOLE_BYTES:
        return [[(0, size)] for size in sizes]
    pieces: list[list[tuple[int, int]]] = [[] for _ in sizes]
    ends = list(accumulate(sizes))
    for number in range(_PIECES):
        at = number * total // _PIECES
        index = bisect_right(ends, at)
        pieces[index].append((at - (ends[index] - sizes[index]), _PIECE_BYTES))
    # Both ends hold what a format says of itself.
    pieces[0].insert(0, (0, _MIB))
    pieces[-1].append((max(0, sizes[-1] - _MIB), _MIB))
    return pieces


def _tables(file: ByteSource) -> Iterator[Any]:
    """Yield where the tiles of a TIFF's pages lie, and how long they are; nothing of other files."""
    if file.read(0, 2) not in _TIFF_BEGINS:
        return
    try:
        with tifffile.TiffFile(io.BufferedReader(SourceReader(file)), name=file.name) as tiff:
            for page in tiff.pages[:_PAGES]:
                yield page.dataoffsets
                yield page.databytecounts
    except NetworkError:
        raise
    except _PARSING_ERRORS:
        # Damaged, or no TIFF after all: whoever reads the pixels says so.
        return
