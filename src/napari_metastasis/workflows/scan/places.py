"""Remembers, for each user, where results lie that are not beside their slides, so that they are found again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from napari_metastasis.errors import StorageError
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text

if TYPE_CHECKING:
    from napari_metastasis.slides import Slide

__all__ = ["places_path", "remember_place", "remembered_places"]

#: Slides that are remembered, the latest last, and folders of each.
_MOST_SLIDES, _MOST_FOLDERS = 2000, 8


def places_path() -> Path:
    """Return the file that remembers it, in the user's own folder; it may be deleted at any time."""
    return Path(platformdirs.user_data_dir("napari-metastasis", appauthor=False)) / "result-folders.json"


def remember_place(slide: Slide, root: Path) -> None:
    """Remember a result folder of a slide; where the disk refuses, it is forgotten.

    Parameters
    ----------
    slide
        The open slide.
    root
        The result folder that was chosen for it.
    """
    chosen, known = str(root.absolute()), _read()
    before = known.pop(slide.fingerprint, [])
    folders = [chosen, *(one for one in before if one != chosen)][:_MOST_FOLDERS]
    if folders == before:
        return
    # The latest last: dictionaries keep their order, in JSON too.
    kept = dict([*known.items(), (slide.fingerprint, folders)][-_MOST_SLIDES:])
    path = places_path()
    with suppress(StorageError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_text(path) as file:
            json.dump(kept, file, indent=1)
            file.write("\n")


def remembered_places(slide: Slide) -> tuple[Path, ...]:
    """Return the result folders that were chosen for a slide, the latest first; they may be gone."""
    return tuple(map(Path, _read().get(slide.fingerprint, [])))


def _read() -> dict[str, list[str]]:
    """Return the folders of each slide, by its fingerprint; nothing where the file is damaged or missing."""
    try:
        stored = read_json(places_path())
        return {
            str(slide): [str(folder) for folder in folders if isinstance(folder, str)]
            for slide, folders in stored.items()
            if isinstance(folders, list)
        }
    except (OSError, ValueError, AttributeError):
        return {}
