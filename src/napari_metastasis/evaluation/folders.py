"""Detections in one folder, truth in another: paired by name, read, matched and scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.annotations import (
    CAMELYON16_FLAWED,
    detect_tumour_value,
    read_asap_xml,
    read_geojson,
    read_mask,
    tumour_pixels,
)
from napari_metastasis.errors import AnnotationError, EvaluationError, MetastasisError
from napari_metastasis.evaluation.detections import SlideDetections, read_detections_csv
from napari_metastasis.evaluation.matching import SlideOutcome, match_slide
from napari_metastasis.evaluation.scoring import DetectionReport, LeftOut, score_slides
from napari_metastasis.evaluation.truth import SlideTruth, truth_from_annotations, truth_from_mask
from napari_metastasis.settings import EvaluationSettings

__all__ = ["TruthFiles", "find_detections", "find_truth", "read_truth", "score_folders"]

#: How masks are called: ``Tumor_001_Mask``, ``Test_001_evaluation_mask``, ``Tumor_005_mask_level5``.
_MASK_NAME = re.compile(r"[_-](?:evaluation[_-])?(?:tumou?r[_-])?mask(?:[_-]level\d+)?$")
#: Of several files for a slide the first kind is taken.
_OUTLINES = (".xml", ".geojson")
_MASKS = (".tif", ".tiff", ".png")
#: No slide is larger: a mask that seems to be is of a finer level than it is taken for.
_LARGEST_SLIDE_PX = 400_000
#: The result folder of a scan, and the detections in it.
_RESULTS, _DETECTIONS = ".metastasis", "detections.csv"


@dataclass(frozen=True, slots=True)
class TruthFiles:
    """What is known of a slide's tumour."""

    outlines: Path | None = None
    mask: Path | None = None


def find_detections(folder: Path) -> dict[str, Path]:
    """Return the detections of each slide in a folder: ``<slide>.csv``, or a scan's ``<slide>.metastasis``.

    Raises
    ------
    EvaluationError
        If there are none, or two of one slide.
    """
    files = {path.stem: path for path in _listed(folder, "detections") if path.suffix.casefold() == ".csv"}
    for path in sorted(folder.glob(f"*{_RESULTS}/{_DETECTIONS}")):
        name = path.parent.name.removesuffix(_RESULTS)
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


def find_truth(folder: Path) -> dict[str, TruthFiles]:
    """Return the truth of each slide below a folder, by the slide's name in lower case.

    Outlines bear the slide's name; masks do so too, with ``_mask`` behind it. Pictures without it are taken for masks
    where their folder is called so, or where nothing else is there.

    Raises
    ------
    EvaluationError
        If there is no such folder.
    """
    _listed(folder, "truth")
    files = sorted(
        path
        for path in folder.rglob("*")
        # What a scan found is no truth.
        if path.suffix.casefold() in _OUTLINES + _MASKS and not any(part.endswith(_RESULTS) for part in path.parts)
    )
    outlines = _by_name((path for path in files if path.suffix.casefold() in _OUTLINES), _OUTLINES)
    pictures = [path for path in files if path.suffix.casefold() in _MASKS]
    named = [path for path in pictures if _is_named_mask(path)]
    masks = _by_name(named if named or outlines else pictures, _MASKS)
    return {name: TruthFiles(outlines.get(name), masks.get(name)) for name in sorted({*outlines, *masks})}


def _is_named_mask(path: Path) -> bool:
    return _MASK_NAME.search(path.stem.casefold()) is not None or "mask" in path.parent.name.casefold()


def _listed(folder: Path, what: str) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise EvaluationError(
            f"expected a folder with {what}, got {folder} ({error.strerror}); check the path"
        ) from error


