"""The slides that this user opened last, in a small file of their own."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import platformdirs

from napari_metastasis.errors import StorageError
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text

__all__ = ["recent_path", "recent_slides", "remember_slide"]

_MOST = 12


def recent_path() -> Path:
    """Return where they are listed."""
    return Path(platformdirs.user_data_dir("napari-metastasis", appauthor=False)) / "recent.json"


def recent_slides() -> tuple[Path, ...]:
    """Return the slides that were opened last, the latest first; none where the list cannot be read."""
    try:
        listed = read_json(recent_path())
    except (OSError, ValueError):
        return ()
    names = listed if isinstance(listed, list) else []
    return tuple(Path(name) for name in names if isinstance(name, str) and name)[:_MOST]


def remember_slide(path: Path) -> tuple[Path, ...]:
    """Put a slide at the head of the list, and return the list. A list that cannot be written harms nothing."""
    own = path.absolute()
    listed = (own, *(other for other in recent_slides() if other != own))[:_MOST]
    with suppress(OSError, StorageError):
        recent_path().parent.mkdir(parents=True, exist_ok=True)
        with atomic_text(recent_path()) as file:
            json.dump([str(one) for one in listed], file, indent=2)
    return listed
