"""Close a file only after its last reader has left, and read it by position from many threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from napari_metastasis.errors import CorruptSlideError, SlideError

__all__ = ["ByteSource", "Gate", "PositionedFile"]


class Gate:
    """Lets readers in until it is closed, and closes when the last of them has left.

    A file descriptor that is closed under a reader may already be another file, and OpenSlide crashes the process.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._readers = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Return whether readers are turned away."""
        return self._closed

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the gate open while the body runs.

        Raises
        ------
        SlideError
            If the gate is closed.
        """
        with self._changed:
            if self._closed:
                raise SlideError(f"expected an open slide, but {self._what} was closed; open it again")
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def close(self) -> bool:
        """Turn new readers away and wait for those inside; return whether this call was the one that closed."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.wait_for(lambda: self._readers == 0)
        return first


class ByteSource(Protocol):
    """Bytes by position, from many threads: a file of this machine, or one behind a network."""

    #: For a person.
    name: str
    #: In bytes.
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``.

        Raises
        ------
        CorruptSlideError
            If the file ends before, or cannot be read.
        """

    def expect(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Hear what is read next: (offset, count) of each piece."""

    def close(self) -> None:
        """Close it."""


class PositionedFile:
    """Bytes of a file by position, from many threads and without a shared cursor."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.name = path.name
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``.

        Raises
        ------
        CorruptSlideError
            If the file ends before, or the disk cannot be read.
        """
        try:
            data = self._read(offset, count)
        except OSError as error:
            raise CorruptSlideError(
                f"expected to read {count} bytes of {self.name} at {offset}, but the system says: {error.strerror}; "
                "check the disk or the network share, then open the slide again"
            ) from error
        if len(data) != count:
            raise CorruptSlideError(
                f"expected {count} bytes of {self.name} at {offset}, but the file ends after {len(data)}; "
                "copy the slide again from its source"
            )
        return data

    def expect(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Do nothing: the system reads ahead by itself."""

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:  # Windows has no pread
            self._file.seek(offset)
            return self._file.read(count) or b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
