"""The command line: ``napari-metastasis``."""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit.

    Parameters
    ----------
    arguments
        The command line; by default this process's own. Then even a fault of the program ends in one line.

    Raises
    ------
    SystemExit
        With status 0: done, 1: failed, 2: wrong usage, 130: stopped by Ctrl-C, 143 and 129: asked to end, or by a
        terminal that closed.
    """
    try:
        before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        before = {}  # not the main thread, which alone hears signals
    try:
        # Within what is guarded, and nothing before it: to load the commands takes half a second.
        from napari_metastasis.cli.app import run

        raise SystemExit(run(arguments))
    finally:
        # A process of its own is left to Python's own end, which an interrupt would spoil.
        for number, handler in before.items() if arguments is not None else ():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing was begun, or all is done."""
    del frame
    try:
        os.write(2, b"napari-metastasis: stopped\n")
    finally:
        os._exit(128 + number)
