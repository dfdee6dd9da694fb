"""Opens the slide of a result again, if it still lies there and is the same."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from napari_metastasis.errors import NotASlideError, SlideError
from napari_metastasis.slide_address import SlidePath, SlideUrl, slide_path
from napari_metastasis.slides import Slide, open_slide
from napari_metastasis.workflows.report.result import ReportedResult
from napari_metastasis.workflows.scan.result_folder import OTHER_SETTINGS

__all__ = ["open_reported_slide"]


def open_reported_slide(result: ReportedResult, moved_to: SlidePath | None = None) -> Slide:
    """Return the slide that a result is of, opened as it was scanned.

    Parameters
    ----------
    result
        The result.
    moved_to
        Where the slide lies now, or the folder that it lies in under its name; ``None`` to look where it was scanned,
        and beside the result folder.

    Raises
    ------
    SlideError
        If there is no slide, or another one than was scanned.
    """
    if moved_to is not None:
        return _opened(moved_to if isinstance(moved_to, SlideUrl) else _in(moved_to, result), result)
    recorded = slide_path(result.slide_path)
    if isinstance(recorded, SlideUrl):
        return _opened(recorded, result)
    # Slides are moved together with the results beside them.
    places = [path for path in dict.fromkeys((recorded, *_beside(result))) if os.path.exists(path)]
    if not places:
        raise NotASlideError(
            f"expected the slide where it was scanned, but {recorded} does not exist; give its new place with --slide"
        )
    for path in places[:-1]:
        with suppress(SlideError):
            return _opened(path, result)
    return _opened(places[-1], result)


def _beside(result: ReportedResult) -> list[Path]:
    """Return where a slide lies that was moved with its result."""
    folder = result.folder.absolute()
    folders = [folder.parent]
    if folder.name.startswith(OTHER_SETTINGS):
        # Inside the result folder.
        folders.append(folder.parent.parent)
    return [one / result.file_name for one in folders]


def _opened(path: SlidePath, result: ReportedResult) -> Slide:
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
    """Return where the slide lies: in a folder of slides, the one of its name; else what was named itself."""
    inside = place / result.file_name
    return inside if os.path.exists(inside) else place
