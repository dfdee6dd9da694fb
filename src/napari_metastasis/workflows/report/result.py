"""Reads a result folder back: what a report says, as the files there say it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.lesions import SIZE_CLASSES, Mitoses, SizeClass, SlideVerdict, listed, review_text
from napari_metastasis.lesions.texts import bounded, length_text, probability_text
from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning import MITOSES, Coverage, MapValues
from napari_metastasis.workflows.report.reported_lesions import ReportedLesion, damaged, number, read_lesions
from napari_metastasis.workflows.scan.earlier import maps_of_result, recorded_coverage, recorded_notes
from napari_metastasis.workflows.scan.listed_findings import list_findings
from napari_metastasis.workflows.scan.mitosis_results import listed_mitoses
from napari_metastasis.workflows.scan.result_folder import (
    OTHER_SETTINGS,
    heatmap_path,
    journals_of,
    record_path,
    stored_scans,
)
from napari_metastasis.workflows.scan.shown import Shown, nuclei_density, read_shown, recorded_journals

__all__ = [
    "ReportedCoverage",
    "ReportedModel",
    "ReportedResult",
    "find_results",
    "read_result",
    "result_maps",
    "results_inside",
]

_NOT_RECORDED = "How much of the tissue was scanned is not recorded: scan the slide again to know"


@dataclass(frozen=True, slots=True)
class ReportedCoverage:
    """How much of the tissue a result answers for.

    Attributes
    ----------
    text
        One sentence for a person.
    whole
        Whether it is all of the tissue; not where that was not recorded.
    share
        0 to 1; ``None`` where it is not recorded, or there is no tissue.
    without_tissue
        Whether the slide holds none, as far as the scan saw.
    state, short
        The same in a few words for a list of slides, and in one or two for a narrow column.
    """

    text: str
    whole: bool
    share: float | None
    without_tissue: bool
    state: str
    short: str

    @classmethod
    def of(cls, coverage: Coverage | None) -> ReportedCoverage:
        """Return what a report says of a coverage; ``None`` is one that is not recorded."""
        if coverage is None:
            return cls(
                text=_NOT_RECORDED,
                whole=False,
                share=None,
                without_tissue=False,
                state="Coverage not recorded",
                short="unknown",
            )
        return cls(
            text=coverage.text,
            whole=coverage.whole,
            share=coverage.share if coverage.tissue_cells else None,
            without_tissue=not coverage.tissue_cells,
            state=coverage.state,
            short="whole" if coverage.whole else coverage.percent or "no tissue",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedModel:
    """A model that had a share in a result.

    Attributes
    ----------
    name
        Its name.
    weights_sha256
        What tells its weights from others of this name.
    share
        Of the map of a later pass in what lesions are read from; ``None`` of the detector.
    map
        Name of the map that it wrote.
    """

    name: str
    weights_sha256: str
    share: float | None
    map: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportedResult:
    """What a result folder holds, but for its maps.

    Attributes
    ----------
    folder
        Where it lies.
    slide_path, slide_name
        The slide as it was scanned, and its name.
    fingerprint, mpp, mpp_supplied, swapped, size, bounds, format
        What is known of it; see :class:`~napari_metastasis.slides.Slide`.
    lesions
        In the order of the files: what a model found, with what people made of it, then the outlines of people. What
        these said is read from the corrections as they are now, whatever the tables say.
    told
        What has to be said of that besides, a line each.
    coverage
        How much of the tissue they speak for.
    slide_score
        Highest probability; ``None`` where nothing was scanned.
    threshold
        Probability from which tissue counts as tumour.
    shares
        Share of each later map in what lesions are read from, by its name; a map may be one of a scan that was ended
        by force, so that no model is known of it.
    shown_map
        Name of the map that is shown.
    models
        The detector, and the models of the passes after it.
    mitoses
        As the files have them, with what people say of them now; ``None`` where nobody looked for them.
    notes
        What a person has to know of the results, a line each.
    scanned
        When the last scan ended; ``None`` where that is not recorded.
    seconds
        Time that all its scans took together.
    version
        Of the program that wrote it.
    record
        All of ``run.json``.
    """

    folder: Path
    slide_path: str
    slide_name: str
    fingerprint: str
    mpp: float
    mpp_supplied: bool
    swapped: bool
    size: tuple[int, int]
    bounds: Region | None
    format: str
    lesions: tuple[ReportedLesion, ...]
    told: tuple[str, ...]
    coverage: ReportedCoverage
    slide_score: float | None
    threshold: float
    shares: Mapping[str, float]
    shown_map: str
    models: tuple[ReportedModel, ...]
    mitoses: Mitoses | None
    notes: tuple[str, ...]
    scanned: datetime | None
    seconds: float
    version: str
    record: Mapping[str, Any] = field(repr=False)

    @property
    def file_name(self) -> str:
        """Return the name of the slide's file, or of the folder of its files."""
        return _file_name(self.slide_path)

    @property
    def known_as(self) -> str:
        """Return by what the scan knows the slide: an outline keeps its id when an earlier version's scan goes on."""
        return str(self.record.get("heatmap", {}).get("identity", {}).get("slide", self.fingerprint))

    @property
    def counted(self) -> tuple[ReportedLesion, ...]:
        """Return the lesions that count: not those that a person took away, and none twice."""
        return tuple(lesion for lesion in self.lesions if lesion.counts)

    @property
    def found(self) -> tuple[ReportedLesion, ...]:
        """Return what a model found, without the outlines of people."""
        return tuple(lesion for lesion in self.lesions if lesion.id >= 0)

    @property
    def review_text(self) -> str:
        """Return what people said, in a line; empty where nobody did."""
        return review_text(self.lesions)

    @property
    def counts(self) -> dict[SizeClass, int]:
        """Return the number of lesions that count of each class, the smallest class first."""
        found = Counter(lesion.size_class for lesion in self.counted)
        return {key: found[key] for key in SIZE_CLASSES}

    @property
    def verdict(self) -> SlideVerdict:
        """Return the verdict on the slide by its lesions: what it is at least, where it was not scanned in full."""
        return listed.verdict(self.slide_name, self.lesions, whole=self.coverage.whole, why=self.coverage.state)

    @property
    def is_cut(self) -> bool:
        """Return whether a lesion is cut by the edge of what was scanned, so that it may be the largest."""
        return any(lesion.cut_by_edge for lesion in self.counted)

    @property
    def largest_mm(self) -> float | None:
        """Return the length of the longest lesion that counts; ``None`` where there is none."""
        return max((lesion.length_mm for lesion in self.counted if not lesion.is_point), default=None)

    @property
    def largest_text(self) -> str:
        """Return that length for a person, or what it is at least; empty where there is none."""
        return "" if self.largest_mm is None else bounded(length_text(self.largest_mm), cut=self.is_cut)

    @property
    def score_text(self) -> str:
        """Return the highest probability; empty where nothing was scanned."""
        return "" if self.slide_score is None else probability_text(self.slide_score)

    @property
    def largest_first(self) -> list[ReportedLesion]:
        """Return the lesions by their length, those that do not count at the end; of one length, as in the files."""
        return sorted(self.lesions, key=lambda lesion: (not lesion.counts, -lesion.length_mm))


