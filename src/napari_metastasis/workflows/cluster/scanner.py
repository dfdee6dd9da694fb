"""The command's side of a cluster: hands out slides and parts of them, and takes back what was found.

One errand at a time goes to each worker, so that a worker that dies costs its errand alone: dask would count a death
against every errand that waits there, too.
"""

from __future__ import annotations

import logging
import math
import queue
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from napari_metastasis import errors
from napari_metastasis.errors import ClusterError, MetastasisError, MetastasisWarning, ScanCancelledError
from napari_metastasis.settings import ClusterSettings
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.workflows.cluster.agreement import POLL_S, SchedulerLink, agree
from napari_metastasis.workflows.cluster.errands import TOPIC, Answer, Errand, Note, TooLarge
from napari_metastasis.workflows.cluster.worker import errands_at_work, put_away, run_errand
from napari_metastasis.workflows.scan.batch import (
    PARTS_OF_A_SLIDE,
    CohortWork,
    FailedSlide,
    OutputPlace,
    ScannedSlide,
    SlideProgress,
)
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["ClusterScanner"]

#: How long what workers are counted by is believed.
_COUNTED_FOR_S = 1.0
#: How long workers may take to stop: a piece of a scan, and writing what it found.
_STOP_WAIT_S = 60.0
#: More parts than this are no use: each looks for the slide's tissue again.
_MOST_PARTS = 64

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class ClusterScanner:
    """Scans slides on the workers of a dask scheduler; see :class:`~napari_metastasis.workflows.scan.SlideScanner`.

    Parameters
    ----------
    client
        A ``distributed.Client``, connected.
    settings
        From how many pixels on slides are scanned in parts, and how often one is begun again.

    Attributes
    ----------
    client
        See above.
    dashboard
        Address of the scheduler's dashboard; empty where there is none.
    """

    def __init__(self, client: Any, settings: ClusterSettings, dashboard: str = "") -> None:
        self.client = client
        self._settings = settings
        self.dashboard = dashboard

    def scan(
        self, work: CohortWork[T], progress: SlideProgress, should_stop: Callable[[], bool]
    ) -> Generator[tuple[int, ScannedSlide[T] | FailedSlide]]:
        """Scan slides and yield each with its number as it is done, once every worker is found fit for it.

        Raises
        ------
        ClusterError
            If a worker does not see the folders, or has another version of the program or other weights; if the
            scheduler is gone.
        MetastasisError
            As any scan of slides.
        """
        place = OutputPlace(work.output)
        run = _Run(self.client, self._settings, _absolute(work), progress)
        try:
            for number, found in run.results(should_stop):
                place.check()
                # As it was given: by another path it would be another slide.
                yield number, replace(found, slide=work.slides[number])
                del found
        finally:
            run.end()


def _absolute(work: CohortWork[T]) -> CohortWork[T]:
    """Return the work with absolute paths: workers run elsewhere.

    Raises
    ------
    ClusterError
        If results of a slide at an address would go to the current folder, which is another one there.
    """
    if work.output is None and any(isinstance(slide.path, SlideUrl) for slide in work.slides):
        raise ClusterError(
            "expected a folder for the results of slides at an address, got none, and workers have current folders of "
            "their own; choose one with --output"
        )
    slides = tuple(
        slide if isinstance(slide.path, SlideUrl) else replace(slide, path=slide.path.absolute())
        for slide in work.slides
    )
    output = None if work.output is None else work.output.absolute()
    return replace(work, slides=slides, output=output, job=_absolute_models(work.job))


def _absolute_models(job: ScanJob) -> ScanJob:
    passes = tuple(replace(one, model=_absolute_file(one.model)) for one in job.passes)
    return replace(job, model=_absolute_file(job.model), passes=passes)


def _absolute_file(name: str) -> str:
    return str(Path(name).absolute()) if name and Path(name).is_file() else name


