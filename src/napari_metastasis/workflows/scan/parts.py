"""Where parts of a slide lie while several machines scan it, and how the scan of the slide takes their answers.

A part is a scan of its own, in a folder of its own inside the result folder, with its own journal and lock. The scan of
the whole slide copies what parts have answered before it makes its plan, and scans what is left: also what a part did
not come to, also where no part was ever begun.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning import FeatureStore, MapStore, SlidePart, gather, maps_like
from napari_metastasis.workflows.scan.result_folder import OTHER_SETTINGS
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["PART_RECORD", "answered_elsewhere", "gather_parts", "part_of", "part_records", "remove_parts"]

#: Inside a result folder: folders of parts, which the finished scan removes.
_PARTS = ".parts"
#: In the folder of a part: what it took.
PART_RECORD = "part.json"


def part_of(job: ScanJob, root: Path, part: SlidePart) -> ScanJob:
    """Return the scan of a part of a slide, whose own results lie in ``root``."""
    return replace(job, part=part, output=root / _PARTS / f"{part.number + 1}-of-{part.of}")


def answered_elsewhere(root: Path, part: SlidePart | None) -> tuple[Path, ...]:
    """Return the folders that answers of the same slide may be taken from.

    Parameters
    ----------
    root
        The result folder of a scan.
    part
        The part that it scans; ``None`` for the whole slide. A part begins with what the whole has.
    """
    roots = sorted((root / _PARTS).glob("*-of-*")) if part is None else [root.parent.parent]
    return tuple(folder for one in roots for folder in (one, *sorted(one.glob(f"{OTHER_SETTINGS}*"))))


def gather_parts(heatmap: MapStore, features: FeatureStore | None, folders: tuple[Path, ...], *, block: int) -> None:
    """Copy into a scan's own map, and into its features, what lies in other folders.

    Parameters
    ----------
    heatmap, features
        Opened for writing; the latter are ``None`` where none are kept.
    folders
        From :func:`answered_elsewhere`.
    block
        Cells of the map along a side of one that has features.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    if not folders or heatmap.refusal is not None:
        return
    paths = maps_like(heatmap, folders)
    encoded = [None if features is None else features.beside(path.parent / features.path.name) for path in paths]
    gather(heatmap, paths, features=features, features_of=encoded, block=block)


def part_records(root: Path) -> list[dict[str, Any]]:
    """Return what the parts of a slide took, as a scan's record says it; what cannot be read is left out."""
    found = []
    for folder in answered_elsewhere(root, None):
        try:
            record = read_json(folder / PART_RECORD)
        except (OSError, ValueError):
            continue
        found += [record] if isinstance(record, dict) else []
    return found


def remove_parts(root: Path) -> None:
    """Delete the folders of parts, whose answers the finished scan has."""
    if (root / _PARTS).is_dir():
        shutil.rmtree(root / _PARTS, ignore_errors=True)
