"""Contact sheets: what was mined, patch beside patch, the strongest first."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import MissingDependencyError, in_one_line
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.hard_negative_locations import hard_negative_patch
from napari_metastasis.sampling.hard_negatives import HardNegative, strongest_first
from napari_metastasis.sampling.slide_index import open_indexed
from napari_metastasis.storage import atomic_write

__all__ = ["contact_sheet", "draw_hard_negatives"]

UInt8Array = npt.NDArray[np.uint8]

_LOG = logging.getLogger(__name__)

_COLUMNS, _ROWS = 10, 10
_GAP_PX, _CAPTION_PX, _LEAST_WIDTH_PX = 8, 28, 128
#: One point of type is 1/72 inch: 7 of them are 10 px high, and a letter of the sans face up to 7 px wide.
_DPI, _FONT_POINTS, _LETTER_PX = 100, 7, 7
#: Stands where a patch cannot be read.
_UNREADABLE = 200


def contact_sheet(
    path: str | os.PathLike[str], patches: Sequence[UInt8Array], captions: Sequence[str]
) -> tuple[Path, ...]:
    """Write patches as PNG pages of 10 by 10, row by row, each pixel as it is. The same patches give the same bytes.

    Parameters
    ----------
    path
        Of the first page; later ones are numbered: ``mined.png``, ``mined-2.png``, …
    patches
        uint8 of shape (rows, columns, 3), all of one size.
    captions
        Written under the patches, a line or two each; lines too long lose their beginning.

    Returns
    -------
    The pages; none where there are no patches.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    StorageError
        If a page cannot be written.
    """
    path = Path(path)
    pages = []
    for first in range(0, len(patches), _COLUMNS * _ROWS):
        number = first // (_COLUMNS * _ROWS) + 1
        page = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        part = slice(first, first + _COLUMNS * _ROWS)
        _write_page(page, patches[part], captions[part])
        pages.append(page)
    return tuple(pages)


def draw_hard_negatives(
    path: str | os.PathLike[str],
    mined: Sequence[HardNegative],
    slides: Sequence[CohortSlide],
    spec: ModelSpec,
    *,
    most: int,
) -> tuple[Path, ...]:
    """Draw the strongest mined patches of a cohort, with the answer and the slide of each.

    A patch that cannot be read is drawn grey; the log says why.

    Parameters
    ----------
    path
        Of the first page; see :func:`contact_sheet`.
    mined
        The locations, in any order.
    slides
        Of the cohort.
    spec
        The model: resolution and size of its patches.
    most
        Patches drawn.

    Returns
    -------
    The pages; none where nothing was mined.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    StorageError
        If a page cannot be written.
    """
    shown = strongest_first(mined)[:most]
    patches: list[UInt8Array] = [np.full((spec.patch_px, spec.patch_px, 3), _UNREADABLE, dtype=np.uint8) for _ in shown]
    for slide in slides:
        numbers = [number for number, location in enumerate(shown) if location.slide == slide.name]
        if numbers:
            try:
                for number, patch in zip(numbers, _read(slide, [shown[k] for k in numbers], spec), strict=True):
                    patches[number] = patch
            # Readers of damaged files raise what they like.
            except Exception as error:  # noqa: BLE001
                _LOG.warning("%s: not all mined patches can be drawn: %s", slide.name, in_one_line(error))
    return contact_sheet(path, patches, [f"{location.probability:.3f}\n{location.slide}" for location in shown])


def _read(slide: CohortSlide, locations: Sequence[HardNegative], spec: ModelSpec) -> Iterator[UInt8Array]:
    with open_indexed(slide) as opened:
        frame = opened.frame(spec.mpp)
        for location in locations:
            yield opened.read(frame, hard_negative_patch(location, frame, spec.patch_px))


def _write_page(path: Path, patches: Sequence[UInt8Array], captions: Sequence[str]) -> None:
    try:
        # The class, not pyplot: no global state, no display.
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"expected {error.name} for contact sheets, got none installed; pip install 'napari-metastasis[evaluate]'"
        ) from error
    height, width = patches[0].shape[:2]
    step_x, step_y = max(width, _LEAST_WIDTH_PX) + _GAP_PX, height + _CAPTION_PX + _GAP_PX
    columns, rows = min(len(patches), _COLUMNS), -(-len(patches) // _COLUMNS)
    canvas = np.full((rows * step_y + _GAP_PX, columns * step_x + _GAP_PX, 3), 255, dtype=np.uint8)
    # What the sheet looks like is not for a user's matplotlibrc to say, and it comes out the same everywhere.
    with rc_context({"font.family": "DejaVu Sans", "font.size": _FONT_POINTS, "text.usetex": False}):
        figure = Figure(figsize=(canvas.shape[1] / _DPI, canvas.shape[0] / _DPI), dpi=_DPI)
        for number, (patch, caption) in enumerate(zip(patches, captions, strict=True)):
            row, column = divmod(number, _COLUMNS)
            x, y = _GAP_PX + column * step_x, _GAP_PX + row * step_y
            canvas[y : y + height, x : x + width] = patch
            figure.text(
                x / canvas.shape[1],
                1 - (y + height + 2) / canvas.shape[0],
                "\n".join(_shortened(line, (step_x - _GAP_PX) // _LETTER_PX) for line in caption.splitlines()),
                verticalalignment="top",
                # A slide's name may hold what mathematical text would read as a formula.
                parse_math=False,
            )
        figure.figimage(canvas)
        with atomic_write(path) as stream:
            figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})


def _shortened(line: str, letters: int) -> str:
    """Return a line that fits; names of one cohort begin alike, so that the end is what tells them apart."""
    return line if len(line) <= letters else "…" + line[1 - letters :]