def find_results(place: Path) -> list[Path]:
    """Return the result folders at a place: itself, or those in it that are called ``*.metastasis``.

    Results of other settings lie inside their slide's first one, see :func:`results_inside`; they are returned where
    that one holds none itself.
    """
    # Of a name that is too long, Path asks the disk in vain, and raises.
    if os.path.isfile(record_path(place)):
        return [place]
    if not os.path.isdir(place):
        return []
    return sorted(path for path in place.glob("*.metastasis") if os.path.isdir(path)) or results_inside(place)


def results_inside(folder: Path) -> list[Path]:
    """Return the results of other settings that lie inside a result folder."""
    return sorted(path for path in folder.glob(f"{OTHER_SETTINGS}*") if os.path.isfile(record_path(path)))


def read_result(folder: Path) -> ReportedResult:
    """Return what a result folder holds.

    Raises
    ------
    StorageError
        If it is none, or a file in it is damaged.
    """
    path = record_path(folder)
    try:
        record = read_json(path)
    except OSError as error:
        raise StorageError(
            f"expected a result folder, got {folder}, which holds no {path.name} ({error.strerror}); "
            "give the folder that 'scan' wrote"
        ) from error
    except ValueError as error:
        raise damaged(path, error) from error
    try:
        result = _result(folder, record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise damaged(path, error) from error
    _check_current(result)
    return result


def result_maps(result: ReportedResult) -> tuple[MapValues, ...]:
    """Return the maps of a result that lesions may be read from: the scan's own, then those of the passes after it.

    Raises
    ------
    StorageError
        If the scan's own map cannot be read.
    """
    folder = result.folder
    scan = next((one for one in stored_scans(folder) if one.folder == folder), None)
    if scan is None:
        raise StorageError(
            f"expected the heatmap of the result in {heatmap_path(folder)}, got none that can be read; scan the slide "
            "again"
        )
    return maps_of_result(scan, result.record, journals_of(folder))


def _check_current(result: ReportedResult) -> None:
    """Refuse findings that are not those of the maps or of the record: a scan was ended by force as it wrote them.

    Maps that were taken away with their folder are no obstacle: nothing is shown of them.
    """
    record, folder = result.record, result.folder
    known = recorded_journals(record)
    if known is not None and os.path.isdir(heatmap_path(folder)) and known != journals_of(folder):
        why = "findings of all that was scanned, got older ones"
    elif record.get("lesions", len(result.found)) != len(result.found):
        why = f"{record['lesions']} lesions as {record_path(folder).name} counts them, got {len(result.found)}"
    else:
        return
    raise StorageError(
        f"expected {why} in {folder}: a scan was ended by force, or is at work; scan the slide again, which goes on "
        "from what is there"
    )


def _result(folder: Path, record: Any) -> ReportedResult:
    slide = record["slide"]
    bounds = slide.get("bounds")
    shown = read_shown(record)
    scans = record["scans"]
    known_bounds = None if bounds is None else Region(*map(int, bounds))
    ended = scans[-1].get("ended") if scans else None
    path = str(slide["path"])
    if slide.get("folder"):
        # The path is as it was given, in whatever folder that was.
        path = str(Path(str(slide["folder"])) / _file_name(path))
    mpp = number(slide["mpp"])
    if not mpp > 0:
        raise ValueError("a pixel size that is none")
    size = Size(int(slide["size"][0]), int(slide["size"][1]))
    findings = list_findings(
        folder,
        () if _only_mitoses(folder, record) else read_lesions(folder, known_bounds),
        bounds=known_bounds,
        size=size,
        mpp=mpp,
        nuclei_per_mm2=nuclei_density(record),
    )
    return ReportedResult(
        folder=folder,
        slide_path=path,
        # Earlier versions did not record it: of a folder, what stands behind a dot is then lost.
        slide_name=str(slide.get("name") or Path(_file_name(path)).stem),
        fingerprint=str(slide["fingerprint"]),
        mpp=mpp,
        mpp_supplied=bool(slide.get("mpp_supplied", False)),
        swapped=bool(slide.get("swapped", False)),
        size=(size.width, size.height),
        bounds=known_bounds,
        format=str(slide.get("format", "")),
        lesions=(*findings.listed.found, *map(ReportedLesion.of, findings.listed.drawn)),
        told=findings.notes,
        coverage=ReportedCoverage.of(recorded_coverage(record)),
        slide_score=None if record.get("slide_score") is None else number(record["slide_score"]),
        threshold=shown.threshold,
        shares=shown.shares,
        shown_map=shown.map,
        models=_models(record, shown),
        mitoses=listed_mitoses(folder, record),
        notes=recorded_notes(record),
        scanned=None if ended is None else datetime.fromisoformat(str(ended)),
        seconds=sum(number(scan.get("seconds", 0)) for scan in scans),
        version=str(record.get("versions", {}).get("napari-metastasis", "")),
        record=record,
    )


def _only_mitoses(folder: Path, record: Any) -> bool:
    """Return whether nobody looked for metastases, so that there are no tables of them."""
    coverage = recorded_coverage(record)
    sought = coverage is None or coverage.answered_cells > 0
    return "mitoses" in record and not sought and not os.path.exists(folder / "lesions.csv")


def _file_name(path: str) -> str:
    """Return the last part of a path, which may have been written on another system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _models(record: Mapping[str, Any], shown: Shown) -> tuple[ReportedModel, ...]:
    detector = record["model"]
    found = [
        ReportedModel(name=detector["name"], weights_sha256=detector["weights_sha256"], share=None, map="probability")
    ]
    for one in record.get("passes", ()):
        model = one["model"]
        share = None if one["map"] == MITOSES.name else shown.shares.get(one["map"], 0.0)
        found.append(
            ReportedModel(name=model["name"], weights_sha256=model["weights_sha256"], share=share, map=one["map"])
        )
    return tuple(found)
