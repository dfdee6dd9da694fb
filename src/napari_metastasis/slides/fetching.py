"""Let no two threads fetch the same thing at once: over a network, fetching costs more than waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Fetching"]

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Fetching(Generic[_Key, _Value]):
    """Hands out what is held, fetches what nobody fetches yet, and waits for what others fetch."""

    def __init__(self) -> None:
        self._under_way: dict[_Key, Future[_Value]] = {}
        self._lock = threading.Lock()

    def get(
        self,
        keys: Sequence[_Key],
        held: Callable[[_Key], _Value | None],
        fetch: Callable[[list[_Key]], Mapping[_Key, _Value]],
    ) -> dict[_Key, _Value]:
        """Return the values of keys.

        Parameters
        ----------
        keys
            What is wanted, each once.
        held
            Returns a value that need not be fetched.
        fetch
            Returns all of the values that it is asked for, and lets ``held`` know them before it returns. What it
            raises is raised for everybody who waits for it, too.
        """
        found: dict[_Key, _Value] = {}
        own: dict[_Key, Future[_Value]] = {}
        others: dict[_Key, Future[_Value]] = {}
        with self._lock:
            for key in keys:
                value = held(key)
                if value is not None:
                    found[key] = value
                elif key in self._under_way:
                    others[key] = self._under_way[key]
                else:
                    own[key] = self._under_way[key] = Future()
        if own:
            found |= self._fetched(own, fetch)
        return found | {key: waited.result() for key, waited in others.items()}

    def _fetched(
        self, own: Mapping[_Key, Future[_Value]], fetch: Callable[[list[_Key]], Mapping[_Key, _Value]]
    ) -> Mapping[_Key, _Value]:
        try:
            values = fetch(list(own))
        except BaseException as error:
            self._end(own)
            for future in own.values():
                future.set_exception(error)
            raise
        self._end(own)
        for key, future in own.items():
            future.set_result(values[key])
        return values

    def _end(self, own: Mapping[_Key, Future[_Value]]) -> None:
        with self._lock:
            for key in own:
                del self._under_way[key]
