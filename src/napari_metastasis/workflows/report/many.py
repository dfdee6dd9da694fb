"""Scans many slides, each with its report, and keeps a summary of them that grows as it goes on."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_metastasis.cohorts.cohort import CohortSlide, read_slides
from napari_metastasis.cohorts.layouts import holds_dicom, slides_below
from napari_metastasis.errors import CohortError, StorageError, one_of_many
from napari_metastasis.scanning import never
from napari_metastasis.slide_address import SlidePath, SlideUrl
from napari_metastasis.slides.naming import slide_name
from napari_metastasis.slides.zarr_files import is_zarr
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.report.summary import SlideSummary, SummaryFiles
from napari_metastasis.workflows.report.write import write_picture, write_report
from napari_metastasis.workflows.scan import FailedSlide, ScanResult, SlideScanner, check_outputs, scan_each
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["find_slides", "is_one_slide", "scan_slides"]

_LIST = ".csv"
#: Of the time at most so much goes into writing the summary, which of 10,000 slides takes seconds.
_SUMMARY_SHARE = 0.05


def is_one_slide(path: SlidePath) -> bool:
    """Return whether a path stands for one slide, and not for a list or a folder of slides.

    What is neither is taken for a slide: whoever opens it says why it is none.
    """
    if isinstance(path, SlideUrl) or (os.path.isdir(path) and is_zarr(path)):
        return True
    if not os.path.isdir(path):
        return path.suffix.lower() != _LIST
    beside = [slide for slide in slides_below(path) if slide != path]
    return not beside or (holds_dicom(path) and all(slide.parent != path or os.path.isdir(slide) for slide in beside))


def find_slides(
    paths: Iterable[SlidePath], *, mpp: float | None = None, swap_red_blue: bool = False
) -> tuple[CohortSlide, ...]:
    """Return the slides that paths stand for, each once: files, folders of slides, and CSV files that list slides.

    Parameters
    ----------
    paths
        In the order in which slides are scanned.
    mpp
        µm per level-0 pixel of every slide that no list states it for; ``None`` takes what the slides state.
    swap_red_blue
        Whether red and blue of all of them stand in each other's place.

    Raises
    ------
    CohortError
        If a list cannot be understood, or lists say different things of one slide.
    """
    found: dict[str, CohortSlide] = {}
    listed: dict[str, CohortSlide] = {}
    for path in paths:
        is_list = isinstance(path, Path) and path.suffix.lower() == _LIST and not os.path.isdir(path)
        for slide in _slides_of(path, is_list=is_list):
            key = slide.path.url if isinstance(slide.path, SlideUrl) else os.path.abspath(slide.path)
            found.setdefault(key, slide)
            if is_list:
                _check_alike(listed.setdefault(key, slide), slide)
    return tuple(
        replace(
            slide,
            # A list knows more of a slide than the folder that it lies in.
            mpp=mpp if (said := listed.get(key, slide)).mpp is None else said.mpp,
            swap_red_blue=said.swap_red_blue or swap_red_blue,
        )
        for key, slide in found.items()
    )


def _slides_of(path: SlidePath, *, is_list: bool) -> Iterable[CohortSlide]:
    if isinstance(path, Path) and is_list:
        return read_slides(path)
    inside: Sequence[SlidePath] = [path] if isinstance(path, SlideUrl) or is_one_slide(path) else slides_below(path)
    return [CohortSlide(name=slide_name(one), path=one) for one in inside]


def _check_alike(first: CohortSlide, other: CohortSlide) -> None:
    if (first.mpp, first.swap_red_blue) != (other.mpp, other.swap_red_blue):
        raise CohortError(
            f"expected one pixel size (mpp) and one swap_red_blue of {other.path}, got it listed twice with different "
            "ones; remove one of the lines"
        )


@dataclass(frozen=True, slots=True)
class _Reported:
    """A slide's scan with its report: its row of the summary, what ``--json`` prints of it, and what went wrong."""

    row: SlideSummary
    values: dict[str, Any]
    faults: list[str]


def _report(result: ScanResult, *, picture: bool) -> _Reported:
    """Write the report of a slide that was scanned."""
    row, values, faults = SlideSummary(slide=result.slide), result.summary(), list[str]()
    try:
        with one_of_many(faults.append):
            row = SlideSummary.of(result.slide, write_report(result.output))
            if picture:
                write_picture(result.output)
    except StorageError as error:
        # Scanned before, and read-only now, or a file in its folder that is in the way: the slide's own fault.
        faults.append(str(error))
    return _Reported(row, {} if faults else values, faults)


@contextmanager
def _paced(write: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Yield a function that writes what has changed, unless that would take more than a share of the time.

    What is left then is written at the end of the block, however it ends.
    """
    ended, took, is_written = -math.inf, 0.0, True

    def now_and_then() -> None:
        nonlocal ended, took, is_written
        begun = time.monotonic()
        is_written = begun - ended >= took / _SUMMARY_SHARE
        if is_written:
            write()
            ended = time.monotonic()
            took = ended - begun

    try:
        yield now_and_then
    finally:
        if not is_written:
            write()


def scan_slides(
    slides: Sequence[CohortSlide],
    job: ScanJob,
    *,
    output: Path | None,
    summary: SummaryFiles,
    picture: bool = False,
    engines: EngineCache | None = None,
    scanner: SlideScanner | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Generator[tuple[SlideSummary, dict[str, Any]]]:
    """Scan slides, write the report of each, and yield what became of it; the summary grows meanwhile.

    It is written anew after a slide, but of ten thousand slides not after every one: that would take longer than the
    scans.

    Beside the summary of each slide, what ``scan --json`` prints of it is yielded; nothing where it failed.

    Parameters
    ----------
    slides
        From :func:`find_slides`.
    job, output, engines, scanner, progress, should_stop
        As :func:`~napari_metastasis.workflows.scan.scan_each` takes them.
    summary
        Where the summary goes.
    picture
        Whether to write a picture of each slide, too.

    Raises
    ------
    CohortError, ScanCancelledError, ClusterError
        As scanning a cohort does.
    StorageError
        If the disk refuses, or a file of somebody else's has the name of one of the summary's; then before any scan.
    """
    check_outputs(slides, output)
    summary.check()
    rows = {slide: SlideSummary(slide=slide.path) for slide in slides}
    scans = scan_each(
        slides, job, partial(_report, picture=picture),
        output=output, engines=engines, scanner=scanner, progress=progress, should_stop=should_stop,
    )  # fmt: skip
    with closing(scans), _paced(lambda: summary.write(list(rows.values()))) as write:
        for entry in scans:
            values: dict[str, Any] = {}
            if isinstance(entry, FailedSlide):
                row, faults = rows[entry.slide], [entry.reason]
            else:
                # By the path that it was given by, which is another one on other machines.
                row, faults = replace(entry.result.row, slide=entry.slide.path), entry.result.faults
                values = entry.result.values
            rows[entry.slide] = replace(row, error=faults[0]) if faults else row
            write()
            yield rows[entry.slide], values
