"""Folders that are written into for hours: one that is taken away meanwhile must not come to life again, half empty."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_metastasis.storage import folder_gone

__all__ = ["require_place", "sweep_chunks", "writing_in_place"]

#: How Zarr calls a chunk that it has not finished.
_UNFINISHED = re.compile(r".*\.[0-9a-f]{32}\.partial")


def require_place(store: Path, is_there: Callable[[], bool]) -> None:
    """Raise a StorageError about the folder around a store where that is gone."""
    if not is_there():
        raise folder_gone(store.parent)


@contextmanager
def writing_in_place(store: Path, is_there: Callable[[], bool]) -> Iterator[None]:
    """Write into a Zarr folder only where it lies as it was opened. Zarr itself makes every folder that it misses.

    Parameters
    ----------
    store
        The Zarr folder.
    is_there
        Says whether it is the one that was opened.

    Raises
    ------
    StorageError
        If it is gone, or goes in the meantime; what was made anew in its place is removed.
    """
    require_place(store, is_there)
    try:
        yield
    except OSError:
        _remove_new(store, is_there)
        raise
    _remove_new(store, is_there)


def sweep_chunks(store: Path) -> None:
    """Delete the chunks that a killed process did not finish. Nobody else may be writing."""
    with suppress(OSError):
        for path in store.rglob("*.partial"):
            if _UNFINISHED.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()


def _remove_new(store: Path, is_there: Callable[[], bool]) -> None:
    """Remove what writing made in the place of a store that was taken away, and raise the error for it."""
    if is_there():
        return
    # With this file it is a store of somebody else.
    if not (store / "zarr.json").exists():
        shutil.rmtree(store, ignore_errors=True)
        with suppress(OSError):
            store.parent.rmdir()
    raise folder_gone(store.parent)
