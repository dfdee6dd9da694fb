"""What a slide is called."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["slide_name"]


def slide_name(path: Path) -> str:
    """Return a slide's name: that of its folder, in which dots are part of it, or of its file without the suffix."""
    return path.name if os.path.isdir(path) else path.stem
