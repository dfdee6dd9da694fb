"""Ctrl-C, a request to terminate and a terminal that closes: three ways to end a command, with one meaning."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, cast

__all__ = ["Stopped", "handled", "held_back", "let_through", "stop_signals", "stoppable", "taken_as_interrupt"]

#: What is called with a signal and where the program was.
Handler = Callable[[int, FrameType | None], None]

#: How long until a signal that came at a bad time comes again.
_WAIT_S = 0.02
#: Files of the frames between an import and the module that is imported.
_IMPORTER = "<frozen importlib"


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a command.

    Not a closing terminal's where that was said to be ignored: ``nohup`` does so.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return tuple(found)


class Stopped:
    """Handles these signals by a KeyboardInterrupt, and knows which it was.

    In the middle of an import it waits for the import's end: libraries turn an interrupt into another error there,
    print it, or abort. A second signal while it waits ends the process at once.

    Parameters
    ----------
    line
        Said on standard error where the process ends at once.

    Attributes
    ----------
    number
        The first signal that came; 0 while there was none.
    """

    def __init__(self, line: str) -> None:
        self.number = 0
        self._line = line
        self._process = os.getpid()
        self._waiting = self._again = False

    @property
    def status(self) -> int:
        """Return the exit status, as shells know it."""
        return 128 + (self.number or signal.SIGINT)

    def hear(self, number: int) -> None:
        """Take notice of a signal that is handled elsewhere."""
        self.number = self.number or number

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:
            # A process that was forked to work for this one ends with it. What it is told itself is no news.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        self.hear(number)
        again, self._again = self._again, False
        if self._waiting and not again:
            self._leave()
        self._waiting = _is_importing(frame)
        if not self._waiting:
            raise KeyboardInterrupt
        self.ask_again()

    def ask_again(self) -> None:
        """Let the signal come once more, soon."""
        timer = threading.Timer(_WAIT_S, self._send)
        timer.daemon = True
        timer.start()

    def _send(self) -> None:
        self._again = True
        if sys.platform == "win32":
            signal.raise_signal(self.number)
        else:
            # To the thread that handles it: what it waits for is then waited for no longer.
            signal.pthread_kill(cast("int", threading.main_thread().ident), self.number)

    def _leave(self) -> NoReturn:
        try:
            os.write(2, self._line.encode())
        finally:
            os._exit(self.status)


@contextmanager
def stoppable(line: str) -> Iterator[Stopped]:
    """End the block by KeyboardInterrupt at these signals; see :class:`Stopped`."""
    stopped = Stopped(line)
    hook = sys.unraisablehook

    def again(unraisable: Any) -> None:
        # Raised in a callback that can raise nothing, the interrupt would be printed and forgotten.
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and stopped.number:
            stopped.ask_again()
        else:
            hook(unraisable)

    with handled(stop_signals(), stopped):
        sys.unraisablehook = again
        try:
            yield stopped
        finally:
            sys.unraisablehook = hook


@contextmanager
def taken_as_interrupt() -> Iterator[None]:
    """Hand the other signals on as Ctrl-C, to a library that knows that one alone."""
    above = signal.getsignal(signal.SIGINT)

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        if isinstance(above, Stopped):
            above.hear(number)
        signal.raise_signal(signal.SIGINT)

    with handled(stop_signals()[1:], hand_on):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """Keep these signals waiting in the block, and in processes begun in it until :func:`let_through`."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Hear the signals that :func:`held_back` kept waiting since this process began."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())


@contextmanager
def handled(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Handle signals in the block. Elsewhere than in the main thread, which alone may, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTER):
            return True
        frame = frame.f_back
    return False
