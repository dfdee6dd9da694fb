"""What runs in a worker process: one errand at a time, with models that are loaded once, and nothing for a terminal."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from napari_metastasis import __version__
from napari_metastasis.errors import ClusterError, MetastasisWarning, ScanCancelledError, StoreInUseError
from napari_metastasis.scanning import never
from napari_metastasis.workflows.cluster.errands import TOPIC, Answer, Errand, Note, Seen, Terms, TooLarge
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.batch import CohortWork, FailedSlide, ScannedSlide, scan_one, slide_faults
from napari_metastasis.workflows.scan.parts import part_of
from napari_metastasis.workflows.scan.runner import scan_part
from napari_metastasis.workflows.scan_job import AtHand

__all__ = ["errands_at_work", "look", "put_away", "run_errand"]

#: Under which a worker keeps its bench.
_BENCH = "napari_metastasis"
#: Seconds between two words about progress.
_TELL_EVERY_S = 0.5
#: How long a slide that somebody else writes is waited for: a server of network disks takes the lock of a machine that
#: is gone back after its lease, which is 90 s by default.
_LOCK_WAIT_S = 120.0
#: Until it is tried again.
_LOCK_PAUSE_S = 1.0

T = TypeVar("T")


class _Bench:
    """What a worker process keeps from errand to errand."""

    def __init__(self) -> None:
        self.engines = EngineCache()
        #: Runs whose terms it fulfils.
        self.agreed: set[str] = set()
        #: Errands that are being scanned, by their run.
        self.at_work: Counter[str] = Counter()
        self.guard = threading.Lock()

    @contextmanager
    def working(self, run: str) -> Iterator[None]:
        with self.guard:
            self.at_work[run] += 1
        try:
            yield
        finally:
            with self.guard:
                self.at_work[run] -= 1


def _bench(worker: Any) -> _Bench:
    bench: _Bench = vars(worker).setdefault(_BENCH, _Bench())
    return bench


def look(terms: Terms, work: CohortWork[Any]) -> Seen:
    """Return what this worker has and sees; its models are loaded and its engine is made.

    Raises
    ------
    MetastasisError
        If a model or an engine cannot be had here.
    """
    from distributed import get_worker

    bench = _bench(get_worker())
    with _noted():
        seen = _seen(bench, terms, work)
    if not seen.refusal(terms, ""):
        bench.agreed.add(terms.run)
    return seen


def _seen(bench: _Bench, terms: Terms, work: CohortWork[Any]) -> Seen:
    missing = tuple(path for path in terms.paths if not os.path.exists(path))
    if missing or __version__ != terms.version:
        # Its models are not even looked for.
        return Seen(__version__, {}, missing, "", platform.node())
    with bench.engines.use(work.job, never) as ready:
        weights = weights_of(ready.models)
        return Seen(__version__, weights, (), ready.chosen.engine.precision, platform.node())


def weights_of(models: Any) -> dict[str, str]:
    """Return the SHA-256 of every model's weights, by its task."""
    found = {models.detector.task: models.detector.weights_sha256}
    return found | {task: model.weights_sha256 for task, model in models.others.items()}


def errands_at_work(run: str, dask_worker: Any) -> int:
    """Return how many errands of a run a worker is scanning; dask hands in the worker by this name."""
    return _bench(dask_worker).at_work[run]


def put_away(run: str, dask_worker: Any) -> None:
    """Give back the memory of models and engines, which nobody needs once a run has ended."""
    bench = _bench(dask_worker)
    bench.agreed.discard(run)
    if not bench.agreed:
        bench.engines.close()


def run_errand(errand: Errand[T]) -> Answer[T]:
    """Scan a slide or a part of one.

    It stops soon after the command has ended, or takes it back; what was answered until then is stored.

    Raises
    ------
    ClusterError
        If this worker, which came later than all others, does not fulfil the terms.
    StorageError
        If the disk refuses, which is no slide's own fault.
    """
    from distributed import get_worker

    worker = get_worker()
    bench, key = _bench(worker), worker.get_current_task()

    def should_stop() -> bool:
        return _is_taken_back(worker, key)

    with bench.working(errand.terms.run), _noted() as notes:
        if errand.terms.run not in bench.agreed:
            if refusal := _seen(bench, errand.terms, errand.work).refusal(errand.terms, worker.address):
                raise ClusterError(refusal)
            bench.agreed.add(errand.terms.run)
        found = _found(errand, AtHand(engines=bench.engines), _teller(worker, errand), should_stop)
    return Answer(found, tuple(notes))


def _is_taken_back(worker: Any, key: str) -> bool:
    """Return whether nobody waits for a task any more, or its worker is about to end."""
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled" or worker.status.name not in ("running", "paused")


def _teller(worker: Any, errand: Errand[Any]) -> Callable[[int, int], None]:
    """Return a function that tells the command how far an errand is, and gives up a slide that is too large for one."""
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if errand.most_px and total > errand.most_px:
            raise _GivenUpError(total)
        now = time.monotonic()
        if now - last >= _TELL_EVERY_S or done >= total:
            last = now
            worker.log_event(TOPIC, [errand.terms.run, *errand.told_as, int(done), int(total)])

    return tell


class _GivenUpError(ScanCancelledError):
    """A slide that is too large for one worker, before its first piece."""

    def __init__(self, model_px: int) -> None:
        super().__init__(f"{model_px} model pixels")
        self.model_px = model_px


def _found(
    errand: Errand[T], held: AtHand, progress: Callable[[int, int], None], should_stop: Callable[[], bool]
) -> ScannedSlide[T] | FailedSlide | TooLarge | None:
    (slide,) = errand.work.slides
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            if errand.part is None:
                return scan_one(errand.work, slide, held, progress=progress, should_stop=should_stop)
            faults: list[str] = []
            with slide_faults(errand.work, faults.append):
                job = errand.work.job_of(slide)
                assert job.output is not None
                part = part_of(job, job.output, errand.part)
                scan_part(part, held, progress=progress, should_stop=should_stop)
            return FailedSlide(slide, faults[0]) if faults else None
        except _GivenUpError as given_up:
            return TooLarge(given_up.model_px)
        except StoreInUseError as error:
            # A worker that is taken for dead may still be at it, and ends soon.
            if time.monotonic() > until:
                return FailedSlide(slide, str(error))
            if should_stop():
                raise ScanCancelledError("expected to scan a slide, but was stopped; start it again") from error
            time.sleep(_LOCK_PAUSE_S)


@contextmanager
def _noted() -> Iterator[list[Note]]:
    """Collect what would be said of this program, each line once; other libraries' warnings are nobody's to act on.

    A worker scans one errand at a time: what is warned of meanwhile belongs to that.
    """
    notes: list[Note] = []
    log, lines = logging.getLogger(__package__.partition(".")[0]), _Lines(notes)
    log.addHandler(lines)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MetastasisWarning)
        try:
            yield notes
        finally:
            log.removeHandler(lines)
            notes += dict.fromkeys(Note(one.category.__name__, str(one.message)) for one in caught)


class _Lines(logging.Handler):
    """Takes log lines as notes."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(Note("", record.getMessage()))
