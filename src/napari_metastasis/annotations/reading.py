"""How far a file of outlines is read: told to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import IO, TypeVar

__all__ = ["Tell", "ToldStream", "part_of", "silent", "told"]

#: Takes the share that is read, 0 to 1. It may raise, to end the reading.
Tell = Callable[[float], None]

_Item = TypeVar("_Item")
#: So often it is told: of so many items, one.
_EVERY = 32


def silent(_: float) -> None:
    """Tell nobody."""


def part_of(tell: Tell, first: float, last: float) -> Tell:
    """Return what tells how far a part of the reading is, which makes the whole go from one share to another."""
    return lambda share: tell(first + share * (last - first))


def told(items: Sequence[_Item], tell: Tell) -> Iterator[_Item]:
    """Yield items, and tell how many are done."""
    for number, item in enumerate(items):
        if number % _EVERY == 0:
            tell(number / len(items))
        yield item
    tell(1.0)


class ToldStream:
    """A file that tells how much of it was read.

    Parameters
    ----------
    stream
        Open for reading.
    size
        Its bytes.
    tell
        Takes the share of them.
    """

    def __init__(self, stream: IO[bytes], size: int, tell: Tell) -> None:
        self._stream, self._size, self._tell = stream, max(size, 1), tell
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """Return what comes next."""
        data = self._stream.read(size)
        self._done += len(data)
        self._tell(min(self._done / self._size, 1.0))
        return data
