"""How far a file is read beside the window, and that it need not be read to its end. No Qt."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ReadingProgress", "StoppedReadingError"]


class StoppedReadingError(Exception):
    """Nobody waits for what is being read any more."""


class ReadingProgress:
    """Is told by the thread that reads, and looked at by the window.

    Attributes
    ----------
    share
        What is read, 0 to 1.
    """

    def __init__(self) -> None:
        self.share = 0.0

    def tell(self, should_stop: Callable[[], bool]) -> Callable[[float], None]:
        """Return what takes the share that is read; it raises :class:`StoppedReadingError` once reading has to end."""

        def take(share: float) -> None:
            self.share = share
            if should_stop():
                raise StoppedReadingError

        return take

    def text(self, what: str) -> str:
        """Return how far it is: "Reading corrections… 45 %"."""
        return f"{what}… {self.share * 100:.0f} %" if self.share else f"{what}…"
