"""Choose how many threads read a slide."""

from __future__ import annotations

import os

from napari_metastasis.settings import MOST_READING_THREADS, SlideSettings

__all__ = ["reading_threads"]


def reading_threads(asked: int, *, beside_network: bool) -> int:
    """Return the threads that read and decode a slide.

    Parameters
    ----------
    asked
        As set; 0 leaves the choice.
    beside_network
        Whether the network runs on the processor too. It then uses every core, and more readers would slow it. A GPU
        answers faster than two threads decode.
    """
    few = SlideSettings().threads
    if asked:
        return asked
    return few if beside_network else max(few, min(_cores(), MOST_READING_THREADS))


def _cores() -> int:
    """Return the cores that this process may use; a cluster's queue often gives it a part of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
