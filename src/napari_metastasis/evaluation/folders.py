"""Detections in one folder, reference in another: paired by name, read, matched and scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.annotations import AnnotationSet
from napari_metastasis.cohorts.annotation_files import (
    annotation_key,
    annotation_suffix,
    doubts,
    holds_outlines,
    is_called_mask,
    open_masks,
    read_areas,
    slide_key,
    tumour_value_in,
)
from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED
from napari_metastasis.errors import AnnotationError, AnnotationWarning, EvaluationError, one_of_many
from napari_metastasis.evaluation.detections import SlideDetections, read_detections_csv
from napari_metastasis.evaluation.matching import SlideOutcome, match_slide
from napari_metastasis.evaluation.reference_lesions import SlideReference, reference_from_areas
from napari_metastasis.evaluation.scan_records import ScanRecord, read_scan_record
from napari_metastasis.evaluation.scoring import DetectionReport, LeftOut, score_slides
from napari_metastasis.settings import EvaluationSettings

__all__ = [
    "RESULTS",
    "ReferenceFiles",
    "check_pairs",
    "find_detections",
    "find_reference",
    "listed_in",
    "read_reference",
    "score_folders",
]

#: Of several files for a slide the first kind is taken.
_OUTLINES = (".xml", ".geojson", ".geojson.gz", ".json", ".json.gz")
_MAY_BE_OTHERS = (".json", ".json.gz")
_MASKS = (".tif", ".tiff", ".png")
#: The result folder of a scan, and the detections in it.
RESULTS, _DETECTIONS = ".metastasis", "detections.csv"
#: How CAMELYON calls slides whose names say what they are.
_TUMOUR = ("tumor_", "tumour_")
_TELLING = ("normal_", *_TUMOUR)
#: What brings files to one way of being shown.
_AGAIN = "scan all slides again, which takes no time where they are scanned,"
#: Names that an error lists.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class ReferenceFiles:
    """What is known of a slide's tumour."""

    outlines: Path | None = None
    mask: Path | None = None


def find_detections(folder: Path, *, inside: str = _DETECTIONS) -> dict[str, Path]:
    """Return the detections of each slide in a folder: ``<slide>.csv``, or a scan's ``<slide>.metastasis``.

    Parameters
    ----------
    folder
        The folder.
    inside
        Name of the file in a scan's result folder.

    Raises
    ------
    EvaluationError
        If there are none, or two of one slide.
    """
    files = {path.stem: path for path in listed_in(folder, "detections") if path.suffix.casefold() == ".csv"}
    for path in sorted(folder.glob(f"*{RESULTS}/{inside}")):
        name = path.parent.name.removesuffix(RESULTS)
        if name in files:
            raise EvaluationError(
                f"expected one file of detections for {name}, got {files[name]} and {path}; remove one"
            )
        files[name] = path
    if not files:
        raise EvaluationError(
            f"expected detections in {folder}, got no CSV files; give the folder with one <slide>.csv for each slide"
        )
    return dict(sorted(files.items()))


def find_reference(folder: Path) -> dict[str, ReferenceFiles]:
    """Return the reference of each slide below a folder, by the slide's name in lower case.

    Outlines bear the slide's name; masks do so too, with ``_mask`` behind it. Pictures without it are taken for masks
    where their folder is called so, or where nothing else is there.

    Raises
    ------
    EvaluationError
        If there is no such folder, or two files of one kind for a slide.
    """
    listed_in(folder, "truth")
    files = sorted(
        path
        for path in folder.rglob("*")
        # What a scan found is no reference, nor are figures of an evaluation.
        if annotation_suffix(path) in _OUTLINES + _MASKS
        and not any(part.endswith(RESULTS) for part in path.parts)
        and (annotation_suffix(path) not in _MAY_BE_OTHERS or holds_outlines(path))
    )
    outlines = _by_name((path for path in files if annotation_suffix(path) in _OUTLINES), _OUTLINES)
    pictures = [path for path in files if annotation_suffix(path) in _MASKS]
    named = [path for path in pictures if is_called_mask(path, path.parent.name)]
    masks = _by_name(named if named or outlines else pictures, _MASKS)
    return {name: ReferenceFiles(outlines.get(name), masks.get(name)) for name in sorted({*outlines, *masks})}


