"""Opens the slide of a result again, if it still lies there and is the same."""

from __future__ import annotations

from pathlib import Path

from napari_metastasis.errors import NotASlideError, SlideError
from napari_metastasis.slides import Slide, open_slide
from napari_metastasis.slides.dicom_folder import dicom_files
from napari_metastasis.workflows.report.result import ReportedResult

__all__ = ["open_reported_slide"]


def open_reported_slide(result: ReportedResult, moved_to: Path | None = None) -> Slide:
    """Return the slide that a result is of, opened as it was scanned.

    Parameters
    ----------
    result
        The result.
    moved_to
        Where the slide lies now, or the folder that it lies in under its name; ``None`` to look where it was scanned,
        and beside the result.

    Raises
    ------
    SlideError
        If there is no slide, or another one than was scanned.
    """
    if moved_to is not None:
        return _opened(_in(moved_to, result), result)
    recorded, beside = Path(result.slide_path), result.folder.absolute().parent / result.file_name
    try:
        return _opened(recorded, result)
    except SlideError:
        # Slides are moved together with the results beside them.
        if not beside.exists() or beside == recorded:
            raise
        return _opened(beside, result)


def _opened(path: Path, result: ReportedResult) -> Slide:
    slide = open_slide(path, result.mpp, swap_red_blue=result.swapped)
    try:
        known_as = (slide.fingerprint, slide.earlier_fingerprint)
    except OSError as error:
        slide.close()
        raise SlideError(f"expected the slide that was scanned, got {path}, which cannot be read ({error})") from error
    if result.fingerprint not in known_as:
        slide.close()
        raise NotASlideError(
            f"expected the slide that was scanned, got another one at {path}; give its new place with --slide"
        )
    return slide


def _in(place: Path, result: ReportedResult) -> Path:
    """Return where the slide lies: in a folder of slides, the one of its name."""
    if not place.is_dir() or dicom_files(place):
        return place
    return place / result.file_name
