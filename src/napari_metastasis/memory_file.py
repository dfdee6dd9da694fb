"""Small files of JSON in which the program remembers something for its user.

Such a file may be absent, damaged or unwritable: then nothing is remembered, and nothing else is harmed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text

__all__ = ["change_memory", "memory_entries", "memory_path", "read_memory"]

_Value = TypeVar("_Value")
#: Several slides are opened at once, each in a thread of its own: none may forget what another has just remembered.
_CHANGING = threading.Lock()


def memory_path(name: str) -> Path:
    """Return the file of this name in the user's own folder; unlike a cache, nothing makes it anew."""
    return Path(platformdirs.user_data_dir("napari-metastasis", appauthor=False)) / name


def read_memory(path: Path) -> Any:
    """Return what a file remembers; ``None`` where it cannot be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def memory_entries(remembered: Any) -> dict[str, Any]:
    """Return what was remembered by names; nothing where it is no object of JSON."""
    return remembered if isinstance(remembered, dict) else {}


def change_memory(path: Path, change: Callable[[Any], _Value]) -> _Value:
    """Let a file remember something else, and return that; where the disk refuses, it is forgotten.

    Parameters
    ----------
    path
        The file.
    change
        Takes what was remembered, as :func:`read_memory` returns it, and returns what is to be.
    """
    with _CHANGING:
        before = read_memory(path)
        text = json.dumps(before, indent=2)
        value = change(before)
        changed = json.dumps(value, indent=2)
        if changed != text:
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_text(path) as file:
                    file.write(f"{changed}\n")
    return value
