"""Scans the slides of a cohort, on this machine or on whatever else scans slides, and hands on each as it is done."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import CohortError, ScanCancelledError, StorageError, one_of_many
from napari_metastasis.scanning import never
from napari_metastasis.slide_address import results_place
from napari_metastasis.storage import READ_ONLY, folder_gone
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.job_models import settle_job
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan.runner import scan_slide
from napari_metastasis.workflows.scan_job import AtHand, ScanJob

__all__ = [
    "PARTS_OF_A_SLIDE",
    "CohortWork",
    "FailedSlide",
    "OutputPlace",
    "ProgressBar",
    "ScannedSlide",
    "SlideProgress",
    "SlideScanner",
    "check_outputs",
    "cohort_output",
    "in_parts",
    "scan_cohort",
    "scan_each",
    "scan_one",
    "slide_faults",
]

#: Steps of a cohort's progress in one slide, whose pixels are known only once its tissue was found.
PARTS_OF_A_SLIDE = 1000

#: Opens a progress bar: takes its title, yields a function of (done, total) in parts of slides.
ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
#: Told the number of a slide and how far it is, in parts of it.
SlideProgress = Callable[[int, int], None]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScannedSlide(Generic[T]):
    """A slide of a cohort, and what was made of its scan."""

    slide: CohortSlide
    result: T


@dataclass(frozen=True, slots=True)
class FailedSlide:
    """A slide that could not be scanned, and why, in one line."""

    slide: CohortSlide
    reason: str


@dataclass(frozen=True, slots=True)
class CohortWork(Generic[T]):
    """The scans of a cohort, as one value. Picklable where ``then`` is.

    Attributes
    ----------
    slides
        What to scan; no two share their results.
    job
        How they are scanned; its slide, region and output are not used.
    output
        Folder that each slide gets its result folder in; ``None`` for a result folder beside each slide.
    then
        What is made of each scan, where it was made.
    """

    slides: tuple[CohortSlide, ...]
    job: ScanJob
    output: Path | None
    then: Callable[[ScanResult], T]

    def job_of(self, slide: CohortSlide) -> ScanJob:
        """Return the scan of one of the slides."""
        own = cohort_output(self.output, slide)
        return self.job.on(slide.path, mpp=slide.mpp, swap_red_blue=slide.swap_red_blue, output=own)


class SlideScanner(Protocol):
    """What scans slides: this process, or several processes and machines."""

    def scan(
        self, work: CohortWork[T], progress: SlideProgress, should_stop: Callable[[], bool]
    ) -> Generator[tuple[int, ScannedSlide[T] | FailedSlide]]:
        """Scan slides and yield each with its number as it is done, whichever that is.

        In the order of the cohort, a slide that takes long would hold back all behind it, and what was found on them
        would have to be kept meanwhile.

        Raises
        ------
        MetastasisError
            As :func:`scan_cohort` does.
        """
        ...


def cohort_output(folder: Path | None, slide: CohortSlide) -> Path:
    """Return where the results of one slide lie: in a cohort's folder, or without one where the slide's own go."""
    return (results_place(slide.path) if folder is None else folder) / f"{slide.name}.metastasis"


def check_outputs(slides: Sequence[CohortSlide], output: Path | None) -> None:
    """Refuse slides that would share their results, because they share a name.

    Raises
    ------
    CohortError
        If two do.
    """
    twice = [path for path, count in Counter(cohort_output(output, slide) for slide in slides).items() if count > 1]
    if twice:
        shared = [slide for slide in slides if cohort_output(output, slide) == twice[0]]
        raise CohortError(
            f"expected slides of different names, got {shared[0].name} twice ({shared[0].path} and {shared[1].path}); "
            "rename one of them, or scan them one after the other, each into a folder of its own"
        )


def in_parts(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Convert progress in whole slides to the bar's unit, parts of a slide."""
    return lambda done, total: progress(done * PARTS_OF_A_SLIDE, total * PARTS_OF_A_SLIDE)


