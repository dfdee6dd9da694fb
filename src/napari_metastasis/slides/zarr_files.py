"""The files of a Zarr hierarchy by their keys: in a folder, in one .zip file, or at an address."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from napari_metastasis.errors import CorruptSlideError, NotASlideError, first_line
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.slides.lifetime import ByteSource, PositionedFile
from napari_metastasis.slides.network import Network
from napari_metastasis.slides.remote_file import RemoteFile, SourceReader

__all__ = ["ZarrFiles", "is_zarr", "open_zarr_files"]

#: Any of these makes a folder a Zarr hierarchy, of the third or the second format.
_MARKS = ("zarr.json", ".zattrs", ".zgroup")
_MOST_MARK_BYTES = 1 << 24
#: What a .zip file of one begins with, and how such files are called.
_ZIP_MAGIC, _ZIPPED = b"PK\x03\x04", (".zip", ".ozx")
_ZARR = ".zarr"
#: Of a file in a .zip: what stands before its name, and where the lengths of name and extra field stand in it.
_LOCAL = struct.Struct("<4s22xHH")
#: What the extra field of a file is expected to take.
_EXTRA_BYTES = 64


class ZarrFiles(Protocol):
    """Files by their keys, such as ``0/c/3/4``; may be used from many threads."""

    #: Of the hierarchy, for a person.
    name: str
    #: Whether each file takes the time of a request: then many are asked for at once.
    is_remote: bool

    def read(self, key: str, start: int = 0, stop: int | None = None, *, most_bytes: int) -> bytes | None:
        """Return a file, or the bytes of it from ``start`` to before ``stop``; ``None`` where there is none.

        Raises
        ------
        CorruptSlideError
            If it holds more than ``most_bytes``, or cannot be read.
        NetworkError
            If the network fails.
        """

    def size(self, key: str) -> int | None:
        """Return the length of a file, in bytes; ``None`` where there is none."""

    def expect(self, keys: Iterable[str]) -> None:
        """Hear which files are read next."""

    def close(self) -> None:
        """Close what is open."""


def is_zarr(path: Path) -> bool:
    """Return whether a folder or a .zip file of this machine holds a Zarr hierarchy.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if path.is_dir():
        return any((path / mark).is_file() for mark in _MARKS)
    with path.open("rb") as file:
        return path.suffix.lower() in _ZIPPED and file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def open_zarr_files(path: SlidePath, settings: SlideSettings) -> ZarrFiles | None:
    """Open the Zarr hierarchy at a path or an address; ``None`` where something else lies there.

    Raises
    ------
    NotASlideError
        If nothing lies there, or a .zip file of something else.
    CorruptSlideError
        If a .zip file is damaged.
    NetworkError
        If the network fails.
    """
    if isinstance(path, Path):
        if not is_zarr(path):
            return None
        return _Folder(path) if path.is_dir() else _Zip(PositionedFile(path))
    network = Network(path, settings)
    if path.suffix.lower() in _ZIPPED:
        return _Zip(RemoteFile(network, capacity_bytes=settings.cache_mib << 18))
    folder = _Remote(network)
    # Asking first for a file would take a request for nothing.
    if path.suffix.lower() == _ZARR or network.size() is None:
        if folder.is_there():
            return folder
        raise NotASlideError(f"expected a slide at {path}, but nothing is there; check the address").in_window(
            f"Nothing lies at {path}. Check the address."
        )
    return None


