"""One writer for each heatmap, whatever happens to the others."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from napari_metastasis.errors import StorageError, StoreInUseError
from napari_metastasis.partials import lock_within
from napari_metastasis.storage import storage_errors

__all__ = ["WriterLock"]


class WriterLock:
    """A lock that the operating system takes back when its process ends, even by ``kill -9``.

    Parameters
    ----------
    path
        File to lock; it is created, stays behind, and means nothing by itself.
    what
        The thing that it guards, for the error.
    wait_s
        How long another one may go on holding it, in seconds.

    Raises
    ------
    StoreInUseError
        If somebody else holds it; on a disk that knows no locks nobody does.
    StorageError
        If the disk refuses.
    """

    def __init__(self, path: Path, what: Path, *, wait_s: float = 0.0) -> None:
        self._path = path
        with storage_errors(what):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Some network disks number a file anew with every look at it.
        self._is_numbered = self._is_same()
        try:
            with storage_errors(what):
                locked = lock_within(self._descriptor, wait_s)
        except StorageError:
            self.release()
            raise
        if not locked:
            self.release()
            raise StoreInUseError(
                f"expected to be the only scan that writes {what}, but another one is at work on it; "
                "wait until it ends, or choose another folder"
            ).in_window(
                f"Another scan is writing {what}. Wait until it ends, or choose another folder under Advanced › "
                "Results."
            )

    @property
    def is_in_place(self) -> bool:
        """Return whether the file still lies where it was locked: its folder may be deleted, renamed or unmounted."""
        return self._is_same() if self._is_numbered else os.path.exists(self._path)

    def _is_same(self) -> bool:
        try:
            return self._descriptor is not None and os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def __del__(self) -> None:
        """Give the lock back where the holder was forgotten."""
        if hasattr(self, "_descriptor"):
            self.release()