class _Run:
    """One cohort on the workers."""

    def __init__(self, client: Any, settings: ClusterSettings, work: CohortWork[Any], progress: SlideProgress) -> None:
        self._client, self._link = client, SchedulerLink(client)
        self._settings = settings
        self._work = work
        self._progress = progress
        self._run = uuid.uuid4().hex
        self._todo: deque[Errand[Any]] = deque()
        self._running: dict[Any, Errand[Any]] = {}
        self._finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._slides = [_SlideProgress() for _ in work.slides]
        #: Parts of slides that are not answered yet, by the slides' numbers.
        self._parts_left: dict[int, int] = {}
        self._said: set[Note] = set()
        self._workers, self._counted = 0, -math.inf

    def results(self, should_stop: Callable[[], bool]) -> Generator[tuple[int, ScannedSlide[Any] | FailedSlide]]:
        """Yield what became of each slide, as it is done, once every worker is found fit for it."""
        terms = agree(self._link, self._work, self._run, should_stop)
        # One process has nobody to share a slide with; the workers of a scheduler come and go.
        most_px = 0 if self._settings.workers == 1 else self._settings.part_px
        self._todo.extend(
            Errand(terms, number, replace(self._work, slides=(slide,)), most_px=most_px)
            for number, slide in enumerate(self._work.slides)
        )
        self._client.subscribe_topic(TOPIC, lambda event: self._told.put(event[1]))
        while self._todo or self._running:
            if should_stop():
                raise ScanCancelledError(
                    f"expected to scan {len(self._slides)} slides, but was stopped; the same command goes on from there"
                )
            self._submit()
            try:
                future = self._finished.get(timeout=POLL_S)
            except queue.Empty:
                self._link.check()
                self._tell()
                continue
            self._tell()
            errand = self._running.pop(future, None)
            if errand is None:
                continue
            found = self._found(errand, future)
            # The worker holds what it found until then.
            future.release()
            del future
            if found is not None:
                yield errand.number, found
                del found

    def end(self) -> None:
        """Take back what is under way, and wait until workers have stored what they answered of it."""
        running, self._running = list(self._running), {}
        if not self._link.is_there:
            return
        with suppress(Exception):
            self._client.unsubscribe_topic(TOPIC)
        # What goes wrong here went wrong before, and was told.
        with suppress(Exception):
            self._client.cancel(running)
            until = time.monotonic() + _STOP_WAIT_S
            while running and time.monotonic() < until:
                busy = self._client.run(errands_at_work, self._run, on_error="ignore")
                if not any(busy.values()):
                    break
                time.sleep(POLL_S)
            self._client.run(put_away, self._run, on_error="ignore")

    def _submit(self) -> None:
        """Give an errand to every worker that has none."""
        now = time.monotonic()
        if self._todo and now - self._counted > _COUNTED_FOR_S:
            self._workers, self._counted = len(self._link.workers()), now
        while self._todo and len(self._running) < max(1, self._workers):
            errand = self._todo.popleft()
            future = self._client.submit(run_errand, errand, pure=False)
            self._running[future] = errand
            future.add_done_callback(self._finished.put)

    def _found(self, errand: Errand[Any], future: Any) -> ScannedSlide[Any] | FailedSlide | None:
        """Return what became of a slide; ``None`` while it is under way."""
        from distributed.scheduler import KilledWorker

        try:
            answer: Answer[Any] = future.result()
        except KilledWorker as error:
            # Dask has begun it again as often as it may.
            self._give_up(errand.number)
            return _killed(errand, error.allowed_failures + 1)
        except MetastasisError:
            raise
        except (CancelledError, OSError, TimeoutError):
            # What a worker found could not be fetched.
            self._link.refuse()
        for note in answer.notes:
            self._say(note)
        number, found = errand.number, answer.found
        if isinstance(found, TooLarge):
            count = min(_MOST_PARTS, max(2, math.ceil(found.model_px / self._settings.part_px)))
            self._parts_left[number] = count
            self._slides[number].total_px = found.model_px
            self._todo.extendleft(reversed(errand.parts(count)))
            return None
        if isinstance(found, FailedSlide):
            if errand.failures < self._settings.retries:
                # Behind all others: what was in its way may be gone by then.
                self._todo.append(replace(errand, failures=errand.failures + 1))
                return None
            self._give_up(number)
            return found
        if found is None:
            self._parts_left[number] -= 1
            if not self._parts_left[number]:
                self._todo.appendleft(errand.whole())
        return found

    def _give_up(self, number: int) -> None:
        """Take back the other parts of a slide."""
        self._todo = deque(errand for errand in self._todo if errand.number != number)
        futures = [future for future, errand in self._running.items() if errand.number == number]
        for future in futures:
            del self._running[future]
        self._client.cancel(futures)

    def _say(self, note: Note) -> None:
        """Say what a worker had to say, once of all workers and slides."""
        if note in self._said:
            return
        self._said.add(note)
        kind = getattr(errors, note.kind, MetastasisWarning) if note.kind else None
        if kind is None:
            _LOG.warning("%s", note.text)
        else:
            warnings.warn(note.text, kind, stacklevel=2)

    def _tell(self) -> None:
        """Tell the progress that workers told."""
        changed = set()
        while not self._told.empty():
            run, number, part, done, total = self._told.get()
            if run == self._run:
                self._slides[number].told(part, done, total)
                changed.add(number)
        for number in changed:
            self._progress(number, self._slides[number].parts)


def _killed(errand: Errand[Any], deaths: int) -> FailedSlide:
    """Return the failure of a slide at which one worker after the other died."""
    (slide,) = errand.work.slides
    return FailedSlide(
        slide,
        f"expected a worker that lives until the slide is scanned, got {deaths} that died at it; see whether their "
        "memory suffices, or choose a smaller --roi-px",
    )


class _SlideProgress:
    """How far a slide is, on whatever workers."""

    def __init__(self) -> None:
        #: Of a slide in parts, its model pixels.
        self.total_px = 0
        #: By the number of a part, or -1 for the slide itself: how much was left when it was first begun, and how much
        #: of that is done.
        self._pieces: dict[int, tuple[int, int]] = {}

    def told(self, part: int, done: int, total: int) -> None:
        """Take notice of how far a part is, by its number; -1 stands for the slide itself.

        One that is begun again after its worker died has less left.
        """
        first, before = self._pieces.get(part, (total, 0))
        self._pieces[part] = first, max(before, first - total + done)

    @property
    def parts(self) -> int:
        """Return how much is done, in parts of a slide; all of it only once it is finished."""
        total, done = self._pieces.get(-1, (0, 0))
        if self.total_px:
            total, done = self.total_px, sum(of_part for part, (_, of_part) in self._pieces.items() if part >= 0)
        return min(PARTS_OF_A_SLIDE - 1, PARTS_OF_A_SLIDE * done // total) if total else 0
