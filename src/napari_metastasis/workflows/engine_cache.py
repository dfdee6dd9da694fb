"""Models and engines of scans, kept for the next scan that needs the same. Importing it loads no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_metastasis.errors import ScanCancelledError
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.models import ScanModels
    from napari_metastasis.scanning import ChosenEngine

__all__ = ["EngineCache", "ReadyEngine", "await_future"]

#: How often a wait asks whether to stop.
_POLL_SECONDS = 0.05

T = TypeVar("T")

#: Everything that decides which engine is meant.
_Key = tuple[object, ...]

#: Takes the models of a scan, and returns the precision that its engine is made with; ``None`` leaves it open.
Prefer = Callable[["ScanModels"], str | None]


@dataclass(frozen=True, slots=True)
class ReadyEngine:
    """The models of a scan, and the engine that runs the detector, or what stands for it."""

    models: ScanModels
    chosen: ChosenEngine


class _Kept:
    """One engine, in the making or ready; closed once it is given up and out of use."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.future: Future[ReadyEngine]
        self.users = 0
        self.given_up = False
        #: Made to go on with one slide's stored scan: that must not decide on the precision of other slides.
        self.suits_one_scan = False

    @property
    def is_abandoned(self) -> bool:
        """Return whether nobody needs it any more: neither a scan that began, nor one to come."""
        return self.given_up and self.users == 0

    @property
    def is_usable(self) -> bool:
        if self.suits_one_scan:
            return False
        future = self.future
        return not future.done() or (not future.cancelled() and future.exception() is None)


class EngineCache:
    """Makes engines in threads of their own, and keeps the latest. Used from any thread.

    Parameters
    ----------
    load
        Returns the models of a job; by default they are loaded as the job names them.
    begin_thread
        Called in the thread that makes an engine: the window lowers its priority.
    """

    def __init__(
        self,
        load: Callable[[ScanJob], ScanModels] | None = None,
        begin_thread: Callable[[], Any] | None = None,
    ) -> None:
        self._load = load
        self._begin_thread = begin_thread
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def warm(self, job: ScanJob) -> None:
        """Make the engine of a job beforehand, unless another one is in use."""
        with self._lock:
            if self._kept is None or self._kept.users == 0:
                self._find(job, None, users=0)

    @contextmanager
    def use(
        self, job: ScanJob, should_stop: Callable[[], bool], preferred: Prefer | None = None
    ) -> Iterator[ReadyEngine]:
        """Yield the models and the engine of a job; they are made if they are not kept.

        Parameters
        ----------
        job
            Its model, passes and scan settings decide on the engine.
        should_stop
            Asked while the engine is being made.
        preferred
            Tells the precision of an engine that is made now, where the settings leave it open.

        Raises
        ------
        ScanCancelledError
            If ``should_stop`` said so.
        MetastasisError
            If a model cannot be loaded or no engine runs it.
        """
        with self._lock:
            kept = self._find(job, preferred, users=1)
        try:
            yield await_future(kept.future, should_stop)
        finally:
            with self._lock:
                kept.users -= 1
                if kept.suits_one_scan and self._kept is kept:
                    self._give_up()
                else:
                    self._retire(kept)

    def forget(self) -> None:
        """Load models anew for the next job: there is a new one, and what a job does not name may be that one."""
        self.close()

    def close(self) -> None:
        """Give up the engine; its last user closes it."""
        with self._lock:
            self._give_up()

    def __enter__(self) -> EngineCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, job: ScanJob, preferred: Prefer | None, *, users: int) -> _Kept:
        """Return the engine of a job for so many more users; it is made if it is not kept."""
        key = _key(job)
        if self._kept is not None and self._kept.key == key and self._kept.is_usable:
            self._kept.users += users
            return self._kept
        self._give_up()
        kept = self._kept = _Kept(key)
        kept.users = users
        kept.suits_one_scan = preferred is not None  # until it is known that there is nothing to go on with
        pool = ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=self._begin_thread)
        kept.future = pool.submit(self._make, job, preferred, kept)
        pool.shutdown(wait=False)
        return kept

    def _make(self, job: ScanJob, preferred: Prefer | None, kept: _Kept) -> ReadyEngine:
        # Imported in this thread: torch takes seconds to load.
        from napari_metastasis.workflows.scan.job_models import load_job_models, make_engine

        models = (load_job_models if self._load is None else self._load)(job)
        precision = None if preferred is None else preferred(models)
        kept.suits_one_scan = precision is not None
        chosen = make_engine(job, models, preferred_precision=precision, should_stop=lambda: kept.is_abandoned)
        return ReadyEngine(models, chosen)

    def _give_up(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.given_up = True
            self._retire(kept)

    @staticmethod
    def _retire(kept: _Kept) -> None:
        """Close an engine that was given up and is out of use; one that is still being made is closed once it is."""
        if kept.is_abandoned:
            kept.future.add_done_callback(_close_engine)


def await_future(future: Future[T], should_stop: Callable[[], bool]) -> T:
    """Return the result of a future, or raise ScanCancelledError once ``should_stop`` says so."""
    while not future.done():
        if should_stop():
            raise ScanCancelledError("expected to prepare the scan, but it was stopped; start it again")
        wait([future], timeout=_POLL_SECONDS)
    return future.result()


def _key(job: ScanJob) -> _Key:
    named = job.named_models
    stamps = tuple(_stamp(name) for name in (job.model, *named.values()))
    settings = job.scan
    network = settings.dense_coefficient, settings.prior, settings.precision
    machine = settings.device, settings.engine, settings.roi_px
    return job.model, *named.items(), stamps, job.needed_tasks, job.detects, *network, *machine


def _stamp(name: str) -> object:
    """Return when a file was written, and its size: it may be trained anew under its name. ``None`` for no file."""
    with suppress(OSError):
        about = Path(name).stat()
        return about.st_mtime_ns, about.st_size
    return None


def _close_engine(future: Future[ReadyEngine]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().chosen.engine.close()
