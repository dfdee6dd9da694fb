"""Files and folders that are written and not whole yet, and how what a killed process left of them is swept away.

Each lies under a name that nothing else bears, and its writer holds a lock on it. The system takes a lock back when the
process ends, even by ``kill -9``, so that what can be locked has no writer any more. Process numbers would not tell:
they are used again, and mean nothing on another machine that writes to the same disk.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["LOCK_HELD", "LOCK_UNKNOWN", "lock", "lock_within", "partial_file", "partial_folder", "sweep"]

#: 16 random digits, and the writer's machine. Earlier versions wrote the digits alone, and held no lock.
_NAME = re.compile(r"\.[0-9a-f]{16}(?:-([0-9a-f]{8}))?\.part")
#: In a partial folder: what its writer locks, what is renamed, and what that replaces.
_LOCKED, _WHOLE, _EARLIER = "writer.lock", "whole", "earlier"
#: What is this old has no writer, where locks do not tell: of earlier versions, or of another machine, whose locks some
#: network disks keep to themselves.
_OLD_SECONDS = 24 * 3600.0
#: Windows neither renames nor deletes an open file, so that a lock cannot outlast the rename there: age alone tells.
_WINDOWS = os.name == "nt"
#: O_BINARY exists on Windows alone, O_NOFOLLOW everywhere else.
_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)

#: What the system says where another process (or this one, through another file) holds the lock.
LOCK_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
#: What it says on a network disk that knows no locks.
LOCK_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: Until a lock that somebody holds is tried again.
_PAUSE_S = 0.02


def lock(descriptor: int) -> None:
    """Lock an open file without waiting; the lock ends with the file descriptor.

    Raises
    ------
    OSError
        With a number of :data:`LOCK_HELD` where somebody else holds it, or of :data:`LOCK_UNKNOWN` where the disk knows
        no locks.
    """
    # Through importlib, because each module exists on its own systems only and type checkers look at one.
    if _WINDOWS:
        msvcrt = importlib.import_module("msvcrt")
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_within(descriptor: int, wait_s: float) -> bool:
    """Lock an open file, and wait for whoever holds it.

    Returns
    -------
    Whether nobody else holds it any more. A disk that knows no locks cannot say: going on unlocked is better than not
    going on at all.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            lock(descriptor)
        except OSError as error:
            if error.errno in LOCK_UNKNOWN:
                return True
            if error.errno not in LOCK_HELD:
                raise
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True


@contextmanager
def partial_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file that is renamed to ``target`` when the block ends, and is gone if that raises.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    sweep(target.parent)
    partial, descriptor = _made(target.parent, is_folder=False)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                partial.chmod(target.stat().st_mode & 0o777)
            if not _WINDOWS:
                # While it is locked, or somebody could sweep it away just before.
                os.replace(partial, target)
        if _WINDOWS:
            os.replace(partial, target)
    finally:
        # Gone already where the rename was reached.
        with suppress(OSError):
            partial.unlink()


@contextmanager
def partial_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield where to make a folder that is renamed to ``target`` when the block ends, and is gone if that raises.

    Parameters
    ----------
    target
        Where it will lie.
    replace
        Whether what lies there is taken away for it; it stays where the new one cannot take its place.

    Raises
    ------
    OSError
        If the disk refuses, or something lies at ``target`` and is not replaced.
    """
    sweep(target.parent)
    partial, descriptor = _made(target.parent, is_folder=True)
    try:
        yield partial / _WHOLE
        earlier = partial / _EARLIER
        if replace and os.path.lexists(target):
            os.rename(target, earlier)
        try:
            os.rename(partial / _WHOLE, target)
        except OSError:
            if earlier.exists():
                os.rename(earlier, target)
            raise
    finally:
        os.close(descriptor)
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what dead writers left in a folder; what cannot be deleted stays, and nothing is raised."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            named = _NAME.fullmatch(entry.name)
            if named is not None:
                with suppress(OSError):
                    _sweep_one(Path(entry.path), entry.stat(follow_symlinks=False), is_own=named[1] == _machine())


def _made(folder: Path, *, is_folder: bool) -> tuple[Path, int]:
    """Return a new file, or a new folder, and the descriptor that holds its lock where the disk knows locks."""
    while True:
        partial = folder / _new_name()
        if is_folder:
            partial.mkdir()
        locked = partial / _LOCKED if is_folder else partial
        # 0o666 less the umask, as open() would; tempfile's 0o600 would lock colleagues out of shared results.
        descriptor = os.open(locked, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
        # Somebody may have found it before it was locked, and sweeps it away.
        if _WINDOWS or (_is_free(descriptor) is not False and locked.exists()):
            return partial, descriptor
        os.close(descriptor)


def _is_free(descriptor: int) -> bool | None:
    """Lock an open file and return whether that could be done; ``None`` where the disk knows no locks."""
    try:
        lock(descriptor)
    except OSError as error:
        return False if error.errno in LOCK_HELD else None
    return True


def _new_name() -> str:
    # Short and without the target's name, which may fill the file system's limit on its own.
    return f".{secrets.token_hex(8)}-{_machine()}.part"


def _machine() -> str:
    return hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:8]


def _sweep_one(partial: Path, about: os.stat_result, *, is_own: bool) -> None:
    """Delete one partial file or folder unless it may have a writer."""
    is_folder, is_old = stat.S_ISDIR(about.st_mode), time.time() - about.st_mtime > _OLD_SECONDS
    if not (is_folder or stat.S_ISREG(about.st_mode)) or not (is_old or (is_own and not _WINDOWS)):
        return
    if _WINDOWS:
        _delete(partial, is_folder=is_folder)
        return
    try:
        descriptor = os.open(partial / _LOCKED if is_folder else partial, _FLAGS)
    except FileNotFoundError:
        # A folder whose writer has not come to lock it, was killed before, or is of an earlier version.
        if is_folder and is_old:
            _delete(partial, is_folder=True)
        return
    try:
        free = _is_free(descriptor)
        if free or (free is None and is_old):
            _delete(partial, is_folder=is_folder)
    finally:
        os.close(descriptor)


def _delete(partial: Path, *, is_folder: bool) -> None:
    if is_folder:
        shutil.rmtree(partial)
    else:
        partial.unlink()