class _Folder:
    is_remote = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name

    def read(self, key: str, start: int = 0, stop: int | None = None, *, most_bytes: int) -> bytes | None:
        try:
            with open(self._path / key, "rb") as file:
                file.seek(start)
                data = file.read(most_bytes + 1 if stop is None else min(stop - start, most_bytes + 1))
        except (FileNotFoundError, NotADirectoryError):
            if not self._path.is_dir():
                raise _gone(self.name) from None
            return None
        except OSError as error:
            raise CorruptSlideError(
                f"expected to read {key} of {self.name}, but the system says: {error.strerror}; check the disk or the "
                "network share, then open the slide again"
            ) from error
        return _checked(data, key, self.name, most_bytes)

    def size(self, key: str) -> int | None:
        try:
            return os.stat(self._path / key).st_size
        except OSError:
            return None

    def expect(self, keys: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass


class _Zip:
    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.name = source.name
        self.is_remote = not isinstance(source, PositionedFile)
        try:
            self._files = self._listed()
        except BaseException:
            source.close()
            raise

    def _listed(self) -> dict[str, zipfile.ZipInfo]:
        reader = SourceReader(self._source)
        try:
            with zipfile.ZipFile(io.BufferedReader(reader)) as archive:
                files = {entry.filename: entry for entry in archive.infolist() if entry.filename[-1:] not in ("", "/")}
        except (zipfile.BadZipFile, struct.error, ValueError, EOFError, UnicodeError, NotImplementedError) as error:
            raise reader.failure or CorruptSlideError(
                f"expected a complete .zip file, but the list of files in {self.name} cannot be read "
                f"({first_line(error)}); copy it again from its source"
            ) from error
        # Some tools pack the folder, others what lies in it.
        roots = [name.rpartition("/")[0] for name in files if name.rpartition("/")[2] in _MARKS]
        if not roots:
            raise NotASlideError(
                f"expected an OME-Zarr in {self.name}, got a .zip file of something else; unpack it, and open what is "
                "in it"
            )
        root = min(roots, key=lambda name: (name.count("/"), len(name)))
        return {name.removeprefix(root).lstrip("/"): entry for name, entry in files.items()}

    def read(self, key: str, start: int = 0, stop: int | None = None, *, most_bytes: int) -> bytes | None:
        entry = self._files.get(key)
        if entry is None:
            return None
        signature, name_bytes, extra_bytes = _LOCAL.unpack(self._source.read(entry.header_offset, _LOCAL.size))
        begins = entry.header_offset + _LOCAL.size + name_bytes + extra_bytes
        if signature != _ZIP_MAGIC or entry.flag_bits & 1:
            raise self._damaged(key)
        if entry.compress_type == zipfile.ZIP_STORED:
            last = entry.file_size if stop is None else min(stop, entry.file_size)
            _check_length(last - start, key, self.name, most_bytes)
            return self._source.read(begins + start, max(0, last - start))
        if entry.compress_type != zipfile.ZIP_DEFLATED:
            raise NotASlideError(
                f"expected files that are stored in {self.name}, got them packed in another way; unpack it, and open "
                "the folder"
            )
        _check_length(entry.compress_size, key, self.name, most_bytes)
        packed = self._source.read(begins, entry.compress_size)
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most_bytes + 1)
        except zlib.error as error:
            raise self._damaged(key) from error
        return _checked(data, key, self.name, most_bytes)[start:stop]

    def size(self, key: str) -> int | None:
        entry = self._files.get(key)
        return None if entry is None else entry.file_size

    def expect(self, keys: Iterable[str]) -> None:
        entries = [self._files[key] for key in keys if key in self._files]
        self._source.expect(
            (entry.header_offset, _LOCAL.size + len(entry.filename) + _EXTRA_BYTES + entry.compress_size)
            for entry in entries
        )

    def close(self) -> None:
        self._source.close()

    def _damaged(self, key: str) -> CorruptSlideError:
        return CorruptSlideError(
            f"expected {key} in {self.name}, got damaged data; copy the slide again from its source"
        )


class _Remote:
    is_remote = True

    def __init__(self, network: Network) -> None:
        self._network = network
        self.name = network.address.name
        self._known: dict[str, bytes | None] = {}

    def is_there(self) -> bool:
        """Return whether there is a description; what was found is kept for whoever reads it."""
        for mark in _MARKS:
            self._known[mark] = self.read(mark, most_bytes=_MOST_MARK_BYTES)
            if self._known[mark] is not None:
                return True
        return False

    def read(self, key: str, start: int = 0, stop: int | None = None, *, most_bytes: int) -> bytes | None:
        if key in self._known:
            return self._known[key]
        whole = start == 0 and stop is None
        data = self._network.read(key) if whole else self._network.read(key, start, stop)
        return None if data is None else _checked(data, key, self.name, most_bytes)

    def size(self, key: str) -> int | None:
        return self._network.size(key)

    def expect(self, keys: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass


def _checked(data: bytes, key: str, name: str, most_bytes: int) -> bytes:
    _check_length(len(data), key, name, most_bytes)
    return data


def _check_length(length: int, key: str, name: str, most_bytes: int) -> None:
    if length > most_bytes:
        raise CorruptSlideError(
            f"expected at most {most_bytes} bytes as {key} in {name}, got more: it is damaged; copy the slide again "
            "from its source"
        )


def _gone(name: str) -> CorruptSlideError:
    return CorruptSlideError(
        f"expected {name} to stay in its place, got it moved, deleted or unmounted; open the slide again"
    )
