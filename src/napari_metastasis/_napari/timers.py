"""Timers that run out once each time that they are started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

__all__ = ["single_shot"]


def single_shot(parent: QObject, interval_ms: int, act: Callable[[], Any]) -> QTimer:
    """Return a timer that calls once, so long after it was last started; it is not started here."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(act)
    return timer