def _by_name(files: Iterable[Path], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of each slide, of the first kind that it has."""
    ordered = sorted(files, key=lambda path: suffixes.index(path.suffix.casefold()), reverse=True)
    return {_MASK_NAME.sub("", path.stem.casefold()): path for path in ordered}


def read_truth(slide: str, files: TruthFiles, settings: EvaluationSettings) -> SlideTruth:
    """Return a slide's lesions.

    Parameters
    ----------
    slide
        The slide's name.
    files
        Neither outlines nor a mask means a normal slide.
    settings
        Which of both to take, the tumour value of masks (not 0), and how lesions are counted.

    Raises
    ------
    AnnotationError
        If the file cannot be read.
    EvaluationError
        If a mask is larger than any slide.
    """
    chosen = _chosen(files, settings)
    if chosen is None:
        return SlideTruth(slide=slide, is_tumour=False, downsample=settings.downsample, mpp=settings.mpp)
    if chosen != files.mask:
        reader = read_asap_xml if chosen.suffix.casefold() == ".xml" else read_geojson
        return truth_from_annotations(slide, reader(chosen), settings)
    mask = read_mask(chosen, downsample=settings.downsample, stored_downsample=settings.mask_downsample)
    if max(mask.extent) > _LARGEST_SLIDE_PX:
        width, height = mask.extent
        raise EvaluationError(
            f"expected the mask of a slide, got one of {width:g} x {height:g} level-0 pixels in {chosen}; "
            "state its level with --mask-downsample"
        )
    tumour = tumour_pixels(mask.values, mask.stored_values, settings.tumour_value)
    return truth_from_mask(slide, tumour, settings, extent=mask.extent)


def _chosen(files: TruthFiles, settings: EvaluationSettings) -> Path | None:
    if settings.truth_from == "outlines":
        return files.outlines
    return files.mask if settings.truth_from == "masks" or files.mask else files.outlines


def score_folders(
    detections: Path,
    truth: Path,
    settings: EvaluationSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionReport:
    """Score a folder of detections; a slide with a bad file is left out and named in the report.

    A slide without truth is normal, unless CAMELYON's naming says otherwise.

    Parameters
    ----------
    detections
        One CSV for each slide; see :func:`find_detections`.
    truth
        Outlines or masks; see :func:`find_truth`. It may be the same folder.
    settings
        How to score.
    progress
        Told (done, total) after every slide.

    Raises
    ------
    EvaluationError
        If a folder is missing, or no slide can be scored.
    AnnotationError
        If the masks' values do not say which one is tumour.
    """
    found, known = find_detections(detections), find_truth(truth)
    settings = replace(settings, tumour_value=settings.tumour_value or _tumour_value(found, known, settings))
    outcomes: list[SlideOutcome] = []
    left_out = list(_without_detections(found, known))
    for done, (slide, path) in enumerate(found.items(), 1):
        flaw = CAMELYON16_FLAWED.get(slide.casefold())
        if flaw is not None and not settings.keep_flawed:
            why = f"{flaw}; it is not scored, unless with --keep-flawed"
            left_out.append(LeftOut(slide, why, is_failure=False))
        else:
            try:
                outcomes.append(_outcome(slide, path, known.get(slide.casefold(), TruthFiles()), settings))
            except MetastasisError as error:
                left_out.append(LeftOut(slide, str(error), is_failure=True))
        if progress is not None:
            progress(done, len(found))
    if not outcomes:
        last = left_out[-1]
        raise EvaluationError(f"expected slides to score, got none of {len(found)}: {last.slide}, for one: {last.why}")
    return score_slides(outcomes, settings, left_out=left_out)


def _outcome(slide: str, path: Path, files: TruthFiles, settings: EvaluationSettings) -> SlideOutcome:
    found = read_detections_csv(path)
    named = SlideDetections(slide=slide, probabilities=found.probabilities, points=found.points)
    if _chosen(files, settings) is None and slide.casefold().startswith(("tumor_", "tumour_")):
        raise EvaluationError(
            f"expected outlines or a mask of {slide}, which its name calls a tumour slide, got none; add them, or "
            "rename the slide if it is normal"
        )
    return match_slide(named, read_truth(slide, files, settings))


def _tumour_value(found: Mapping[str, Path], known: Mapping[str, TruthFiles], settings: EvaluationSettings) -> int:
    """Return the value of tumour in the masks of all slides: one alone may hold only normal tissue."""
    values: list[frozenset[int]] = []
    for files in (known.get(slide.casefold(), TruthFiles()) for slide in found):
        if files.mask is not None and _chosen(files, settings) == files.mask:
            # A mask that cannot be read is named when its slide is scored.
            with suppress(AnnotationError):
                mask = read_mask(files.mask, downsample=settings.downsample, stored_downsample=settings.mask_downsample)
                values.append(mask.stored_values)
    return detect_tumour_value(values, "the masks")


def _without_detections(found: Mapping[str, Path], known: Mapping[str, TruthFiles]) -> Iterator[LeftOut]:
    scored = {slide.casefold() for slide in found}
    for slide in known:
        if slide not in scored:
            yield LeftOut(slide, "it has truth but no detections; an empty CSV says that nothing was found", False)
