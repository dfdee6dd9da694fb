"""What version 0.1 left on disk; ``tests/test_legacy.py`` says what lies where."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ["unpack_legacy"]


def unpack_legacy(folder: Path) -> Path:
    """Unpack the files into ``folder``, and return it."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "legacy" / "legacy.zip") as archive:
        archive.extractall(folder)
    return folder
