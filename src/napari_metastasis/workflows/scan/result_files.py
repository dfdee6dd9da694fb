"""The files of a result folder that hold its findings: written in one way, by one writer at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_metastasis.geometry import Region
from napari_metastasis.lesions import (
    Detection,
    Lesion,
    write_detections_csv,
    write_lesions_csv,
    write_lesions_geojson,
)
from napari_metastasis.scanning import journal_path
from napari_metastasis.scanning.maps.lock import WriterLock
from napari_metastasis.storage import atomic_text, folder_gone
from napari_metastasis.workflows.scan.result_folder import heatmap_path, record_path

__all__ = ["one_writer", "write_findings", "write_record"]

#: How long one writer waits for another, which writes for some seconds at most.
_PATIENCE_S = 30.0


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Write the files of a result folder while nobody else does: a window and a scan may come to it at once.

    A lock of its own, not that of the heatmap: a scan that begins must not be refused because a window writes.

    Raises
    ------
    StorageError
        If another one goes on writing for too long, the folder is gone, or the disk refuses.
    """
    heatmap = heatmap_path(folder)
    if not heatmap.is_dir():
        raise folder_gone(folder)
    lock = WriterLock(journal_path(heatmap).with_name("results.lock"), folder, wait_s=_PATIENCE_S)
    try:
        yield
    finally:
        lock.release()


def write_findings(
    folder: Path,
    *,
    detections: Iterable[Detection],
    lesions: Iterable[Lesion],
    csv_header: bool,
    known_as: str,
    bounds: Region | None,
) -> None:
    """Write ``lesions.geojson``, ``lesions.csv`` and ``detections.csv``, in :func:`one_writer`.

    Parameters
    ----------
    folder
        The result folder.
    detections, lesions
        Written in the order given; lesions as :func:`.listed_findings.list_findings` returns them.
    csv_header
        Whether ``detections.csv`` begins with the names of its columns.
    known_as
        By what the scan knows the slide: an outline keeps its id when an earlier version's scan goes on.
    bounds
        The slide's bounds, if it states any.

    Raises
    ------
    StorageError
        If the disk refuses; each file is whole or as it was.
    """
    # The largest first: on a disk that is nearly full, none of them changes.
    write_lesions_geojson(folder / "lesions.geojson", lesions, slide=known_as, bounds=bounds)
    write_lesions_csv(folder / "lesions.csv", lesions)
    write_detections_csv(folder / "detections.csv", detections, header=csv_header)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``, after everything that it speaks of.

    Raises
    ------
    StorageError
        If the disk refuses; the record is as it was.
    """
    with atomic_text(record_path(folder)) as file:
        json.dump(dict(record), file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
