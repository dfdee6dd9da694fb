"""Brings the tables of a result folder up to what people said of its findings since they were written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from napari_metastasis.errors import StorageError
from napari_metastasis.lesions import write_lesions_csv, write_lesions_geojson
from napari_metastasis.lesions.export import lesions_table
from napari_metastasis.storage import READ_ONLY, read_at_most
from napari_metastasis.workflows.report.result import ReportedResult, read_result, results_inside
from napari_metastasis.workflows.scan.mitosis_results import update_mitoses
from napari_metastasis.workflows.scan.result_files import one_writer
from napari_metastasis.workflows.scan.result_folder import corrections_folder, heatmap_path, record_path

__all__ = ["bring_up_to_date", "nobody_writes", "update_slide", "update_tables", "write_outlines"]

#: Of a table of lesions: millions of them.
_MOST_BYTES = 1 << 30


def update_tables(folder: Path) -> bool:
    """Write the tables and outlines of lesions, and those of mitoses, anew where people said something else of them.

    What a model found stays as it is, and so does ``run.json``. Not for the thread of a window: all is read, and
    matched anew.

    Parameters
    ----------
    folder
        The result folder.

    Returns
    -------
    Whether anything was written.

    Raises
    ------
    StorageError
        If the folder is no result, a damaged one, or cannot be written; each file is whole or as it was.
    """
    with nobody_writes(folder):
        return bring_up_to_date(read_result(folder))


def update_slide(folder: Path) -> tuple[str, ...]:
    """Bring the tables of every result of a slide up to its corrections, which they share: see :func:`update_tables`.

    Parameters
    ----------
    folder
        Any of its result folders.

    Returns
    -------
    Which of the others could not be brought up to date and why, a line each.

    Raises
    ------
    StorageError
        As :func:`update_tables` does for ``folder``.
    """
    update_tables(folder)
    root, faults = corrections_folder(folder), []
    for other in (root, *results_inside(root)):
        if other != folder and os.path.isfile(record_path(other)):
            try:
                update_tables(other)
            except StorageError as error:
                faults.append(f"{other} does not follow what was said: {error}")
    return tuple(faults)


@contextmanager
def nobody_writes(folder: Path) -> Iterator[None]:
    """Let nobody write the files of a result folder meanwhile: a window may do so at another threshold."""
    with ExitStack() as locked:
        # Where maps were taken away, nobody writes.
        if os.path.isdir(heatmap_path(folder)):
            try:
                locked.enter_context(one_writer(folder))
            except StorageError as error:
                # On a read-only disk nobody writes either.
                if error.errno not in READ_ONLY:
                    raise
        yield


def bring_up_to_date(result: ReportedResult) -> bool:
    """Write the tables of a result that was read in :func:`nobody_writes`, where they do not say what it says.

    Raises
    ------
    StorageError
        If the disk refuses; each file is whole or as it was.
    """
    mitoses = result.mitoses is not None and update_mitoses(
        result.folder, result.mitoses, known_as=result.known_as, bounds=result.bounds
    )
    path = result.folder / "lesions.csv"
    try:
        written = read_at_most(path, _MOST_BYTES)
    except (OSError, ValueError):
        written = b""
    head, _, _ = written.partition(b"\n")
    # Of an earlier version, where nobody said anything: it says all that there is.
    is_silent = b",review," not in head and not result.review_text and not result.told
    # Of one that did not know which lesions are cut, no table must say that none is.
    is_older = not all(lesion.cut_recorded for lesion in result.found)
    if is_silent or is_older or written == lesions_table(result.lesions).encode():
        return mitoses
    # The table last: what it says is what is compared.
    write_outlines(result.folder / "lesions.geojson", result)
    write_lesions_csv(path, result.lesions)
    return True


def write_outlines(path: Path, result: ReportedResult) -> None:
    """Write the lesions of a result that have outlines as GeoJSON.

    Raises
    ------
    StorageError
        If the disk refuses; nothing half-written is left.
    """
    drawn = [lesion for lesion in result.lesions if lesion.is_point or not lesion.outline_px.is_empty]
    write_lesions_geojson(path, drawn, slide=result.known_as, bounds=result.bounds)
