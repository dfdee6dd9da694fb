"""What people said of the findings of a result: counted, written for other programs, and read from their files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from napari_metastasis.annotations import (
    AnnotationSet,
    Corrections,
    CorrectionsFile,
    CorrectionStore,
    PointSet,
    annotations_of_corrections,
    corrections_of,
    corrections_of_points,
    read_corrections,
    read_points,
    write_asap_xml,
    write_corrections,
    write_dsa_json,
)
from napari_metastasis.annotations.asap import POINT_KINDS
from napari_metastasis.annotations.corrections_file import CLASSES, READ
from napari_metastasis.annotations.points import NO_CLASS
from napari_metastasis.annotations.reading import Tell, part_of, silent
from napari_metastasis.cohorts.annotation_files import annotation_format, annotation_suffix, geojson_corner, read_areas
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import Region
from napari_metastasis.lesions import Mitoses, review_counts
from napari_metastasis.storage import check_new
from napari_metastasis.workflows.report import ReportedResult, read_result, update_slide
from napari_metastasis.workflows.scan.earlier import recorded_coverage
from napari_metastasis.workflows.scan.result_folder import corrections_folder
from napari_metastasis.workflows.scan.review_mark import read_review

__all__ = [
    "ExportedCorrections",
    "ImportedCorrections",
    "SlideReview",
    "export_review",
    "import_review",
    "put_together",
    "read_from",
    "read_slide_review",
    "write_for",
]

Reviewed = Literal["yes", "no", "changed since"]

#: What the file of corrections is called for another program, unless told otherwise.
_FILES: Mapping[str, str] = {
    "asap": "annotations.xml",
    "dsa": "annotations.dsa.json",
    "geojson": "annotations.export.geojson",
}


@dataclass(frozen=True, slots=True)
class SlideReview:
    """What was said of one slide.

    Attributes
    ----------
    folder
        The result folder.
    slide
        The slide's name.
    counts
        Findings of each state, as the files of the result count them; of those, how many have to be looked at again;
        regions that were called normal or to be ignored where no model had found anything; and places that somebody
        marked and left undecided. Mitoses of each state, if any were looked for.
    told
        What has to be said besides, a line each.
    reviewed
        Whether somebody ticked the slide as looked through: "yes", "no", or "changed since", where other findings are
        shown now.
    reviewers
        Who made the corrections, sorted.
    """

    folder: Path
    slide: str
    counts: Mapping[str, int]
    told: tuple[str, ...]
    reviewed: Reviewed
    reviewers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExportedCorrections:
    """Corrections that were written for another program.

    Attributes
    ----------
    path
        The file.
    written
        How many areas, and points of mitoses.
    omitted
        What the format has no word for: of each kind, as a plural noun, how many.
    """

    path: Path
    written: int
    omitted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ImportedCorrections:
    """Corrections that were read from another program's file.

    Attributes
    ----------
    added, changed, same, older
        How many were new, how many took the place of an earlier one of the same key, how many were there already, and
        how many were left out because what is there is newer.
    omitted
        What was not understood: of each kind, as a plural noun, how many.
    faults
        Which other results of the slide do not follow, a line each.
    """

    added: int
    changed: int
    same: int
    older: int
    omitted: Mapping[str, int]
    faults: tuple[str, ...] = ()


def read_slide_review(folder: Path) -> SlideReview:
    """Return what was said of the slide of a result folder.

    Raises
    ------
    StorageError
        If the folder is no result.
    AnnotationError
        If its corrections are damaged.
    """
    result = read_result(folder)
    corrections = _store(result).read()
    regions = Counter(one.label for one in corrections if one.found is None)
    counts = {
        **{str(state): count for state, count in review_counts(result.lesions).items() if state != "unknown"},
        "look_again": sum(one.review is not None and not one.review.is_clear for one in result.lesions),
        "normal_regions": regions["normal"],
        "ignored_regions": regions["ignore"],
        "undecided": sum(one.label == "undecided" for one in corrections),
        **({} if result.mitoses is None else _of_mitoses(result.mitoses)),
    }
    reviewers = sorted({one.reviewer for one in corrections if one.reviewer})
    return SlideReview(folder, result.slide_name, counts, result.told, _reviewed(result), tuple(reviewers))


def _of_mitoses(mitoses: Mitoses) -> dict[str, int]:
    """Return how many mitoses of each state there are."""
    return {f"mitoses_{state}": count for state, count in mitoses.states.items() if state != "unknown"}


def _reviewed(result: ReportedResult) -> Reviewed:
    """Return whether somebody looked through what a result shows: these answers, at this threshold."""
    mark, coverage = read_review(result.folder), recorded_coverage(result.record)
    if mark is None:
        return "no"
    is_of_this = coverage is not None and mark.answered_cells == coverage.answered_cells
    return "yes" if is_of_this and mark.threshold == result.threshold else "changed since"


def export_review(folder: Path, to: str, *, output: Path | None = None, overwrite: bool = False) -> ExportedCorrections:
    """Write the corrections of a result for another program.

    Parameters
    ----------
    folder
        The result folder.
    to
        "asap", "dsa" or "geojson".
    output
        File to write; by default one in the result folder.
    overwrite
        Whether an earlier file is replaced.

    Raises
    ------
    StorageError
        If the folder is no result, the file is there already, or the disk refuses.
    AnnotationError
        If the corrections are damaged.
    """
    result = read_result(folder)
    store = _store(result)
    path = folder / _FILES[to] if output is None else output
    if os.path.realpath(path) == os.path.realpath(store.path):
        raise StorageError(f"expected a new file, got {path}, which holds the corrections themselves; choose another")
    check_new(path, overwrite=overwrite)
    return write_for(to, path, store.read(), slide=result.slide_name, bounds=result.bounds)


def write_for(
    to: str, path: Path, corrections: Corrections, *, slide: str, bounds: Region | None
) -> ExportedCorrections:
    """Write corrections for another program; an existing file is replaced.

    Parameters
    ----------
    to
        "asap", "dsa" or "geojson".
    path
        File to write.
    corrections
        All of the slide.
    slide
        Its name.
    bounds
        Its bounds, if it states any.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    if to == "geojson":
        write_corrections(path, corrections, bounds=bounds)
        return ExportedCorrections(path, len(corrections), {})
    areas = annotations_of_corrections(corrections)
    if to == "asap":
        said, places = corrections.mitoses, corrections.mitoses_px.tolist()
        dots = [((x, y), CLASSES[one.label][0]) for one, (x, y) in zip(said, places, strict=True)]
        write_asap_xml(path, areas, dots=dots)
        omitted = {what: count for what, count in areas.omitted.items() if what != "points of mitoses"}
        return ExportedCorrections(path, len(areas) + len(dots), omitted)
    write_dsa_json(path, areas, name=f"Corrections of {slide}")
    return ExportedCorrections(path, len(areas), areas.omitted)