def listed_in(folder: Path, what: str) -> list[Path]:
    """Return what lies in a folder, in order of names.

    Raises
    ------
    EvaluationError
        If there is no such folder.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise EvaluationError(
            f"expected a folder with {what}, got {folder} ({error.strerror}); check the path"
        ) from error


def _by_name(files: Iterable[Path], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of each slide, of the first kind that it has."""
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: suffixes.index(annotation_suffix(path))):
        name = annotation_key(path)
        first = found.setdefault(name, path)
        if first != path and annotation_suffix(first) == annotation_suffix(path):
            raise EvaluationError(f"expected one file of truth for {name}, got {first} and {path}; remove one")
    return found


def read_reference(
    slide: str, files: ReferenceFiles, settings: EvaluationSettings, *, corner: tuple[float, float] = (0.0, 0.0)
) -> tuple[SlideReference, str]:
    """Return a slide's lesions, and what has to be said of what their file holds beside them.

    Parameters
    ----------
    slide
        The slide's name.
    files
        Neither outlines nor a mask means a normal slide.
    settings
        Which of both to take, the tumour value of masks (not 0), and how lesions are counted.
    corner
        (x, y) that GeoJSON counts from, in level-0 pixels.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or its outlines are of no group that means tumour.
    EvaluationError
        If a mask is larger than any slide.
    """
    chosen = _chosen(files, settings)
    areas = None if chosen is None else read_areas(chosen, corner=corner)
    if isinstance(areas, AnnotationSet) and areas.lacks_tumour:
        raise AnnotationError(areas.lack_of_tumour(chosen))
    return reference_from_areas(slide, areas, settings), doubts(areas, chosen)


def _chosen(files: ReferenceFiles, settings: EvaluationSettings) -> Path | None:
    if settings.truth_from == "outlines":
        return files.outlines
    return files.mask if settings.truth_from == "masks" or files.mask else files.outlines


