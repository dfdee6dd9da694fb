"""Points that were found in one folder, points that a person set in another: paired by name, matched and scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.annotations import AnnotationSet, read_points
from napari_metastasis.annotations.geojson import read_document
from napari_metastasis.annotations.midog import is_midog
from napari_metastasis.cohorts.annotation_files import (
    annotation_key,
    annotation_suffix,
    is_called_mask,
    is_mask,
    read_areas,
    slide_key,
)
from napari_metastasis.cohorts.point_reference import PointReference, column_order, no_points, point_reference
from napari_metastasis.errors import AnnotationError, EvaluationError, one_of_many
from napari_metastasis.evaluation.detections import SlideDetections, read_detections_csv
from napari_metastasis.evaluation.folders import RESULTS, check_pairs, find_detections, listed_in
from napari_metastasis.evaluation.point_matching import match_points
from napari_metastasis.evaluation.point_report import PointReport, SlidePoints, score_points, thresholds_of
from napari_metastasis.evaluation.scan_records import MitosisRecord, read_mitosis_record
from napari_metastasis.evaluation.scoring import LeftOut
from napari_metastasis.settings import THRESHOLD, PointScoringSettings

__all__ = ["PointFile", "find_points", "holds_points", "score_point_folders"]

#: What mitoses are called in a result folder.
_FOUND = "mitoses.csv"
_OF_POINTS = (".xml", ".geojson", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class PointFile:
    """Where the points of a slide are set.

    Attributes
    ----------
    path
        The file.
    slide
        By which name it knows the slide, where it speaks of several.
    """

    path: Path
    slide: str | None = None


def find_points(place: Path) -> dict[str, PointFile]:
    """Return where the points of each slide are set, by the slide's name in lower case.

    Parameters
    ----------
    place
        A folder of files that bear their slides' names, or one file of MIDOG's JSON.

    Raises
    ------
    EvaluationError
        If there is no such place, or two files speak of a slide.
    """
    found: dict[str, PointFile] = {}
    for path in _files(place):
        for name, one in _slides_of(path):
            if name in found:
                raise EvaluationError(
                    f"expected one file of truth for {name}, got {found[name].path} and {path}; remove one"
                )
            found[name] = one
    return dict(sorted(found.items()))


def _files(place: Path) -> list[Path]:
    if os.path.isfile(place):
        return [place]
    listed_in(place, "truth")
    found = sorted(path for path in place.rglob("*") if annotation_suffix(path) in _OF_POINTS)
    # What a scan found is no truth.
    return [path for path in found if not any(part.endswith(RESULTS) for part in path.parts)]


def _slides_of(path: Path) -> Iterator[tuple[str, PointFile]]:
    """Yield the names of the slides that a file speaks of."""
    if path.suffix.lower() == ".json":
        with suppress(AnnotationError, KeyError, TypeError):
            document = read_document(path)
            if is_midog(document):
                names = [str(image["file_name"]) for image in document["images"]]
                yield from ((slide_key(Path(name).stem), PointFile(path, name)) for name in names)
                return
    yield annotation_key(path), PointFile(path)


def holds_points(place: Path, detections: Path) -> bool:
    """Return whether truth is points: there are some, and neither outlines of tumour nor masks.

    Parameters
    ----------
    place
        Of the truth.
    detections
        Of what was found: where both are one folder, its CSV files are that, and no truth.
    """
    # Slides may lie there as well: pictures that are not called masks say nothing.
    pictures = (path for path in place.rglob("*") if is_mask(path)) if os.path.isdir(place) else ()
    if any(is_called_mask(path, path.parent.name) for path in pictures):
        return False
    is_same = os.path.realpath(place) == os.path.realpath(detections)
    any_points = False
    for path in _files(place):
        with suppress(AnnotationError):
            if path.suffix.lower() != ".csv" and _outlines_tumour(path):
                return False
        if any_points or (is_same and path.suffix.lower() == ".csv"):
            continue
        with suppress(AnnotationError, EvaluationError):
            any_points = any(_has_points(path, one.slide) for _, one in _slides_of(path))
    return any_points


def _outlines_tumour(path: Path) -> bool:
    areas = read_areas(path, corner=(0.0, 0.0))
    return isinstance(areas, AnnotationSet) and len(areas.tumour) > 0


def _has_points(path: Path, slide: str | None) -> bool:
    # In either order they are points.
    points = read_points(path, slide=slide, order="xy")
    return len(points) + len(points.unreviewed) > 0


def score_point_folders(
    detections: Path,
    truth: Path,
    settings: PointScoringSettings,
    *,
    mpp: float | None,
    threshold: float = 0.0,
    allow_unpaired: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PointReport:
    """Score a folder of points that were found; a slide with a bad file is left out and named in the report.

    A slide without points that were set is taken for one without mitoses; the report names these slides.

    Parameters
    ----------
    detections
        ``<slide>.csv`` for each slide, with a first line that names ``x``, ``y`` and ``probability``, or rows of
        probability, x, y without one; or result folders, ``<slide>.metastasis``.
    truth
        See :func:`find_points`.
    settings
        How to score.
    mpp
        µm per level-0 pixel, where no result folder says so.
    threshold
        Probability from which points count as found; 0 takes that of the scans, or 0.5 where there are none.
    allow_unpaired
        Whether names that do not pair are meant so.
    progress
        Called with (done, total) after every slide.

    Raises
    ------
    EvaluationError
        If a folder is missing, no slide can be scored, a pixel size is missing, or the scans are of several models.
    """
    found, known = find_detections(detections, inside=_FOUND), find_points(truth)
    scored = {slide_key(slide) for slide in found}
    unscored = "it has truth but no detections; an empty CSV says that nothing was found"
    left_out = [LeftOut(slide, unscored, is_failure=False) for slide in known if slide not in scored]
    alone = [slide for slide in found if slide_key(slide) not in known]
    if not allow_unpaired:
        check_pairs(alone, [one.slide for one in left_out])
    read: list[tuple[SlideDetections, PointReference, MitosisRecord | None]] = []
    for done, (slide, path) in enumerate(found.items(), 1):
        faults: list[str] = []
        with one_of_many(faults.append):
            record = read_mitosis_record(path.parent) if path.name == _FOUND else None
            reference = _reference(known.get(slide_key(slide)), record, settings)
            read.append((replace(read_detections_csv(path), slide=slide), reference, record))
        left_out += [LeftOut(slide, why, is_failure=True) for why in faults]
        if progress is not None:
            progress(done, len(found))
    if not read:
        last = left_out[-1]
        raise EvaluationError(f"expected slides to score, got none of {len(found)}: {last.slide}, for one: {last.why}")
    records = [record for _, _, record in read if record is not None]
    model, floor = _scanned_with(records)
    at = threshold or floor or THRESHOLD
    if at < floor:
        raise EvaluationError(
            f"expected a threshold of at least {floor:g}, from which the scans wrote points, got {at:g}; scan again "
            "with a lower --mitosis-threshold, which takes no time where slides are scanned"
        )
    thresholds = thresholds_of(settings, threshold=at, floor=floor)
    slides = [_points(one, reference, thresholds, record, settings, mpp) for one, reference, record in read]
    scored_names = {one.slide for one in slides}
    without = [slide for slide in alone if slide in scored_names]
    notes = [reference.doubts for _, reference, _ in read if reference.doubts]
    return score_points(
        slides, settings, threshold=at, left_out=left_out, measured=model, notes=notes, without_points=without
    )


def _reference(file: PointFile | None, record: MitosisRecord | None, settings: PointScoringSettings) -> PointReference:
    if file is None:
        return no_points()
    corner = (0.0, 0.0) if record is None else record.corner
    order = column_order(settings.order)
    points = read_points(file.path, shift=corner, slide=file.slide, order=order)
    return point_reference(points, path=file.path, size=None if record is None else record.size)


def _points(
    found: SlideDetections,
    reference: PointReference,
    thresholds: tuple[float, ...],
    record: MitosisRecord | None,
    settings: PointScoringSettings,
    mpp: float | None,
) -> SlidePoints:
    own = mpp if record is None else record.mpp
    if own is None:
        raise EvaluationError(
            f"expected the pixel size of level 0 to match points of {found.slide} within {settings.radius_um:g} µm, "
            "got none; give --mpp, in µm"
        )
    # What is less sure than a threshold takes no set point away from what is surer.
    outcome = match_points(
        found.slide,
        found=found.points,
        probability=found.probabilities,
        reference=reference.mitoses,
        mpp=own,
        radius_um=settings.radius_um,
    )
    return SlidePoints(found.slide, dict.fromkeys(thresholds, outcome), None if record is None else record.tissue_mm2)


def _scanned_with(records: list[MitosisRecord]) -> tuple[Mapping[str, str], float]:
    """Return the model that all slides were scanned with, and the probability from which points were written.

    Raises
    ------
    EvaluationError
        If they are several.
    """
    models = {record.weights_sha256: record.model for record in records}
    if len(models) > 1:
        listing = ", ".join(f"{name} ({sha[:8]})" for sha, name in sorted(models.items(), key=lambda item: item[1]))
        raise EvaluationError(f"expected scans of one model, got those of {listing}; scan all slides with one of them")
    floors = sorted({record.threshold for record in records})
    if len(floors) > 1:
        raise EvaluationError(
            f"expected points from one probability on, got some from {floors[0]:g} and some from {floors[-1]:g}; scan "
            "all slides again, which takes no time where they are scanned, at one --mitosis-threshold"
        )
    told = {key: value for sha, name in models.items() for key, value in (("model", name), ("weights_sha256", sha))}
    return told, floors[0] if floors else 0.0
