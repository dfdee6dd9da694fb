"""Cohorts, read from a CSV file or from a folder that is laid out in a known way, and written as such a file."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

from napari_metastasis.cohorts.cohort_slide import SPLITS, Cohort, CohortSlide, LayoutName, LeftOutSlide, Split
from napari_metastasis.cohorts.layouts import read_layout
from napari_metastasis.errors import CohortError, StorageError, brief, first_line
from napari_metastasis.plain_csv import CsvRow, read_csv
from napari_metastasis.slide_address import SlidePath, SlideUrl, slide_path
from napari_metastasis.slides.metadata import MAX_MPP, MIN_MPP
from napari_metastasis.slides.naming import slide_name
from napari_metastasis.storage import atomic_text, holds_control_characters, home_path, plain_cell, text_of_cell

__all__ = ["SPLITS", "Cohort", "CohortSlide", "LeftOutSlide", "Split", "read_cohort", "read_slides", "write_cohort"]

_FILE = "cohort.csv"
_SWAP = "swap_red_blue"
_NEEDED, _COLUMNS = "slide", ("slide", "annotation", "split", "patient", "node", "tumour", "mpp", "exhaustive", _SWAP)
#: What lists of slides call that column as well.
_ALSO_CALLED = "path"
#: Characters of a cell, and bytes of a name in a path, which no file system takes more of.
_LONGEST, _LONGEST_NAME = 4000, 255
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})


def read_cohort(
    path: str | os.PathLike[str],
    *,
    validation_share: float,
    seed: int,
    mpp: float | None = None,
    layout: LayoutName | None = None,
) -> Cohort:
    """Read a cohort file or recognise a folder's layout.

    Where nothing is marked for validation, a share of the training slides becomes it: the same slides for the same
    seed, whatever else the cohort holds; slides with and without tumour alike; and a patient's slides together.

    Parameters
    ----------
    path
        A CSV file with the columns ``slide``, ``annotation``, ``split``, ``patient`` and ``node`` (and, if wanted,
        ``tumour``, ``mpp``, ``exhaustive``, ``swap_red_blue``), paths relative to it; or a folder that holds such a
        file as ``cohort.csv``, is laid out as CAMELYON16 and CAMELYON17 are, or has images and masks.
    validation_share
        Share of the training slides that is kept for validation, 0 to 1.
    seed
        Of the draw.
    mpp
        µm per level-0 pixel of every slide that the cohort file names no pixel size for; ``None`` takes what the slides
        state.
    layout
        What a folder has to be laid out as; a list that lies in it has no say then. Any layout by default.

    Raises
    ------
    CohortError
        If there is no such file or folder, it is laid out otherwise, or the file cannot be understood.
    """
    origin = home_path(path)
    if not 0 <= validation_share < 1:
        raise CohortError(
            f"expected a validation share from 0 to below 1, got {validation_share:g}; leave slides to train on"
        )
    if layout is None and os.path.isfile(origin / _FILE):
        # Whoever wrote a list into the folder knows better than its layout.
        origin = origin / _FILE
    cohort = (
        read_layout(origin)
        if os.path.isdir(origin)
        else Cohort(slides=_read_file(origin), origin=origin, layout="file")
    )
    if layout is not None and cohort.layout != layout:
        raise CohortError(
            f"expected a folder laid out as {layout}, got {origin}, which is {cohort.layout}; choose another folder, "
            "or take it as --cohort"
        )
    slides = list(cohort.slides)
    if mpp is not None:
        slides = [slide if slide.mpp is not None else replace(slide, mpp=mpp) for slide in slides]
    if not any(slide.split == "validation" for slide in slides):
        slides = _with_validation(slides, validation_share, seed)
    return replace(cohort, slides=tuple(slides))


def read_slides(path: str | os.PathLike[str]) -> tuple[CohortSlide, ...]:
    """Return the slides that a CSV file lists, to be scanned: a cohort file, whose first column may be called ``path``.

    Raises
    ------
    CohortError
        If there is no such file, or it cannot be understood.
    """
    return _read_file(home_path(path))


def write_cohort(path: str | os.PathLike[str], slides: Iterable[CohortSlide]) -> None:
    """Write a cohort file that :func:`read_cohort` reads, paths relative to it, in one step.

    Raises
    ------
    StorageError
        If the file cannot be written.
    CohortError
        If the path of a slide or an annotation is no UTF-8, or holds control characters: no table does.
    """
    folder = Path(path).resolve().parent

    def beside(target: Path | None) -> str:
        if target is None:
            return ""
        # Of the folder alone: a slide is called what its link is called, which may point to a file named by its hash.
        path = Path(os.path.relpath(target.parent.resolve() / target.name, folder)).as_posix()
        if holds_control_characters(path):
            raise CohortError(f"expected names in UTF-8 without control characters, got {brief(path)}; rename it")
        # The same path, which no spreadsheet takes for a formula.
        return path if plain_cell(path) == path else f"./{path}"

    def listed(slide: SlidePath) -> str:
        return slide.url if isinstance(slide, SlideUrl) else beside(slide)

    slides = tuple(slides)
    # The last column only where it says something: most files need none, and a run knows its cohort by the text.
    columns = _COLUMNS if any(slide.swap_red_blue for slide in slides) else _COLUMNS[:-1]
    with atomic_text(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        for slide in slides:
            tumour = "" if slide.tumour is None else "yes" if slide.tumour else "no"
            mpp = "" if slide.mpp is None else repr(slide.mpp)
            exhaustive = "yes" if slide.exhaustive else "no"
            swap = "yes" if slide.swap_red_blue else "no"
            known = slide.split, plain_cell(slide.patient or ""), plain_cell(slide.node or ""), tumour, mpp, exhaustive
            rows.writerow((listed(slide.path), beside(slide.annotation), *known, swap)[: len(columns)])


def _read_file(path: Path) -> tuple[CohortSlide, ...]:
    """Return the slides of a cohort file."""
    try:
        # Spreadsheets of half the world write semicolons.
        rows = read_csv(path, delimiters=",;\t")
    except OSError as error:
        raise CohortError(f"expected a cohort file or folder, got {path} ({error.strerror}); check the path") from error
    except ValueError as error:
        raise CohortError(
            f"expected a cohort as CSV text in UTF-8, got {path}, {error}; correct it, and save it as CSV (UTF-8)"
        ) from error
    names = [name.strip().casefold() for name in rows[0].cells] if rows else []
    if _NEEDED not in names:
        names = [_NEEDED if name == _ALSO_CALLED else name for name in names]
    _check_columns(names, path)
    slides = [_row(names, row, path) for row in rows[1:]]
    if not slides:
        raise CohortError(f"expected slides in {path}, got none; add a line for each")
    return tuple(slides)


def _check_columns(names: list[str], path: Path) -> None:
    """Refuse columns that nobody knows: an ``anotation`` would make every slide normal."""
    unknown = [name for name in names if name not in _COLUMNS]
    if _NEEDED not in names or unknown or len(set(names)) < len(names):
        raise CohortError(
            f"expected a first line of {', '.join(_COLUMNS[:5])} (and, if wanted, {', '.join(_COLUMNS[5:])}) "
            f"in {path}, got {first_line(', '.join(names)) if names else 'none'}; correct it"
        )


def _row(names: list[str], row: CsvRow, path: Path) -> CohortSlide:
    where = f"in line {row.line} of {path}"
    if len(row.cells) > len(names):
        raise CohortError(f"expected as many cells as columns {where}, got more; quote names that hold a comma")
    cells = dict.fromkeys(_COLUMNS, "") | {name: cell.strip() for name, cell in zip(names, row.cells, strict=False)}
    for name, cell in cells.items():
        if len(cell) > _LONGEST or holds_control_characters(cell):
            raise CohortError(f"expected one line of text as {name} {where}, got {brief(cell)}; correct it")
    split = cells["split"] or "train"
    if not cells["slide"]:
        raise CohortError(f"expected the path of a slide {where}, got none; add it")
    if split.casefold() not in SPLITS:
        raise CohortError(f"expected a split of {', '.join(SPLITS)} {where}, got {brief(split)}; choose one of them")
    target = slide_path(cells["slide"])
    if not isinstance(target, SlideUrl):
        target = _beside(path, cells["slide"], "slide", where)
    return CohortSlide(
        name=slide_name(target),
        path=target,
        annotation=_beside(path, cells["annotation"], "annotation", where) if cells["annotation"] else None,
        split=cast("Split", split.casefold()),
        patient=text_of_cell(cells["patient"]) or None,
        node=text_of_cell(cells["node"]) or None,
        tumour=_flag(cells["tumour"], "tumour", where),
        mpp=_mpp(cells["mpp"], where),
        swap_red_blue=_flag(cells[_SWAP], _SWAP, where) is True,
        exhaustive=_flag(cells["exhaustive"], "exhaustive", where) is not False,
    )


def _beside(path: Path, text: str, what: str, where: str) -> Path:
    """Return the path that a cell of a cohort file names, relative to it."""
    try:
        target = path.parent / home_path(text)
    except StorageError as error:
        raise CohortError(f"expected the path of a file as {what} {where}: {error}") from error
    if target.name in ("", "..") or any(len(os.fsencode(part)) > _LONGEST_NAME for part in target.parts):
        raise CohortError(
            f"expected the path of a file, of names of at most {_LONGEST_NAME} bytes, as {what} {where}, got "
            f"{brief(text)}; correct it"
        )
    return target


def _flag(text: str, name: str, where: str) -> bool | None:
    word = text.casefold()
    if word and word not in _YES | _NO:
        raise CohortError(f"expected yes, no or nothing as {name} {where}, got {brief(text)}; choose one of them")
    return None if not word else word in _YES


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = float("nan")
    if not MIN_MPP <= mpp <= MAX_MPP:
        raise CohortError(
            f"expected {MIN_MPP:g} to {MAX_MPP:g} µm as mpp {where}, got {brief(text)}; look it up in the scanner's "
            "settings"
        )
    return mpp


def _with_validation(slides: list[CohortSlide], share: float, seed: int) -> list[CohortSlide]:
    """Return the slides with a share of those for training moved to validation."""
    groups: dict[str, list[CohortSlide]] = {}
    for slide in slides:
        if slide.split == "train":
            key = f"patient {slide.patient}" if slide.patient is not None else f"slide {slide.name}"
            groups.setdefault(key, []).append(slide)
    strata: dict[bool, list[str]] = {True: [], False: []}
    for key, members in groups.items():
        strata[any(slide.tumour or slide.may_hold_tumour for slide in members)].append(key)

    def rank(key: str) -> str:
        # A hash, not a shuffle: a slide more or less in the cohort does not deal out all others anew.
        return hashlib.sha256(f"{seed} {key}".encode(errors="backslashreplace")).hexdigest()

    chosen: set[str] = set()
    for stratum in strata.values():
        # Both parts keep at least one of each kind, where there are two.
        count = min(max(round(share * len(stratum)), 1), len(stratum) - 1) if share > 0 and stratum else 0
        chosen.update(sorted(stratum, key=rank)[:count])
    moved = {id(slide) for key in chosen for slide in groups[key]}
    return [replace(slide, split="validation") if id(slide) in moved else slide for slide in slides]
