"""What a slide is called, and the folder that belongs to it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["pixels_beside", "slide_name"]


def slide_name(path: Path) -> str:
    """Return a slide's name: that of its folder, in which dots are part of it, or of its file without the suffix."""
    return path.name if os.path.isdir(path) else path.stem


def pixels_beside(path: Path) -> Path:
    """Return the folder that holds the pixels of a VSI file, which itself holds a small picture of them."""
    return path.with_name(f"_{path.stem}_")
