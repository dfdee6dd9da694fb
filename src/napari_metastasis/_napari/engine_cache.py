"""Keeps the network of the latest scan ready for the next one: loading and choosing cost more than a first answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_metastasis._napari.priority import give_way
from napari_metastasis.errors import ScanCancelledError
from napari_metastasis.settings import ScanSettings

if TYPE_CHECKING:
    from napari_metastasis.models import Model, Refiner
    from napari_metastasis.scanning import ChosenEngine

__all__ = ["EngineCache", "ReadyEngine", "await_future"]

#: How long a wait lasts before it is asked again whether to stop.
_POLL_SECONDS = 0.05

T = TypeVar("T")

#: Everything that decides which engine is meant.
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """A model, the refiner that goes with it if there is one, and the engine that runs both's encoder."""

    model: Model
    refiner: Refiner | None
    chosen: ChosenEngine


class _Kept:
    """One engine, in the making or ready; it is closed once it is given up and nobody uses it."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.future: Future[ReadyEngine]
        self.users = 0
        self.given_up = threading.Event()

    @property
    def is_usable(self) -> bool:
        future = self.future
        return not future.done() or (not future.cancelled() and future.exception() is None)


class EngineCache:
    """Makes engines beside the window and keeps the latest. No Qt; used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def warm(self, model: str, settings: ScanSettings) -> None:
        """Make the engine for a model and settings beforehand, unless another one is in use."""
        with self._lock:
            if self._kept is None or self._kept.users == 0:
                self._find(model, settings)

    @contextmanager
    def use(self, model: str, settings: ScanSettings, should_stop: Callable[[], bool]) -> Iterator[ReadyEngine]:
        """Hand out the engine for a model and settings while the block runs; it is made where it is not there yet.

        Raises
        ------
        ScanCancelledError
            If ``should_stop`` said so.
        MetastasisError
            If the model cannot be loaded or no engine runs it.
        """
        with self._lock:
            kept = self._find(model, settings)
            kept.users += 1
        try:
            yield await_future(kept.future, should_stop)
        finally:
            with self._lock:
                kept.users -= 1
                self._retire(kept)

    def close(self) -> None:
        """Give up everything; what is in use is closed by its last user."""
        with self._lock:
            self._give_up()

    def _find(self, model: str, settings: ScanSettings) -> _Kept:
        key = _key(model, settings)
        if self._kept is not None and self._kept.key == key and self._kept.is_usable:
            return self._kept
        self._give_up()
        kept = self._kept = _Kept(key)
        pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=give_way)
        kept.future = pool.submit(_make, model, settings, kept.given_up.is_set)
        pool.shutdown(wait=False)
        return kept

    def _give_up(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.given_up.set()
            self._retire(kept)

    @staticmethod
    def _retire(kept: _Kept) -> None:
        """Close an engine that was given up and that nobody uses; where it is still being made, once it is made."""
        if kept.given_up.is_set() and kept.users == 0:
            kept.future.add_done_callback(_close_engine)


def await_future(future: Future[T], should_stop: Callable[[], bool]) -> T:
    """Return what a future brings, or raise ScanCancelledError as soon as ``should_stop`` says so."""
    while not future.done():
        if should_stop():
            raise ScanCancelledError("expected to prepare the scan, but it was stopped; start it again")
        wait([future], timeout=_POLL_SECONDS)
    return future.result()


def _key(model: str, settings: ScanSettings) -> _Key:
    # A file may be trained anew under the same name.
    stamp = None
    with suppress(OSError):
        about = Path(model).stat()
        stamp = about.st_mtime_ns, about.st_size
    chosen = settings.dense_coefficient, settings.device, settings.engine, settings.precision, settings.roi_px
    return model, stamp, *chosen


def _make(model: str, settings: ScanSettings, should_stop: Callable[[], bool]) -> ReadyEngine:
    # Imported here, beside the window: torch takes seconds to load.
    from napari_metastasis.models import load_with_refiner
    from napari_metastasis.scanning import choose_engine

    both = load_with_refiner(model)
    # Features cost next to nothing: the same engine scans with and without refining.
    chosen = choose_engine(both.model, settings, refiner=both.refiner, should_stop=should_stop)
    return ReadyEngine(both.model, both.refiner, chosen)


def _close_engine(future: Future[ReadyEngine]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().chosen.engine.close()