def score_folders(
    detections: Path,
    reference: Path,
    settings: EvaluationSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionReport:
    """Score a folder of detections; a slide with a bad file is left out and named in the report.

    A slide without reference is normal, unless CAMELYON's naming says otherwise; the report names these slides.

    Parameters
    ----------
    detections
        One CSV for each slide; see :func:`find_detections`.
    reference
        Outlines or masks; see :func:`find_reference`. It may be the same folder.
    settings
        How to score.
    progress
        Called with (done, total) after every slide.

    Raises
    ------
    EvaluationError
        If a folder is missing, no slide can be scored, or the slides were scanned with different models.
    AnnotationError
        If the masks' values do not say which one is tumour.
    """
    found, known = find_detections(detections), find_reference(reference)
    settings = replace(settings, tumour_value=settings.tumour_value or _tumour_value(found, known, settings))
    outcomes: list[SlideOutcome] = []
    records: list[ScanRecord] = []
    left_out = list(_without_detections(found, known))
    if not settings.allow_unpaired:
        _check_pairs(found, known, [one.slide for one in left_out], settings)
    notes: list[str] = []
    for done, (slide, path) in enumerate(found.items(), 1):
        flaw = CAMELYON16_FLAWED.get(slide.casefold())
        if flaw is not None and not settings.keep_flawed:
            why = f"{flaw}; it is not scored, unless with --keep-flawed"
            left_out.append(LeftOut(slide, why, is_failure=False))
        else:
            faults: list[str] = []
            with one_of_many(faults.append):
                record = read_scan_record(path.parent) if path.parent.name.endswith(RESULTS) else None
                files = known.get(slide_key(slide), ReferenceFiles())
                outcome, note = _outcome(slide, path, files, settings, record)
                outcomes.append(outcome)
                notes += [note] if note else []
                records += [] if record is None else [record]
            left_out += [LeftOut(slide, why, is_failure=True) for why in faults]
        if progress is not None:
            progress(done, len(found))
    if not outcomes:
        last = left_out[-1]
        raise EvaluationError(f"expected slides to score, got none of {len(found)}: {last.slide}, for one: {last.why}")
    without = [
        one.slide for one in outcomes if _chosen(known.get(slide_key(one.slide), ReferenceFiles()), settings) is None
    ]
    measured = {**_scanned_with(records), **({"normal_without_truth": without} if without else {})}
    for note in notes:
        warnings.warn(note, AnnotationWarning, stacklevel=2)
    return score_slides(outcomes, settings, left_out=left_out, measured=measured, notes=notes)


def _check_pairs(
    found: Mapping[str, Path], known: Mapping[str, ReferenceFiles], without: list[str], settings: EvaluationSettings
) -> None:
    """Refuse names that do not pair: a tumour slide whose truth is called otherwise would count as normal.

    Raises
    ------
    EvaluationError
        If truth without detections lies beside detections without truth, of slides that are not called normal.
    """
    alone = [
        slide
        for slide in found
        if _chosen(known.get(slide_key(slide), ReferenceFiles()), settings) is None
        # Tumour slides without truth are refused one by one.
        and not slide.casefold().startswith(_TELLING)
    ]
    check_pairs(alone, without)


def check_pairs(alone: Sequence[str], without: Sequence[str]) -> None:
    """Refuse slides with detections alone beside slides with truth alone: their names may be misspelt.

    Raises
    ------
    EvaluationError
        If there are both.
    """
    if alone and without:
        raise EvaluationError(
            f"expected detections and truth of the same names, got detections alone of {_few(alone)}, and truth alone "
            f"of {_few(without)}; rename what belongs together, or add --allow-unpaired where it is meant so"
        )


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _outcome(
    slide: str, path: Path, files: ReferenceFiles, settings: EvaluationSettings, record: ScanRecord | None
) -> tuple[SlideOutcome, str]:
    """Return what became of a slide, and what has to be said of its reference."""
    found = read_detections_csv(path)
    named = SlideDetections(slide=slide, probabilities=found.probabilities, points=found.points)
    reference, note = read_reference(slide, files, settings, corner=(0.0, 0.0) if record is None else record.corner)
    if not reference.is_tumour and slide.casefold().startswith(_TUMOUR):
        chosen = _chosen(files, settings)
        raise EvaluationError(
            f"expected outlines or a mask of {slide}, which its name calls a tumour slide, got "
            f"{'none' if chosen is None else f'{chosen} without tumour'}; add them, or rename the slide if it is normal"
        )
    if reference.extent is None and record is not None:
        reference = replace(reference, extent=record.size)
    return match_slide(named, reference), note


def _scanned_with(records: list[ScanRecord]) -> dict[str, str]:
    """Return the model that all slides were scanned with, for the report.

    Raises
    ------
    EvaluationError
        If they were scanned with several, or their detections were written in several ways.
    """
    models = {record.weights_sha256: record.model for record in records}
    if len(models) > 1:
        listing = ", ".join(f"{name} ({sha[:8]})" for sha, name in sorted(models.items(), key=lambda item: item[1]))
        raise EvaluationError(f"expected scans of one model, got those of {listing}; scan all slides with one of them")
    thresholds = sorted({record.threshold for record in records if record.threshold is not None})
    if len(thresholds) > 1:
        raise EvaluationError(
            f"expected detections from one probability on, got some from {thresholds[0]:g} and some from "
            f"{thresholds[-1]:g}: a window writes those that it shows; {_AGAIN} at one --threshold"
        )
    read_from = sorted({record.read_from for record in records})
    if len(read_from) > 1:
        raise EvaluationError(
            f"expected detections that were all read from the same maps, got some from "
            f"{' and some from '.join(read_from)}: a window writes those that it shows; {_AGAIN} with the same options"
        )
    return {key: value for sha, name in models.items() for key, value in (("model", name), ("weights_sha256", sha))}


def _tumour_value(found: Mapping[str, Path], known: Mapping[str, ReferenceFiles], settings: EvaluationSettings) -> int:
    """Return the value of tumour in the masks that are scored."""
    chosen = (_chosen(known.get(slide_key(slide), ReferenceFiles()), settings) for slide in found)
    return tumour_value_in(open_masks(chosen))


def _without_detections(found: Mapping[str, Path], known: Mapping[str, ReferenceFiles]) -> Iterator[LeftOut]:
    scored = {slide_key(slide) for slide in found}
    for slide in known:
        if slide not in scored:
            yield LeftOut(slide, "it has truth but no detections; an empty CSV says that nothing was found", False)