def scan_cohort(
    slides: Sequence[CohortSlide],
    job: ScanJob,
    *,
    output: Path | None,
    engines: EngineCache | None = None,
    scanner: SlideScanner | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Generator[ScannedSlide[ScanResult] | FailedSlide]:
    """Scan slides and yield each with its maps as it is done, so that few heatmaps are held at a time.

    See :func:`scan_each`.
    """
    return scan_each(
        slides, job, _itself,
        output=output, engines=engines, scanner=scanner, progress=progress, should_stop=should_stop,
    )  # fmt: skip


def _itself(result: ScanResult) -> ScanResult:
    return result


def scan_each(
    slides: Sequence[CohortSlide],
    job: ScanJob,
    then: Callable[[ScanResult], T],
    *,
    output: Path | None,
    engines: EngineCache | None = None,
    scanner: SlideScanner | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Generator[ScannedSlide[T] | FailedSlide]:
    """Scan slides, make something of each where it was scanned, and yield that as it is done.

    A slide that was scanned before with the same settings is not scanned again; one that was begun goes on. One that
    cannot be scanned is yielded with its reason, and harms no other. Who needs the order of the cohort restores it:
    several machines do not keep it.

    Parameters
    ----------
    slides
        What to scan.
    job
        How they are scanned; its slide, region and output are not used.
    then
        What is made of each scan; of several machines, a function that can be pickled.
    output
        Folder that each slide gets its result folder in; ``None`` for a result folder beside each slide.
    engines
        Models and engines of earlier scans in this process, if there are any.
    scanner
        What scans; by default this process, one slide after the other.
    progress
        Called with (done, total) in parts of slides, :data:`PARTS_OF_A_SLIDE` each.
    should_stop
        Asked several times a second.

    Raises
    ------
    CohortError
        If two slides would share their results, because they share a name.
    ScanCancelledError
        If ``should_stop`` said so; what was answered until then is stored.
    StorageError
        If the disk refuses, or the folder is taken away in the meantime: that is no slide's own fault. Where results
        lie beside the slides, a folder that may not be written is that of its slides.
    ClusterError
        If the other machines cannot be had, or are gone.
    """
    check_outputs(slides, output)
    work = CohortWork(tuple(slides), settle_job(job), output, then)
    done = [0] * len(slides)

    def report(number: int, parts: int) -> None:
        done[number] = parts
        if progress is not None:
            progress(sum(done), len(slides) * PARTS_OF_A_SLIDE)

    scans = (_ThisProcess(engines) if scanner is None else scanner).scan(work, report, should_stop)
    with closing(scans):
        for number, entry in scans:
            report(number, PARTS_OF_A_SLIDE)
            yield entry
            # Its heatmap is not held while the next slide is scanned.
            del entry


class OutputPlace:
    """The folder of all results: once it was there, it must not come to life again when it is taken away."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._was_there = False
        self.check()

    def check(self) -> None:
        """Refuse to go on where the folder is gone.

        Raises
        ------
        StorageError
            If it was deleted, renamed or unmounted.
        """
        if self._folder is None:
            return
        is_there = os.path.isdir(self._folder)
        if self._was_there and not is_there:
            raise folder_gone(self._folder)
        self._was_there = is_there


class _ThisProcess:
    """Scans slides one after the other."""

    def __init__(self, engines: EngineCache | None) -> None:
        self._engines = engines

    def scan(
        self, work: CohortWork[T], progress: SlideProgress, should_stop: Callable[[], bool]
    ) -> Generator[tuple[int, ScannedSlide[T] | FailedSlide]]:
        with ExitStack() as opened:
            engines = opened.enter_context(EngineCache()) if self._engines is None else self._engines
            # Before any slide: a model or an engine that cannot be had is no slide's fault.
            opened.enter_context(engines.use(work.job, should_stop))
            held, place = AtHand(engines=engines), OutputPlace(work.output)
            for number, slide in enumerate(work.slides):
                place.check()

                def report(done: int, total: int, number: int = number) -> None:
                    progress(number, PARTS_OF_A_SLIDE if total == 0 else PARTS_OF_A_SLIDE * done // total)

                found = scan_one(work, slide, held, progress=report, should_stop=should_stop)
                place.check()
                yield number, found
                # Its heatmap is not held while the next slide is scanned.
                del found


def scan_one(
    work: CohortWork[T],
    slide: CohortSlide,
    held: AtHand,
    *,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> ScannedSlide[T] | FailedSlide:
    """Scan one slide of many here, and make of its scan what is wanted.

    Parameters
    ----------
    work, slide
        Which slide of which cohort.
    held
        What is ready already.
    progress
        Called with the model pixels answered and those of the whole scan.
    should_stop
        Asked several times a second.

    Raises
    ------
    ScanCancelledError, StorageError
        As :func:`scan_each` does.
    """
    faults: list[str] = []
    with slide_faults(work, faults.append):
        result = scan_slide(work.job_of(slide), held, progress=progress, should_stop=should_stop)
        if should_stop() and not result.finished:
            raise ScanCancelledError(
                f"expected to scan {slide.name} to its end, but was stopped; the same command goes on from there"
            )
        return ScannedSlide(slide, work.then(result))
    return FailedSlide(slide, faults[0])


@contextmanager
def slide_faults(work: CohortWork[T], leave_out: Callable[[str], None]) -> Iterator[None]:
    """Let one slide fail without the others; a disk that refuses is its fault only where the folder is its own.

    Parameters
    ----------
    work
        Where results lie.
    leave_out
        Told why, in one line.
    """
    try:
        with one_of_many(leave_out):
            yield
    except StorageError as error:
        # The name of its folder is the slide's own, and so is the folder that it lies in.
        if error.errno == errno.ENAMETOOLONG:
            leave_out(f"{error}: rename the slide")
        elif work.output is None and error.errno in READ_ONLY:
            leave_out(str(error))
        else:
            raise