def import_review(folder: Path, path: Path, *, reviewer: str = "") -> ImportedCorrections:
    """Add the outlines of a file to the corrections of a result; of one key, the later stands.

    The tables of the slide's results follow.

    Parameters
    ----------
    folder
        The result folder.
    path
        GeoJSON, as this program or QuPath writes it, ASAP's XML, JSON of the Digital Slide Archive, or CSV of mitoses.
    reviewer
        Who drew them, where the file does not say so.

    Raises
    ------
    StorageError
        If the folder is no result, or the disk refuses.
    AnnotationError
        If the file or the corrections are damaged.
    """
    result = read_result(folder)
    read = read_from(path, bounds=result.bounds, reviewer=reviewer)
    store = _store(result)
    held = store.read()
    together, told = put_together(held, read)
    if told.added or told.changed:
        store.save(together)
    # Also where nothing is new: an earlier import may have been stopped before this.
    return replace(told, faults=update_slide(folder))


def put_together(held: Corrections, read: CorrectionsFile) -> tuple[Corrections, ImportedCorrections]:
    """Return corrections with those of a file, and what became of these; of one key, the later stands."""
    fresh, changed, older = [], [], 0
    for one in read.corrections:
        before = held.by_key.get(one.key)
        if before is None:
            fresh.append(one)
        elif one.key in read.drawn:
            # The same outline, of which its file says nothing new.
            continue
        elif one.at > before.at and replace(one, at=before.at) != before:
            changed.append(one)
        elif one.at < before.at:
            older += 1
    same = len(read.corrections) - len(fresh) - len(changed) - older
    return held.with_(*fresh, *changed), ImportedCorrections(len(fresh), len(changed), same, older, read.omitted)


def _store(result: ReportedResult) -> CorrectionStore:
    return CorrectionStore(corrections_folder(result.folder), bounds=result.bounds)


def read_from(path: Path, *, bounds: Region | None, reviewer: str, tell: Tell = silent) -> CorrectionsFile:
    """Read another program's file of outlines.

    Parameters
    ----------
    path
        GeoJSON, as this program or QuPath writes it, ASAP's XML, JSON of the Digital Slide Archive, or CSV of mitoses.
    bounds
        The slide's bounds, if it states any.
    reviewer
        Who drew them, where the file does not say so.
    tell
        Takes the share that is read, 0 to 1; it may raise, to end the reading.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or is a mask.
    """
    if annotation_suffix(path) == ".csv":
        # It holds nothing but points: those of no class are meant, too.
        found, others = corrections_of_points(read_points(path), reviewer=reviewer)
        return CorrectionsFile(Corrections(), found, omitted=others)
    written_as = annotation_format(path)
    if written_as == "geojson":
        return read_corrections(path, bounds=bounds, reviewer=reviewer, tell=tell)
    areas = read_areas(path, corner=geojson_corner(bounds), tell=part_of(tell, 0.0, READ))
    if not isinstance(areas, AnnotationSet):
        raise AnnotationError(f"expected outlines, got the mask {path}; export the outlines that it was drawn from")
    drawn, omitted = corrections_of(areas, reviewer=reviewer, tell=part_of(tell, READ, 1.0))
    if written_as == "asap":
        mitoses, left = _mitoses_of_asap(path, reviewer)
        drawn = drawn.with_(*mitoses)
        omitted = {**{what: count for what, count in omitted.items() if what not in POINT_KINDS}, **left}
    return CorrectionsFile(Corrections(), drawn, omitted=omitted)


def _mitoses_of_asap(path: Path, reviewer: str) -> tuple[Corrections, Mapping[str, int]]:
    """Return the dots whose group says that they are mitoses, or none, and how many others there are."""
    points = read_points(path)
    named = np.array([name != NO_CLASS for name in points.classes], np.bool_)
    classes = tuple(name for name in points.classes if name != NO_CLASS)
    found, left = corrections_of_points(PointSet(points.xy[named], classes), reviewer=reviewer)
    without = len(points) - len(classes)
    return found, {**left, **({"points of no group": without} if without else {})}
