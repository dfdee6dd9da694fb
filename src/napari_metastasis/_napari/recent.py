"""The slides that this user opened last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_metastasis.memory_file import change_memory, memory_path, read_memory
from napari_metastasis.slide_address import SlidePath, SlideUrl, slide_path

__all__ = ["MOST_RECENT", "recent_path", "recent_slides", "remember_slide"]

#: How many slides are listed.
MOST_RECENT = 12


def recent_path() -> Path:
    """Return where they are listed."""
    return memory_path("recent.json")


def recent_slides() -> tuple[SlidePath, ...]:
    """Return the slides that were opened last, the latest first; none where the list cannot be read."""
    return tuple(map(slide_path, _names(read_memory(recent_path()))))


def remember_slide(path: SlidePath) -> tuple[SlidePath, ...]:
    """Put a slide at the head of the list, and return the list."""
    own = str(path if isinstance(path, SlideUrl) else path.absolute())
    listed = change_memory(
        recent_path(), lambda before: [own, *(other for other in _names(before) if other != own)][:MOST_RECENT]
    )
    return tuple(map(slide_path, listed))


def _names(listed: Any) -> list[str]:
    names = listed if isinstance(listed, list) else []
    return [name for name in names if isinstance(name, str) and name][:MOST_RECENT]
