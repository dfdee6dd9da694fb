"""Writes ``report.html`` into a result folder, and the picture of the whole slide beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import SlideError, StorageError
from napari_metastasis.scanning import seen_values
from napari_metastasis.settings import TissueSettings
from napari_metastasis.slide_address import SlidePath
from napari_metastasis.slides import Slide, tissue_mask
from napari_metastasis.storage import atomic_text
from napari_metastasis.workflows.report.page import MOST_FINDINGS, ReportPictures, report_html
from napari_metastasis.workflows.report.pictures import Found, finding_image, overview_image, write_overview
from napari_metastasis.workflows.report.result import ReportedResult, read_result, result_maps
from napari_metastasis.workflows.report.slide import open_reported_slide
from napari_metastasis.workflows.report.tables import bring_up_to_date, nobody_writes
from napari_metastasis.workflows.scan.recorded_tissue import recorded_tissue

__all__ = ["WrittenReport", "report_path", "write_picture", "write_report"]

_PICTURE = "overview.png"
#: How advice ends for files whose place can be chosen.
_CHOOSE = re.compile(r"choose (?:another folder|another name|a folder on a writable disk)$")


@dataclass(frozen=True, slots=True, eq=False)
class WrittenReport:
    """A report that was written.

    Attributes
    ----------
    path
        Where it lies.
    result
        What it tells.
    overview
        uint8, (rows, columns, 3): its picture of the slide; ``None`` where it has none.
    without_pictures
        Why it has no pictures, in one line; empty where it has.
    """

    path: Path
    result: ReportedResult
    overview: npt.NDArray[np.uint8] | None = field(repr=False)
    without_pictures: str


def report_path(folder: Path) -> Path:
    """Return where the report of a result folder lies."""
    return folder / "report.html"


def write_report(folder: Path, *, slide: SlidePath | None = None, now: datetime | None = None) -> WrittenReport:
    """Write the report of a result folder, from the files in it and the slide.

    Its tables are brought up to what people said of the findings meanwhile.

    Parameters
    ----------
    folder
        The result folder.
    slide
        Where the slide lies now, or the folder that it lies in; ``None`` where it was scanned. A slide that is not
        found there leaves the report without pictures; one that is named here has to be found.
    now
        The date on the report; today's by default.

    Raises
    ------
    StorageError
        If the folder holds no result, a damaged one, or cannot be written.
    SlideError
        If ``slide`` is not the slide that was scanned.
    """
    with nobody_writes(folder):
        result = read_result(folder)
        with _in_result_folder():
            bring_up_to_date(result)
    pictures, why = None, ""
    try:
        with open_reported_slide(result, slide) as opened:
            found = _found_in(result, opened)
            shown = result.largest_first[:MOST_FINDINGS]
            pictures = ReportPictures(
                overview=overview_image(opened, result.lesions, found),
                findings=tuple(finding_image(opened, lesion) for lesion in shown),
            )
    except SlideError as error:
        if slide is not None:
            raise
        why = str(error)
    html = report_html(result, pictures, without_pictures=why, now=now or datetime.now().astimezone())
    with _in_result_folder(), atomic_text(report_path(folder)) as file:
        file.write(html)
    return WrittenReport(report_path(folder), result, None if pictures is None else pictures.overview, why)


def write_picture(folder: Path, slide: Slide | None = None) -> Path:
    """Write ``overview.png`` into a result folder: the slide with probabilities and outlines; return where it lies.

    Parameters
    ----------
    folder
        The result folder.
    slide
        The open slide; ``None`` to open it where it was scanned.

    Raises
    ------
    StorageError
        If the folder holds no result, a damaged one, or cannot be written.
    SlideError
        If the slide is not there any more, or cannot be read.
    """
    result = _read_whole(folder)
    with ExitStack() as opened:
        shown = opened.enter_context(open_reported_slide(result)) if slide is None else slide
        picture = overview_image(shown, result.lesions, _found_in(result, shown), heat=True)
    with _in_result_folder():
        write_overview(picture, folder / _PICTURE)
    return folder / _PICTURE


def _read_whole(folder: Path) -> ReportedResult:
    """Return what a result folder holds, and not the half of it while a window writes at another threshold."""
    with nobody_writes(folder):
        return read_result(folder)


@contextmanager
def _in_result_folder() -> Iterator[None]:
    """Let an error of writing into a result folder advise what can be done: no option chooses another one."""
    try:
        yield
    except StorageError as error:
        named = StorageError(_CHOOSE.sub("copy the result folder to another disk and report the copy", str(error)))
        named.errno = error.errno
        raise named from error


def _found_in(result: ReportedResult, slide: Slide) -> Found:
    """Return what the maps of a result hold, blended as they are shown, and the tissue that was to be scanned.

    Raises
    ------
    StorageError
        If a map cannot be read.
    SlideError
        If the slide cannot be read.
    """
    own, *others = result_maps(result)
    shares = result.shares
    tissue = tissue_mask(slide, recorded_tissue(result.folder) or TissueSettings())
    read = seen_values(own, [(one, shares.get(one.kind.name, 0.0)) for one in others], tissue.over)
    return Found(read.values, read.frame, tissue)
