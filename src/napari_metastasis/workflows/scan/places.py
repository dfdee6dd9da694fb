"""Remembers, for each user, where results lie that are not beside their slides, so that they are found again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.memory_file import change_memory, memory_entries, memory_path, read_memory

if TYPE_CHECKING:
    from napari_metastasis.slides import Slide

__all__ = ["places_path", "remember_place", "remembered_places"]

#: Slides that are remembered, the latest last, and folders of each.
_MOST_SLIDES, _MOST_FOLDERS = 2000, 8


def places_path() -> Path:
    """Return the file that remembers it; it may be deleted at any time."""
    return memory_path("result-folders.json")


def remember_place(slide: Slide, root: Path) -> None:
    """Remember a result folder of a slide; where the disk refuses, it is forgotten.

    Parameters
    ----------
    slide
        The open slide.
    root
        The result folder that was chosen for it.
    """
    chosen, own = str(root.absolute()), slide.fingerprint

    def latest(before: Any) -> dict[str, list[str]]:
        known = _folders(before)
        folders = [chosen, *(one for one in known.get(own, []) if one != chosen)][:_MOST_FOLDERS]
        if known.get(own) == folders:
            return known
        known.pop(own, None)
        # The latest last: dictionaries keep their order, in JSON too.
        return dict([*known.items(), (own, folders)][-_MOST_SLIDES:])

    change_memory(places_path(), latest)


def remembered_places(slide: Slide) -> tuple[Path, ...]:
    """Return the result folders that were chosen for a slide, the latest first; they may be gone."""
    return tuple(map(Path, _folders(read_memory(places_path())).get(slide.fingerprint, [])))


def _folders(remembered: Any) -> dict[str, list[str]]:
    """Return the folders of each slide, by its fingerprint; what is damaged is left out."""
    return {
        slide: [folder for folder in folders if isinstance(folder, str)]
        for slide, folders in memory_entries(remembered).items()
        if isinstance(folders, list)
    }
