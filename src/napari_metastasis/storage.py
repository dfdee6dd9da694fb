"""Write files whole or not at all, and say what to do when the disk fails.

Every room that writes goes through :func:`atomic_write` (one file) or :func:`storage_errors` (anything else on disk),
so that a full disk, a read-only medium and missing rights are reported in the same words everywhere.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from napari_metastasis.errors import MetastasisError, StorageError, first_line

__all__ = ["atomic_text", "atomic_write", "plain_cell", "storage_error", "storage_errors", "text_of_cell"]

#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

#: errno -> (what was expected, what was found, what to do). ``{path}`` and ``{folder}`` are filled in.
_REMEDIES: dict[int, tuple[str, str, str]] = {
    errno.ENOSPC: ("room to write {path}", "a full disk", "free some space, or choose another folder"),
    errno.EDQUOT: ("room to write {path}", "an exhausted disk quota", "free some space, or choose another folder"),
    errno.EFBIG: ("room to write {path}", "a limit on file sizes", "raise the limit, or choose another folder"),
    errno.EROFS: ("to write {path}", "a read-only file system", "choose a folder on a writable disk"),
    errno.EACCES: (
        "to write {path}",
        "no permission",
        "ask for write access to {folder}, close programs that hold the file, or choose another folder",
    ),
    errno.ENOENT: ("a folder {folder}", "none there", "create it, or choose another folder"),
    errno.ENOTDIR: ("{folder} to be a folder", "a file there", "choose another folder"),
    errno.EISDIR: ("to write the file {path}", "a folder of that name", "move it away, or choose another name"),
    errno.EEXIST: ("to create {path}", "something else of that name", "move it away, or choose another name"),
    errno.ENAMETOOLONG: ("a file name that the disk accepts", "{path}, which is too long", "choose a shorter one"),
}
_REMEDIES[errno.EPERM] = _REMEDIES[errno.EACCES]

#: What torch's writer says of a file that takes no more, where nothing tells why.
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter failed", "unexpected pos", "file write failed")
#: What is always the disk's fault, whatever was being done.
_TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def storage_error(error: OSError, path: str | os.PathLike[str]) -> StorageError:
    """Return an error met while writing ``path`` as one that names its remedy.

    The original ``errno`` is kept, so that callers can tell a full disk (``ENOSPC``) from the rest.
    """
    target = Path(path)
    code = error.errno
    if code in _REMEDIES:
        expected, received, remedy = _REMEDIES[code]
    else:
        expected, received, remedy = "to write {path}", error.strerror or str(error), "check the disk and try again"
    names = {"path": target, "folder": target.parent}
    # Formatted piece by piece: a path may itself hold braces, and an unknown error's text may too.
    received = received.format(**names) if code in _REMEDIES else received
    translated = StorageError(f"expected {expected.format(**names)}, got {received}; {remedy.format(**names)}")
    translated.errno = code
    return translated


@contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn every OSError of the block into a StorageError about ``path``, also one that a library made another of.

    Raises
    ------
    StorageError
        In place of an OSError; errors of this package pass unchanged.
    """
    try:
        yield
    except MetastasisError:
        raise
    except OSError as error:
        raise storage_error(error, path) from error
    except Exception as error:
        refused = _refused_by_disk(error)
        if refused is None:
            raise
        raise storage_error(refused, path) from error


def _refused_by_disk(error: Exception) -> OSError | None:
    """Return the OSError behind an error of another kind; ``None`` where there is none.

    torch's writer, told that the disk is full, goes on to its end and then complains about its place in the file.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _TAKES_NO_MORE:
            return seen
        seen = seen.__cause__ or seen.__context__
    return OSError(first_line(error)) if any(words in str(error) for words in _TORCH_CANNOT_WRITE) else None


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that appears under ``path`` whole, or not at all.

    The bytes go to a temporary file in the same folder, reach the disk, and are then renamed over ``path``. If the
    block raises, a file that was there before is untouched and nothing is left behind.

    Parameters
    ----------
    path
        File to write; its folder must exist. A symbolic link is followed, and an existing file's permissions are kept.

    Yields
    ------
    A binary file that can be written, read back and sought in.

    Raises
    ------
    StorageError
        If the folder is missing or cannot be written, or the disk is full; also for an OSError raised inside the block.
    """
    target = Path(os.path.realpath(path))
    # Short and without the target's name, which may fill the file system's limit on its own.
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    with storage_errors(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        try:
            # 0o666 less the umask, as open() would; tempfile's 0o600 would lock colleagues out of shared results.
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                partial.chmod(target.stat().st_mode & 0o777)
            os.replace(partial, target)
        finally:
            # Gone already where the rename was reached.
            with suppress(OSError):
                partial.unlink()
        _sync_folder(target.parent)


@contextmanager
def atomic_text(path: str | os.PathLike[str], *, newline: str = "\n") -> Iterator[TextIO]:
    """Open a UTF-8 text file that appears whole, or not at all; see :func:`atomic_write`.

    Parameters
    ----------
    path
        File to write.
    newline
        As ``open`` takes it; the default writes the same bytes on every system.
    """
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline=newline)
        try:
            yield text
            text.flush()
        finally:
            # Leaves the binary file open. After a failed write, detach's flush fails again and would hide the cause.
            with suppress(OSError):
                text.detach()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, on systems whose folders can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def plain_cell(text: str) -> str:
    """Return a name for a cell of a CSV file, with an apostrophe before what a spreadsheet would compute."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def text_of_cell(cell: str) -> str:
    """Return the name that :func:`plain_cell` wrote."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
