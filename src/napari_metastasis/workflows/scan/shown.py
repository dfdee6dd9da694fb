"""What is shown of a scan, kept with its results: files follow the screen, and it opens again as it was left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import StorageError
from napari_metastasis.lesions.export import DETECTIONS_HEADER
from napari_metastasis.scanning import PROBABILITY, MapStore, read_header
from napari_metastasis.settings import THRESHOLD
from napari_metastasis.storage import folder_gone
from napari_metastasis.workflows.scan.listed_findings import list_findings
from napari_metastasis.workflows.scan.result_files import one_writer, write_findings, write_record
from napari_metastasis.workflows.scan.result_folder import heatmap_path, journals_of, record_of, recorded_pass

if TYPE_CHECKING:
    from napari_metastasis.lesions import Findings
    from napari_metastasis.slides import Slide

__all__ = ["Shown", "nuclei_density", "read_before", "read_shown", "recorded_journals", "scanned_with", "write_shown"]

#: How ``detections.csv`` begins where it has a header.
_HEADER = ",".join(DETECTIONS_HEADER).encode("ascii")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the findings of a result are read with.

    Attributes
    ----------
    threshold
        Probability from which cells count as tumour.
    shares
        Share of each later map in what lesions are read from, by its name: exactly the maps that belong to the result.
    map
        Name of the map that lesions are said to be read from.
    """

    threshold: float
    shares: Mapping[str, float] = field(default_factory=dict)
    map: str = PROBABILITY.name

    def to_json(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps as ``shown``: plain values, and the time."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return {"threshold": self.threshold, "shares": dict(self.shares), "map": self.map, "at": at}


def read_shown(record: Any) -> Shown:
    """Return what the files of a result were last written with, from its record.

    Records of earlier versions say it in the settings of their scan. What is missing or damaged is as a scan without
    any option has it.
    """
    scanned = scanned_with(record)
    try:
        stored = record["shown"]
        shares = {str(name): share for name, share in stored["shares"].items()}
        read_from = stored["map"]
        if not _is_threshold(stored["threshold"]) or not all(map(_is_share, shares.values())):
            return scanned
        if read_from != PROBABILITY.name and read_from not in shares:
            return scanned
    except (KeyError, TypeError, AttributeError):
        return scanned
    return Shown(float(stored["threshold"]), {name: float(share) for name, share in shares.items()}, read_from)


def scanned_with(record: Any) -> Shown:
    """Return what a scan wrote its results with, from the settings on its record."""
    threshold, shares = THRESHOLD, {}
    try:
        recorded = record["settings"]["detection"]["threshold"]
        threshold = float(recorded) if _is_threshold(recorded) else THRESHOLD
        shares = {str(one["map"]): float(one["share"]) for one in record["passes"] if _is_share(one["share"])}
    except (KeyError, TypeError):
        pass
    return Shown(threshold, shares, next((name for name in reversed(shares) if shares[name] > 0), PROBABILITY.name))


def read_before(folder: Path) -> dict[str, MapStore]:
    """Return the map of a pass that a result's lesions are read from, by its name, opened to read.

    Nothing where they are read from the scan's own map, or nothing says so.
    """
    record = record_of(folder)
    name = read_shown(record).map
    made = recorded_pass(record, name)
    if made is None:
        return {}
    try:
        store = MapStore.open(folder / str(made["file"]))
    except StorageError:
        return {}
    return {name: store} if store.kind.is_probability else {}


def nuclei_density(record: Any) -> float | None:
    """Return by which density a scan estimated nuclei, from its record; ``None`` where nothing says so."""
    try:
        density = record["settings"]["detection"]["nuclei_per_mm2"]
    except (KeyError, TypeError):
        return None
    return float(density) if _is_number(density) and density >= 0 else None


def recorded_journals(record: Any) -> dict[str, int] | None:
    """Return how long the journals of the maps were when the files were written; ``None`` where nothing says so."""
    try:
        return {str(name): int(size) for name, size in record["files"]["journals"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _is_threshold(value: Any) -> bool:
    return _is_number(value) and 0 < value <= 1


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def write_shown(
    folder: Path,
    slide: Slide,
    found: Findings,
    shown: Shown,
    *,
    coverage: Mapping[str, Any],
    journals: Mapping[str, int],
    should_stop: Callable[[], bool],
) -> bool:
    """Write the files of a result anew from the findings that are shown, and say so in ``run.json``.

    Everything else on the record stays. Nothing is written where another scan went on with the maps since they were
    read: the findings would not be theirs.

    Parameters
    ----------
    folder
        The result folder.
    slide
        The open slide.
    found
        What is shown.
    shown
        What it was read with; its threshold is that of ``found``.
    coverage
        How much of the tissue they answer for, as the record has it; what is missing stays.
    journals
        How long the journals of the folder's maps were when these were read, from
        :func:`~napari_metastasis.workflows.scan.result_folder.journals_of`.
    should_stop
        Asked until the first file is written.

    Returns
    -------
    Whether anything was written: not where ``should_stop`` said so.

    Raises
    ------
    StorageError
        If the folder is gone, holds another slide's results or others than those read, or the disk refuses. Each file
        is whole or as it was.
    """
    # Before anybody waits for this: the outlines of thousands of lesions take seconds.
    outlined = found.lesions
    if not heatmap_path(folder).is_dir():
        raise folder_gone(folder)
    known_as = read_header(heatmap_path(folder)).identity.get("slide")
    if known_as not in (slide.fingerprint, slide.earlier_fingerprint):
        raise StorageError(
            f"expected results of {slide.name} in {folder}, got those of another slide; scan into another folder"
        )
    with one_writer(folder):
        if should_stop():
            return False
        if journals_of(folder) != dict(journals):
            raise StorageError(
                f"expected the maps in {folder} as they were read, got some that another scan went on with; open the "
                "slide again to see them, and to write files at another threshold"
            )
        record = record_of(folder)
        record = record if isinstance(record, dict) else {}
        csv_header = _has_header(record, folder)
        findings = list_findings(
            folder,
            outlined,
            bounds=slide.bounds,
            size=slide.size,
            mpp=slide.mpp,
            nuclei_per_mm2=nuclei_density(record),
        )
        write_findings(
            folder,
            detections=found.detections,
            lesions=findings.lesions,
            csv_header=csv_header,
            known_as=str(known_as),
            bounds=slide.bounds,
        )
        known = record.get("coverage")
        changed = {
            "coverage": {**(known if isinstance(known, dict) else {}), **coverage},
            "slide_score": float(found.slide_score) if math.isfinite(found.slide_score) else None,
            "lesions": len(outlined),
            "shown": shown.to_json(),
            "files": {"csv_header": csv_header, "journals": dict(journals)},
        }
        write_record(folder, {**record, **changed})
    return True


def _has_header(record: Mapping[str, Any], folder: Path) -> bool:
    """Return whether ``detections.csv`` begins with a header, by the record or by itself."""
    try:
        recorded = record["files"]["csv_header"]
    except (KeyError, TypeError):
        recorded = None
    if isinstance(recorded, bool):
        return recorded
    try:
        with (folder / "detections.csv").open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False
