"""What earlier scans of a slide left: listed by their headers and records alone, and loaded one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from napari_metastasis.errors import StorageError
from napari_metastasis.scanning import MITOSES, Coverage, MapValues, last_written
from napari_metastasis.slides import Slide
from napari_metastasis.tasks import pass_tasks
from napari_metastasis.workflows.dates import day_text
from napari_metastasis.workflows.scan.mitosis_results import StoredMitoses, stored_mitoses
from napari_metastasis.workflows.scan.places import remembered_places
from napari_metastasis.workflows.scan.result_folder import (
    StoredScan,
    default_output,
    heatmap_path,
    journals_of,
    record_of,
    record_path,
    stored_maps,
    stored_scans,
)
from napari_metastasis.workflows.scan.shown import Shown, read_shown, recorded_journals, scanned_with
from napari_metastasis.workflows.scan.slide_stain import SlideStain

__all__ = [
    "EarlierResult",
    "EarlierScan",
    "earlier_result",
    "earlier_results",
    "load_result",
    "maps_of_result",
    "recorded_coverage",
    "recorded_notes",
]

#: Characters of a note that are shown.
_LONGEST_NOTE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierScan:
    """A stored scan of a slide, as a list shows it.

    Attributes
    ----------
    folder
        Where its results lie.
    identity
        Everything that decides its heatmap.
    model_name
        Of the detector.
    when
        When it was last scanned, in local time.
    shown
        What its findings were last shown with.
    coverage
        How much of the tissue it answers for; ``None`` where its record does not say so.
    cell_um
        Distance between neighbouring answers of its heatmap.
    """

    folder: Path
    identity: Mapping[str, Any] = field(repr=False)
    model_name: str
    when: datetime
    shown: Shown
    coverage: Coverage | None
    cell_um: float

    @property
    def coverage_text(self) -> str:
        """Return how much it answers for, as "36 % of the tissue"; empty where its record does not say so."""
        if self.coverage is None:
            return ""
        if self.coverage.whole:
            return "whole slide"
        return f"{self.coverage.percent} of the tissue" if self.coverage.percent else "no tissue found"

    @property
    def origin(self) -> str:
        """Return where it comes from: "Earlier result of 28 Nov"."""
        return f"Earlier result of {self._day}"

    @property
    def summary(self) -> str:
        """Return one short line: "Earlier result of 28 Nov, 36 % of the tissue"."""
        return ", ".join(filter(None, (self.origin, self.coverage_text)))

    @property
    def when_text(self) -> str:
        """Return when it was last scanned: "28 Nov 14:03", with the year where it is not this one."""
        return f"{self._day} {self.when.hour:02}:{self.when.minute:02}"

    @property
    def _day(self) -> str:
        day = day_text(self.when)
        return day if self.when.year == datetime.now().astimezone().year else f"{day} {self.when.year}"


@dataclass(frozen=True, slots=True, eq=False)
class EarlierResult:
    """What an earlier scan of a slide left, as it was left.

    Attributes
    ----------
    scan
        Which one it is.
    maps
        The scan's own map, then those of the passes after it that belong to the result.
    mitoses
        Its mitoses; ``None`` where they were not looked for, or cannot be read.
    mitoses_lost
        Why they cannot be read; empty where they can, or were not looked for.
    own_threshold
        Threshold that the scan wrote its files with; where it is not that of ``shown``, somebody moved it since.
    own_thresholds
        Of single maps, by their names, where the scan's threshold depended on which one was read.
    options
        That its passes were made with, by their names; none of what its record does not say.
    told
        What a person has to know of the results, a line each.
    journals
        How long the journals of the folder's maps were before these were read.
    """

    scan: EarlierScan
    maps: tuple[MapValues, ...]
    mitoses: StoredMitoses | None
    mitoses_lost: str
    own_threshold: float
    own_thresholds: Mapping[str, float]
    options: Mapping[str, Any]
    told: tuple[str, ...]
    journals: Mapping[str, int]

    @property
    def folder(self) -> Path:
        """Return where its results lie."""
        return self.scan.folder

    @property
    def model_name(self) -> str:
        """Return the name of the detector."""
        return self.scan.model_name

    @property
    def shown(self) -> Shown:
        """Return what its findings were last shown with."""
        return self.scan.shown

    @property
    def threshold(self) -> float:
        """Return the probability from which cells counted as tumour."""
        return self.shown.threshold


def earlier_results(slide: Slide, root: Path | None = None) -> tuple[EarlierScan, ...]:
    """Return every stored scan of a slide, the last written first; only headers and records are read.

    Parameters
    ----------
    slide
        The open slide.
    root
        Result folder; ``None`` for the one beside the slide, and those that were chosen for it in a window.
    """
    roots = (default_output(slide), *remembered_places(slide)) if root is None else (root,)
    found = []
    for stored in chain.from_iterable(map(stored_scans, {one.absolute(): one for one in roots}.values())):
        # The folder may hold scans of another slide that had this name, or of this one with another pixel size.
        known = stored.identity
        if known.get("slide") in (slide.fingerprint, slide.earlier_fingerprint) and known.get("mpp") == slide.mpp:
            found.append(stored)
    # Stable, so that of two at one time the one that was scanned last comes first.
    found.sort(key=lambda stored: _last_touched(stored.folder), reverse=True)
    return tuple(map(_described, found))


def load_result(slide: Slide, scan: EarlierScan) -> EarlierResult:
    """Return what one of the :func:`earlier_results` of a slide left, as it was left.

    Raises
    ------
    StorageError
        If its maps cannot be read, or the folder holds another scan by now.
    """
    journals = journals_of(scan.folder)
    described = next((one for one in earlier_results(slide, scan.folder) if one.identity == scan.identity), None)
    if described is None:
        raise StorageError(
            f"expected the result that lay in {scan.folder}, got none or another one; scan again, or choose another one"
        )
    record, mitoses, lost = record_of(scan.folder), None, ""
    try:
        mitoses = stored_mitoses(scan.folder, record, journals)
    except StorageError as error:
        # What was found of metastases is shown all the same.
        lost = str(error)
    return EarlierResult(
        scan=described,
        maps=maps_of_result(StoredScan(described.folder, described.identity, described.cell_um), record, journals),
        mitoses=mitoses,
        mitoses_lost=lost,
        own_threshold=scanned_with(record).threshold,
        own_thresholds=_own_thresholds(record),
        options=_recorded_options(record),
        told=recorded_notes(record),
        journals=journals,
    )


def maps_of_result(scan: StoredScan, record: Any, journals: Mapping[str, int]) -> tuple[MapValues, ...]:
    """Return the maps of a stored scan that its lesions may be read from: other passes may have left some beside them.

    Parameters
    ----------
    scan
        The scan.
    record
        What its folder's record says.
    journals
        How long the journals of the folder's maps are.

    Raises
    ------
    StorageError
        If the scan's own map cannot be read.
    """
    known, shares, files = recorded_journals(record), read_shown(record).shares, _recorded_files(record)

    def belongs(path: Path, name: str) -> bool:
        # What grew since the record was written is of a scan that was ended by force.
        if name == MITOSES.name:
            return False
        grown = known is not None and known.get(path.name) != journals.get(path.name)
        return files is None or grown or (name in shares and files.get(name, path.name) == path.name)

    return stored_maps(scan, belongs)


def earlier_result(slide: Slide, root: Path | None = None) -> EarlierResult | None:
    """Return what the latest scan of a slide that can be read left, as it was left; ``None`` where there is none.

    Parameters
    ----------
    slide
        The open slide.
    root
        As :func:`earlier_results` takes it.
    """
    for scan in earlier_results(slide, root):
        try:
            return load_result(slide, scan)
        except StorageError:
            continue
    return None


def _last_touched(folder: Path) -> float:
    """Return when a result was last scanned, or its files written, in seconds."""
    try:
        written = record_path(folder).stat().st_mtime
    except OSError:
        written = 0.0
    return max(written, last_written(heatmap_path(folder)))


def _described(stored: StoredScan) -> EarlierScan:
    folder, record = stored.folder, record_of(stored.folder)
    known = recorded_journals(record)
    # Where a scan went on and was ended by force, its record speaks of less than there is.
    is_current = record is not None and (known is None or known == journals_of(folder))
    ended = _recorded_end(record) if is_current else None
    return EarlierScan(
        folder=folder,
        identity=stored.identity,
        model_name=str(stored.identity.get("model", "")),
        when=_local_time(last_written(heatmap_path(folder))) if ended is None else ended,
        shown=read_shown(record),
        coverage=recorded_coverage(record) if is_current else None,
        cell_um=stored.cell_um,
    )


def _local_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def _recorded_end(record: Any) -> datetime | None:
    """Return when the latest scan on a record ended, in local time; ``None`` where nothing says so."""
    try:
        ended = datetime.fromisoformat(record["scans"][-1]["ended"])
        return ended.astimezone() if ended.tzinfo is not None else None
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError):
        return None


def recorded_coverage(record: Any) -> Coverage | None:
    """Return how much of the tissue a result answers for; ``None`` where its record does not say so."""
    try:
        return Coverage.from_json(record["coverage"])
    except (KeyError, TypeError, ValueError):
        return None


def _recorded_files(record: Any) -> dict[str, str] | None:
    """Return the file of each later map of a result, by the map's name; ``None`` where nothing says which it has."""
    try:
        return {str(one["map"]): str(one["file"]) for one in record["passes"]}
    except (KeyError, TypeError):
        return None


def _own_thresholds(record: Any) -> dict[str, float]:
    """Return the thresholds of single maps that a scan wrote its results with; nothing where one was asked for."""
    try:
        found = {str(name): float(value) for name, value in record["own_thresholds"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return found if all(0 < value <= 1 for value in found.values()) else {}


def _recorded_options(record: Any) -> dict[str, Any]:
    """Return the options that passes were made with, by their names."""
    found: dict[str, Any] = {}
    for task in pass_tasks():
        assert task.settings is not None
        # Damaged by hand, or of a later version: the usual ones are offered.
        with suppress(KeyError, TypeError, ValueError):
            usual, made = task.settings().to_json(), task.settings(**record["settings"][task.name]).to_json()
            found |= {name: type(usual[name])(value) for name, value in made.items()}
    return found


def recorded_notes(record: Any) -> tuple[str, ...]:
    """Return what the latest scan on a record told of its results; nothing where earlier versions wrote none."""
    try:
        notes = record["scans"][-1]["notes"]
        if not isinstance(notes, list):
            return ()
        told = (" ".join(str(note).split())[:_LONGEST_NOTE] for note in notes)
        return tuple(filter(None, (SlideStain.from_json(record["stain"]).text, *told)))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return ()
