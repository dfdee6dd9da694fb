"""Write files whole or not at all, read no more than can be held, and say what to do when the disk fails.

Every room that writes goes through :func:`atomic_write` (one file) or :func:`storage_errors` (anything else on disk),
so that a full disk, a read-only medium and missing rights are reported in the same words everywhere.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from napari_metastasis.errors import MetastasisError, StorageError, brief, first_line
from napari_metastasis.partials import partial_file

__all__ = [
    "READ_ONLY",
    "atomic_text",
    "atomic_write",
    "check_new",
    "folder_gone",
    "holds_control_characters",
    "home_path",
    "plain_cell",
    "read_at_most",
    "storage_error",
    "storage_errors",
    "text_of_cell",
    "with_option",
]

#: Numbers of errors that say that nothing may be written, though what is there can be read.
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

#: Characters that no name has: line ends, NUL and the like, and halves of characters, which no file can hold.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

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


def folder_gone(folder: str | os.PathLike[str]) -> StorageError:
    """Return the error for a folder that was there when a job began to write into it, and is not any more."""
    error = StorageError(
        f"expected the folder {folder} to stay in its place while results are written into it, got it deleted, "
        "renamed or unmounted; put it back and start the same again, which goes on from what is there"
    )
    error.for_window = (
        f"The folder {folder} was deleted, renamed or unmounted while results were written into it. Put it back and "
        "scan again, which goes on from what is there."
    )
    error.errno = errno.ENOENT
    return error


def with_option(error: StorageError) -> StorageError:
    """Return an error about a folder that nobody chose, or chose long ago, with the option that chooses another one."""
    named = StorageError(f"{error} with --output")
    named.for_window = error.for_window
    named.errno = error.errno
    return named


def check_new(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse to replace a file that nobody asked to replace.

    Raises
    ------
    StorageError
        If something lies at ``path``, and it is not to be overwritten.
    """
    if not overwrite and os.path.lexists(path):
        raise StorageError(
            f"expected a new file, got {path}, which is there; choose another with --output, or use --overwrite"
        )


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
    block raises, a file that was there before is untouched and nothing is left behind. What a killed process left
    there is swept away (:mod:`napari_metastasis.partials`).

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
    with storage_errors(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        with partial_file(target) as file:
            yield file
        _sync_folder(target.parent)


@contextmanager
def atomic_text(path: str | os.PathLike[str], *, newline: str = "\n") -> Iterator[TextIO]:
    r"""Open a UTF-8 text file that appears whole, or not at all; see :func:`atomic_write`.

    Names of files need not be UTF-8. What of them is not is written as Python's escape, ``\udcff`` for the byte 255:
    plain text, which a string of JSON reads back as the same name.

    Parameters
    ----------
    path
        File to write.
    newline
        As ``open`` takes it; the default writes the same bytes on every system.
    """
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline=newline)
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


def holds_control_characters(text: str) -> bool:
    """Return whether a text holds what no name does."""
    return _CONTROL.search(text) is not None


def read_at_most(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Return what a file holds, if that is no more than a file of its kind can be.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is larger; nothing of its size is held then.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Asked for as much as there is: a buffer for the most that there may be would be as large as that.
        data = file.read(min(size, most_bytes) + 1)
        if size < len(data) <= most_bytes:
            # A pipe says nothing of its size.
            data += file.read(most_bytes + 1 - len(data))
    if len(data) > most_bytes:
        raise ValueError(f"more than {most_bytes >> 20} MiB, which is no such file")
    return data


def home_path(path: str | os.PathLike[str]) -> Path:
    """Return a path whose ``~`` or ``~name`` is written out.

    Raises
    ------
    StorageError
        If nobody of this name has a home here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise StorageError(
            f"expected a path, got {brief(str(path))}, whose user is not known here; write the whole path"
        ) from error
