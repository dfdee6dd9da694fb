"""The file of a slide's corrections: saved after every change, with dated backups, and never over somebody else's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from napari_metastasis.annotations.corrections import Corrections, now
from napari_metastasis.annotations.corrections_file import FeatureTexts, read_corrections, write_corrections
from napari_metastasis.annotations.reading import Tell, silent
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import Region
from napari_metastasis.partials import lock_within
from napari_metastasis.storage import atomic_write, storage_errors

__all__ = ["BACKUPS", "CORRECTIONS_FILE", "ChangedBeneathError", "CorrectionStore"]

CORRECTIONS_FILE, BACKUPS = "annotations.geojson", "annotations.backups"
_LOCK = ".annotations.lock"
#: While somebody works on, a backup is made so often.
_BETWEEN_BACKUPS = timedelta(minutes=10)
#: A save takes less; a lock that is held for longer is a disk that hangs.
_WAIT_S = 5.0
#: Of a file that is not there.
_NOTHING = ""


class ChangedBeneathError(StorageError):
    """Somebody else changed the file since it was read: it is not overwritten."""


class CorrectionStore:
    """The corrections of one result folder, as they lie on the disk. Used by one thread at a time.

    Parameters
    ----------
    folder
        The result folder.
    bounds
        The slide's bounds, if it states any.

    Attributes
    ----------
    path
        The file.
    saved
        What it held when it was last read or written here.
    """

    def __init__(self, folder: Path, *, bounds: Region | None = None) -> None:
        self.path = folder / CORRECTIONS_FILE
        self.saved = Corrections()
        self._bounds = bounds
        self._seen = _NOTHING
        # Of the file when it was last found to be the one that was seen.
        self._unchanged: tuple[int, ...] | None = None
        # Of other programs, which opened this very file: what is not understood is kept.
        self._others: tuple[dict[str, Any], ...] = ()
        self._texts = FeatureTexts()
        self._backed_up = now() - _BETWEEN_BACKUPS

    def read(self, tell: Tell = silent) -> Corrections:
        """Return what the file holds; nothing where there is none. ``tell`` takes the share that is read.

        Raises
        ------
        AnnotationError
            If it is damaged. It is left as it is, and :meth:`save` refuses to replace it.
        StorageError
            If it cannot be read.
        """
        with storage_errors(self.path):
            seen = self._digest()
        if seen == _NOTHING:
            self.saved, self._seen, self._others = Corrections(), seen, ()
            return self.saved
        found = read_corrections(self.path, bounds=self._bounds, tell=tell)
        self.saved, self._seen, self._others = found.corrections, seen, found.others
        return self.saved

    @property
    def is_changed_beneath(self) -> bool:
        """Return whether the file holds something else than was last read or written here."""
        with storage_errors(self.path):
            # Every program writes either a new file or at another time; only then is it read.
            stamp = self._stamp()
            if stamp == self._unchanged:
                return False
            changed = self._digest() != self._seen
            self._unchanged = None if changed else stamp
            return changed

    def save(self, corrections: Corrections) -> None:
        """Write corrections; what was there before is backed up first, if that was not done lately.

        Raises
        ------
        ChangedBeneathError
            If somebody else changed the file: see :meth:`merge`.
        StorageError
            If the disk refuses; the file stays as it was.
        """
        with self._locked():
            if self._digest() != self._seen:
                raise ChangedBeneathError(
                    f"expected to be the only one who changes {self.path}, got it changed by somebody else; "
                    "read it again, and put both together"
                ).in_window("These corrections were changed in another window. Both are being put together.")
            self._write(corrections)

    def merge(self, mine: Corrections) -> tuple[Corrections, tuple[str, ...]]:
        """Put corrections together with what somebody else wrote meanwhile, and write that.

        Returns
        -------
        What was written, and the keys of what both had changed: there the later one stands. What the other wrote is
        backed up; ``mine`` is, too, where both had changed the same.

        Raises
        ------
        AnnotationError
            If what the other wrote is damaged.
        StorageError
            If the disk refuses; the file stays as it was.
        """
        base, seen, others = self.saved, self._seen, self._others
        with self._locked():
            try:
                together, disputed = mine.merged(self.read(), base)
                self._back_up()
                if disputed:
                    with self._new_backup() as path:
                        write_corrections(path, mine, bounds=self._bounds)
                self._write(together)
            except (AnnotationError, StorageError):
                # Or what the other wrote would count as seen, and the next save would take it away.
                self.saved, self._seen, self._others = base, seen, others
                raise
        return together, disputed

    def _write(self, corrections: Corrections) -> None:
        if now() - self._backed_up >= _BETWEEN_BACKUPS:
            self._back_up()
        # Of what was written, and not of what lies there: somebody may have been faster than a second look.
        self._seen = write_corrections(
            self.path, corrections, bounds=self._bounds, others=self._others, known=self._texts
        )
        self.saved = corrections

    def _back_up(self) -> None:
        """Keep what the file holds under the time of now."""
        with storage_errors(self.path), suppress(FileNotFoundError):
            held = self.path.read_bytes()
            with self._new_backup() as path, atomic_write(path) as file:
                file.write(held)
        self._backed_up = now()

    @contextmanager
    def _new_backup(self) -> Iterator[Path]:
        """Yield the path of a backup that is not there yet; one of the same second is another one."""
        folder = self.path.parent / BACKUPS
        with storage_errors(folder):
            folder.mkdir(exist_ok=True)
            # A list by name is one by time.
            name = now().strftime("%Y-%m-%dT%H-%M-%S")
            copies = (folder / f"{name}{f'_{copy:03}' if copy else ''}.geojson" for copy in range(1000))
            yield next(path for path in copies if not path.exists())

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _digest(self) -> str:
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return _NOTHING

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let nobody else save meanwhile; on a disk that knows no locks, hope so."""
        path = self.path.parent / _LOCK
        with storage_errors(self.path):
            # Of a slide that was never scanned there is no result folder yet; the slide's own must be there.
            self.path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not lock_within(descriptor, _WAIT_S):
                    raise StorageError(
                        f"expected to save {self.path}, but somebody else has been saving it for {_WAIT_S:.0f} s; "
                        "check the disk and try again"
                    )
                yield
            finally:
                os.close(descriptor)
