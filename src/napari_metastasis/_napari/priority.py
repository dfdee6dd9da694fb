"""The window goes first: long work beside it runs at a lower priority."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

__all__ = ["give_way", "niceness_left"]

#: On a processor that both want, a scan gets a third of the window's time. At a lower priority, other programs would
#: bring it to a standstill.
_NICENESS = 5


def give_way() -> None:
    """Lower the priority of the calling thread, and of every thread that it will start.

    Only Linux gives threads a priority of their own that a program may lower without asking. Elsewhere nothing happens.
    """
    if sys.platform == "linux":
        # Refused in some sandboxes: the work then runs like any other.
        with suppress(OSError):
            window = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), window + _NICENESS)


def niceness_left() -> int:
    """Return by how much the priority of a process that the calling thread starts is to be lowered.

    It begins with the thread's own, which may give way already: twice as low, it would hardly run beside a scan.
    """
    if sys.platform == "win32":
        return 0
    here, window = os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, os.getpid())
    return max(0, window + _NICENESS - here)
