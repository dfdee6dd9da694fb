"""How the process of a command holds memory."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

#: Parameters of glibc's mallopt: when memory goes back to the system, and how many blocks it is asked for one by one.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Keep what is freed for later blocks, until the process ends.

    A network that runs on the processor frees blocks of many megabytes at every layer. glibc gives each back to the
    system, which hands it out again page by page, zeroed: up to three quarters of the time of a layer that is cheap to
    compute. Elsewhere nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
