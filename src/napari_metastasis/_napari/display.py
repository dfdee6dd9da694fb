"""Whether a window can open here. Imports neither napari nor Qt."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["can_open"]

#: Runs in a process of its own: Qt aborts the process that finds no screen.
_TRY = "from qtpy.QtWidgets import QApplication; QApplication([])"
_LONG_SECONDS = 60.0


def can_open() -> bool:
    """Return whether Qt finds a screen; where there may be none, another process tries."""
    if sys.platform in {"win32", "darwin"}:
        return True
    if os.environ.get("QT_QPA_PLATFORM"):
        # A platform that was named on purpose, such as "offscreen".
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        asked = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, timeout=_LONG_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
