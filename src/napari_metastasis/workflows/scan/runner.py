"""Runs a scan: the one loop for commands, the window and cohorts."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar

from napari_metastasis.scanning import MITOSES, PROBABILITY, FinishedPiece, never
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.engine_cache import EngineCache, await_future
from napari_metastasis.workflows.scan.job_models import settle_job
from napari_metastasis.workflows.scan.mitoses import mitosis_threshold
from napari_metastasis.workflows.scan.parts import remove_parts
from napari_metastasis.workflows.scan.prepare import prepare_scan
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.record import write_part_record
from napari_metastasis.workflows.scan.result_folder import result_root, stored_precision
from napari_metastasis.workflows.scan.results import ScanResult, write_results
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, ScanStarted, Stage

__all__ = ["ScanEvent", "run_scan", "scan_part", "scan_slide"]

T = TypeVar("T")


#: What a running scan yields.
ScanEvent = Stage | ScanStarted | FinishedPiece


def run_scan(
    job: ScanJob, at_hand: AtHand | None = None, should_stop: Callable[[], bool] = never
) -> Generator[ScanEvent, None, ScanResult]:
    """Scan a slide, read the lesions off its maps and write the result folder.

    Parameters
    ----------
    job
        What to do.
    at_hand
        What is ready already.
    should_stop
        Asked several times a second. The results then hold what was answered until now, and the next scan goes on.

    Yields
    ------
    Stages, the start, and each finished piece of every map with the progress of the whole.

    Returns
    -------
    ScanResult
        Returned by the generator.

    Raises
    ------
    MetastasisError
        As :func:`~napari_metastasis.workflows.scan.prepare_scan` and
        :meth:`~napari_metastasis.scanning.DenseScan.run` do.
    """
    with ExitStack() as opened:
        prepared, spent = yield from _scanned(job, at_hand, should_stop, opened)
        yield Stage("Writing the results…")
        result = write_results(prepared, seconds=spent.seconds, model_px=spent.model_px, work_px=spent.work_px)
        if result.finished:
            remove_parts(result_root(prepared.slide, prepared.job))
        return result


@dataclass(frozen=True, slots=True)
class _Spent:
    """What a scan took: seconds, the model pixels answered, and the work that was left when it began."""

    seconds: float
    model_px: int
    work_px: int


def _scanned(
    job: ScanJob, at_hand: AtHand | None, should_stop: Callable[[], bool], opened: ExitStack
) -> Generator[ScanEvent, None, tuple[PreparedScan, _Spent]]:
    """Scan, and return the scan with what it took; everything is closed with ``opened``."""
    held, job = AtHand() if at_hand is None else at_hand, settle_job(job)
    slide = held.slide
    if slide is None:
        slide = opened.enter_context(open_slide(job.slide, job.mpp, swap_red_blue=job.swap_red_blue))
    engines = opened.enter_context(EngineCache()) if held.engines is None else held.engines
    yield Stage("Preparing the network…")
    ready = opened.enter_context(
        engines.use(job, should_stop, lambda models: stored_precision(slide, job, models.detector))
    )
    yield Stage("Looking for tissue…")
    mask = None if held.tissue is None else await_future(held.tissue, should_stop)
    prepared = opened.enter_context(prepare_scan(slide, job, ready, mask=mask, should_stop=should_stop))
    maps = prepared.maps()
    yield ScanStarted(
        maps=tuple(one for one in maps if one.kind.is_probability),
        mitoses=next((one for one in maps if one.kind.name == MITOSES.name), None),
        mitosis_threshold=mitosis_threshold(prepared),
        mitosis_model=ready.models.others["mitosis"].name if "mitosis" in ready.models.others else "",
        folder=prepared.folder,
        model_name=ready.models.detector.name,
        engine=f"{prepared.chosen.engine.name}, {prepared.chosen.engine.precision}",
        tissue=prepared.tissue,
        model_px=prepared.model_px,
        threshold=prepared.job.detection.threshold,
        own_thresholds=prepared.own_thresholds,
        told=prepared.told,
    )
    # Held twice, a map of mitoses would take gigabytes.
    del maps
    began, model_px, work_px = time.perf_counter(), 0, prepared.model_px
    with closing(prepared.run(should_stop)) as pieces:
        for piece in pieces:
            # Rates count the pixels that the detector looked at.
            model_px += piece.model_px if piece.map == PROBABILITY.name else 0
            yield piece
    return prepared, _Spent(time.perf_counter() - began, model_px, work_px)


def scan_slide(
    job: ScanJob,
    at_hand: AtHand | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> ScanResult:
    """Run a scan to its end; see :func:`run_scan`.

    Parameters
    ----------
    job, at_hand, should_stop
        See there.
    progress
        Called with the model pixels answered and those of the whole scan, before the first piece and after each.
    """
    return _to_end(run_scan(job, at_hand, should_stop), progress)


def scan_part(
    job: ScanJob,
    at_hand: AtHand | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Scan one part of a slide, for a scan of the whole slide to take its answers from there.

    Parameters
    ----------
    job
        The scan of the slide, whose ``part`` says which, from
        :func:`~napari_metastasis.workflows.scan.parts.part_of`.
    at_hand, progress, should_stop
        As :func:`scan_slide` takes them. A part that is stopped goes on the next time.

    Raises
    ------
    MetastasisError
        As :func:`run_scan` does.
    """
    _to_end(_run_part(job, at_hand, should_stop), progress)


def _run_part(
    job: ScanJob, at_hand: AtHand | None, should_stop: Callable[[], bool]
) -> Generator[ScanEvent, None, None]:
    with ExitStack() as opened:
        prepared, spent = yield from _scanned(job, at_hand, should_stop, opened)
        if spent.work_px:
            write_part_record(prepared, seconds=spent.seconds, model_px=spent.model_px)


def _to_end(events: Generator[ScanEvent, None, T], progress: Callable[[int, int], None] | None) -> T:
    """Return what a run returns at its end; its progress is told."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as ended:
                result: T = ended.value
                return result
            if progress is not None and isinstance(event, ScanStarted):
                progress(0, event.model_px)
            elif progress is not None and isinstance(event, FinishedPiece):
                progress(event.done, event.total)
