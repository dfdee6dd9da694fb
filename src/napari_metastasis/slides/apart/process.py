"""A reader's own process, as the program holds it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_metastasis.slides.apart.serving import PATIENCE_S

__all__ = ["EndedError", "LibraryError", "ReadingError", "ReadingProcess"]

_CLOSING_S = 5.0
_PIPE_BYTES = 1 << 20
#: A session of its own on Windows, and no console; nothing elsewhere.
_DETACHED: int = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class ReadingError(Exception):
    """The library says that it cannot read."""


class EndedError(ReadingError):
    """The library ended the process, or gave no answer."""


class LibraryError(Exception):
    """The library itself cannot be loaded."""


class ReadingProcess:
    """A file that is open in a process of its own; for one thread at a time.

    Parameters
    ----------
    module
        Python file whose ``open_file(path, cache_bytes)`` opens it there, as
        :class:`~napari_metastasis.slides.apart.serving.ServedReader`.
    path
        File to open.
    cache_bytes
        For what the library keeps of decoded pieces.

    Raises
    ------
    ReadingError
        If the file cannot be opened.
    LibraryError
        If the library cannot be loaded.
    """

    def __init__(self, module: Path, path: Path, cache_bytes: int) -> None:
        self._process = subprocess.Popen(
            # Without its folder among those that are searched: modules there are called as the library's own may be.
            [sys.executable, "-P", Path(__file__).with_name("serving.py"), module, path, str(cache_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for the program, which ends this process by closing its input; no console opens for it.
            start_new_session=True,
            creationflags=_DETACHED,
        )
        _widen(self._process)
        #: Ends it, once, also where nobody asked.
        self.end = weakref.finalize(self, _end, self._process)
        try:
            #: What the file states.
            self.facts: dict[str, Any] = self._answer()[0]["facts"]
        except BaseException:
            self.end()
            raise

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.end()

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a request, and the bytes that belong to it.

        Raises
        ------
        ReadingError
            If the library cannot read what is asked for.
        EndedError
            If the process is gone: it may have been this that ended it.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EndedError("its reader ended") from error
        return self._answer()

    def _answer(self) -> tuple[dict[str, Any], bytes]:
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE_S, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            head = _head(self._process.stdout.readline())
            count = int(head.get("bytes", 0))
            data = self._process.stdout.read(count) if count else b""
        finally:
            watch.cancel()
        if not head or len(data) != count:
            self.end()
            raise EndedError("its reader ended or gave no answer")
        if "missing" in head:
            raise LibraryError(head["missing"])
        if "error" in head:
            raise ReadingError(head["error"])
        return head, data


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Let a tile come in one go, where the system has room for such pipes: it gives a user only so much."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert process.stdout is not None
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _head(line: bytes) -> dict[str, Any]:
    """Return what an answer begins with; nothing where it was cut off, or is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process by closing its input; with force where that is not enough."""
    for stream in (process.stdin, process.stdout):
        # What was not sent yet goes nowhere.
        with suppress(OSError):
            if stream is not None:
                stream.close()
    try:
        process.wait(_CLOSING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
