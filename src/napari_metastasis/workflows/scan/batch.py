"""Scans the slides of a cohort one after the other, to mine hard negatives or to measure a model."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

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
    "FailedSlide",
    "ProgressBar",
    "ScannedSlide",
    "check_outputs",
    "cohort_output",
    "in_parts",
    "scan_cohort",
]

#: Steps of a cohort's progress in one slide, whose pixels are known only once its tissue was found.
PARTS_OF_A_SLIDE = 1000

#: Opens a progress bar: takes its title, yields a function of (done, total) in parts of slides.
ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class ScannedSlide:
    """A slide of a cohort, and what was found on it."""

    slide: CohortSlide
    result: ScanResult


@dataclass(frozen=True, slots=True)
class FailedSlide:
    """A slide that could not be scanned, and why, in one line."""

    slide: CohortSlide
    reason: str


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
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Generator[ScannedSlide | FailedSlide]:
    """Scan slides and yield each as it is done, so that no more than one heatmap is held at a time.

    A slide that was scanned before with the same settings is not scanned again; one that was begun goes on. One that
    cannot be scanned is yielded with its reason, and harms no other.

    Parameters
    ----------
    slides
        What to scan.
    job
        How they are scanned; its slide, region and output are not used.
    output
        Folder that each slide gets its result folder in; ``None`` for a result folder beside each slide.
    engines
        Models and engines of earlier scans, if there are any.
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
    """
    check_outputs(slides, output)
    job = settle_job(job)
    with ExitStack() as opened:
        held = AtHand(engines=opened.enter_context(EngineCache()) if engines is None else engines)
        # Before any slide: a model or an engine that cannot be had is no slide's fault.
        assert held.engines is not None
        opened.enter_context(held.engines.use(job, should_stop))
        was_there = output is not None and os.path.isdir(output)
        for number, slide in enumerate(slides):

            def report(done: int, total: int, before: int = number) -> None:
                if progress is not None:
                    part = PARTS_OF_A_SLIDE if total == 0 else PARTS_OF_A_SLIDE * done // total
                    progress(before * PARTS_OF_A_SLIDE + part, len(slides) * PARTS_OF_A_SLIDE)

            if output is not None and was_there and not os.path.isdir(output):
                raise folder_gone(output)
            faults: list[str] = []
            try:
                with one_of_many(faults.append):
                    own = cohort_output(output, slide)
                    of_slide = job.on(slide.path, mpp=slide.mpp, swap_red_blue=slide.swap_red_blue, output=own)
                    result = scan_slide(of_slide, held, progress=report, should_stop=should_stop)
            except StorageError as error:
                # The name of its folder is the slide's own, and so is the folder that it lies in.
                if error.errno == errno.ENAMETOOLONG:
                    faults.append(f"{error}: rename the slide")
                elif output is None and error.errno in READ_ONLY:
                    faults.append(str(error))
                else:
                    raise
            if faults:
                yield FailedSlide(slide, faults[0])
                continue
            was_there = True
            if should_stop() and not result.finished:
                raise ScanCancelledError(
                    f"expected to scan {len(slides)} slides, but was stopped in {slide.name}; "
                    "the same command goes on from there"
                )
            yield ScannedSlide(slide, result)
            # Its heatmap is not held while the next slide is scanned.
            del result
