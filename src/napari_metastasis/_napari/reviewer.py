"""Who looks at the slides: remembered for each user of the machine."""

from __future__ import annotations

import getpass
from pathlib import Path

from napari_metastasis.memory_file import change_memory, memory_entries, memory_path, read_memory

__all__ = ["default_reviewer", "known_reviewer", "remember_reviewer", "reviewer_path"]

_NAME = "name"
#: Characters of a name.
_LONGEST = 100


def reviewer_path() -> Path:
    """Return where the name is remembered."""
    return memory_path("reviewer.json")


def default_reviewer() -> str:
    """Return the name under which the user is logged in; empty where the system does not say."""
    try:
        return _plain(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return ""


def known_reviewer() -> str:
    """Return the name that was entered last, or else that of the login."""
    name = memory_entries(read_memory(reviewer_path())).get(_NAME)
    return _plain(name) if isinstance(name, str) and _plain(name) else default_reviewer()


def remember_reviewer(name: str) -> str:
    """Remember a name, and return it as it is remembered: in one line."""
    plain = _plain(name)
    change_memory(reviewer_path(), lambda before: {**memory_entries(before), _NAME: plain})
    return plain


def _plain(name: str) -> str:
    return "".join(each for each in " ".join(name.split()) if each.isprintable())[:_LONGEST].strip()
