"""Folders of slides as CAMELYON16, CAMELYON17 and others lay them out; only names are looked at, never contents.

The distributions of CAMELYON16 differ in their folders and in capitals (``training/tumor/tumor_001.tif``,
``TrainingData/Train_Tumor/Tumor_001.tif``, ``images/tumor_001.tif``), but hardly in the names of their files: slides
and annotations are found anywhere below the root, and belong together by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from napari_metastasis.cohorts.annotation_files import (
    annotation_key,
    annotation_suffix,
    holds_outlines,
    holds_tissue_masks,
    is_called_mask,
    slide_key,
)
from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED, CAMELYON16_NOT_EXHAUSTIVE
from napari_metastasis.cohorts.cohort_slide import Cohort, CohortSlide, LayoutName, LeftOutSlide, Split
from napari_metastasis.errors import CohortError, NotASlideError
from napari_metastasis.plain_csv import read_csv
from napari_metastasis.slide_suffixes import FOLDER_SUFFIXES, SLIDE_SUFFIXES, slide_suffix
from napari_metastasis.slides.dicom_folder import dicom_files
from napari_metastasis.slides.naming import pixels_beside

__all__ = ["holds_dicom", "read_layout", "slides_below"]

#: A DICOM file is one of several of a slide, whose folder is looked for.
_SLIDES = SLIDE_SUFFIXES - FOLDER_SUFFIXES - {".dcm"}
_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
#: Annotations, the most exact first: outlines know more than masks, and a pyramid more than a picture.
_ANNOTATIONS = (".xml", ".geojson", ".geojson.gz", ".json", ".json.gz", ".tif", ".tiff", ".png", ".jpg", ".jpeg")

_MASK_FOLDERS = frozenset({"mask", "masks", "evaluation_masks", "ground_truth", "groundtruth", "labels"})
_OUTLINE_FOLDERS = frozenset({"annotations", "lesion_annotations", "outlines", "xml"})
_TUMOUR_FOLDERS = frozenset({"tumor", "tumour", "train_tumor", "train_tumour"})
_NORMAL_FOLDERS = frozenset({"normal", "train_normal"})
_TEST_FOLDERS = frozenset({"test", "testing", "testset", "testdata"})
_VALIDATION_FOLDERS = frozenset({"val", "valid", "validation"})
_IMAGE_FOLDERS = frozenset({"images", "image", "slides", "wsi"})

_CAMELYON16_NAME = re.compile(r"(normal|tumor|test)_\d+$")
_CAMELYON17_NAME = re.compile(r"(patient_(\d+))_node_(\d+)$")
#: Patients from this number on are CAMELYON17's test set.
_FIRST_TEST_PATIENT = 100


def read_layout(root: Path) -> Cohort:
    """Recognise a folder's layout, and return the slides below it as it describes them.

    Raises
    ------
    CohortError
        If it is laid out in no known way, or a table of it cannot be read.
    """
    files = sorted(_files(root))
    images = [path for path in files if _is_slide(path, root)]
    annotations: dict[str, list[Path]] = {}
    for path in files:
        if _is_annotation(path, root):
            annotations.setdefault(annotation_key(path), []).append(path)
    layout = _layout(images, annotations, root)
    found = [
        CohortSlide(
            name=path.stem,
            path=path,
            annotation=_nearest(annotations.get(slide_key(path.stem), []), path),
            split=_split(path, root),
        )
        for path in images
    ]
    flaws = [""] * len(found)
    if layout == "camelyon16":
        table = _table(files, "reference.csv")
        found = [_camelyon16(slide, root, table) for slide in found]
        outlined = any(slide.split == "test" and slide.annotation is not None for slide in found)
        # Where outlines are, and no table, a slide without them is normal.
        flaws = [_flaw_in_camelyon16(slide, needs_line=bool(table) or not outlined) for slide in found]
    elif layout == "camelyon17":
        table = _table(files, "stages.csv")
        flaws = [_flaw_in_camelyon17(slide, table) for slide in found]
        found = [_camelyon17(slide, table) for slide in found]
    return Cohort(
        slides=tuple(slide for slide, flaw in zip(found, flaws, strict=True) if not flaw),
        origin=root,
        layout=layout,
        left_out=tuple(LeftOutSlide(slide, flaw) for slide, flaw in zip(found, flaws, strict=True) if flaw),
    )


def _files(root: Path) -> Iterator[Path]:
    """Yield every file below a folder, results and hidden folders left out; links are followed, no folder twice."""
    seen: set[str] = set()
    for folder, inside, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        # What lies there are the pixels of one slide, in files that may be called as slides are.
        of_vsi = {pixels_beside(Path(name)).name for name in names if name.casefold().endswith(".vsi")}
        inside[:] = sorted(
            name
            for name in inside
            if not name.startswith(".")
            and not name.endswith((".metastasis", ".zarr"))
            and not holds_tissue_masks(name)
            and name not in of_vsi
        )
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def slides_below(root: Path) -> list[Path]:
    """Return the slides in a folder and in the folders inside, sorted: files, and folders with the DICOM files of one.

    Masks are left out, and so are results and hidden folders.
    """
    files = sorted(_files(root))
    slides = [path for path in files if slide_suffix(path.name) in _SLIDES and not _is_mask(path, root)]
    folders = {path.parent for path in files if _may_be_dicom(path)}
    return sorted([*slides, *(folder for folder in folders if holds_dicom(folder))])


def _may_be_dicom(path: Path) -> bool:
    """Return whether a file is called as DICOM files are: ``.dcm``, nothing, or a UID."""
    suffix = path.suffix.casefold()
    return suffix in ("", ".dcm") or suffix[1:].isdigit()


def holds_dicom(folder: Path) -> bool:
    """Return whether a folder holds DICOM files."""
    try:
        return bool(dicom_files(folder))
    except (NotASlideError, OSError):
        # Of several slides, or not to be read: whoever opens it says so.
        return True


def _folders(path: Path, root: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.relative_to(root).parts[:-1])


def _is_mask(path: Path, root: Path) -> bool:
    folders = _folders(path, root)
    if not (_MASK_FOLDERS | _OUTLINE_FOLDERS).isdisjoint(folders):
        return True
    return is_called_mask(path, folders[-1] if folders else "")


def _is_slide(path: Path, root: Path) -> bool:
    is_slide = slide_suffix(path.name) in _SLIDES
    if not (is_slide or path.suffix.casefold() in _PICTURES) or _is_mask(path, root):
        return False
    # Pictures lie about in every folder; slides are those that lie where images are expected.
    return is_slide or not _IMAGE_FOLDERS.isdisjoint(_folders(path, root))


def _is_annotation(path: Path, root: Path) -> bool:
    suffix = annotation_suffix(path)
    if suffix in {".json", ".json.gz"}:
        return not _OUTLINE_FOLDERS.isdisjoint(_folders(path, root)) and holds_outlines(path)
    return suffix in _ANNOTATIONS and (suffix in {".xml", ".geojson", ".geojson.gz"} or _is_mask(path, root))


def _layout(images: list[Path], annotations: dict[str, list[Path]], root: Path) -> LayoutName:
    names = [slide_key(path.stem) for path in images]
    of_17 = [name for name in names if _CAMELYON17_NAME.fullmatch(name)]
    of_16 = [name for name in names if _CAMELYON16_NAME.fullmatch(name)]
    if of_16 and of_17:
        raise CohortError(
            f"expected one cohort in {root}, got CAMELYON16 and CAMELYON17; choose one of their folders, or write a "
            "cohort file that names the slides of both"
        )
    if of_17:
        return "camelyon17"
    in_classes = any(not (_TUMOUR_FOLDERS | _NORMAL_FOLDERS).isdisjoint(_folders(path, root)) for path in images)
    if of_16 or in_classes:
        return "camelyon16"
    if any(name in annotations for name in names):
        return "images-and-masks"
    raise CohortError(
        f"expected {root} to be laid out like CAMELYON16 (training/normal, training/tumor, lesion_annotations), "
        f"CAMELYON17 (patient_000_node_0.tif …, stages.csv) or as images/ and masks/ of the same names, got "
        f"{len(images)} images and annotations of none of them; write a cohort file (CSV: slide, annotation, split, "
        "patient, node) instead"
    )


def _split(path: Path, root: Path) -> Split:
    folders = _folders(path, root)
    if not _TEST_FOLDERS.isdisjoint(folders):
        return "test"
    return "validation" if not _VALIDATION_FOLDERS.isdisjoint(folders) else "train"


def _nearest(candidates: list[Path], slide: Path) -> Path | None:
    """Return the annotation that shares most folders with the slide, and of those the most exact."""

    def rank(path: Path) -> tuple[int, int, str]:
        shared = len(os.path.commonpath([path, slide]))
        return -shared, _ANNOTATIONS.index(annotation_suffix(path)), str(path)

    return min(candidates, key=rank, default=None)


def _camelyon16(slide: CohortSlide, root: Path, reference: dict[str, str]) -> CohortSlide:
    """Return a slide with what CAMELYON16's names and folders say of it."""
    name = slide.name.casefold()
    match = _CAMELYON16_NAME.fullmatch(name)
    kind = match.group(1) if match else ""
    assert isinstance(slide.path, Path)
    folders = frozenset(_folders(slide.path, root))
    if kind == "test" and slide.split == "train":
        slide = replace(slide, split="test")
    tumour: bool | None = None
    if kind == "tumor" or not folders.isdisjoint(_TUMOUR_FOLDERS):
        tumour = True
    elif kind == "normal" or not folders.isdisjoint(_NORMAL_FOLDERS):
        tumour = False
    elif name in reference:
        tumour = reference[name].casefold() != "normal"
    # Masks of normal slides are there in some distributions, all zero.
    annotation = None if tumour is False else slide.annotation
    return replace(slide, annotation=annotation, tumour=tumour, exhaustive=name not in CAMELYON16_NOT_EXHAUSTIVE)


def _flaw_in_camelyon16(slide: CohortSlide, *, needs_line: bool) -> str:
    """Return why a slide must not be used; empty for all but a few."""
    unknown = slide.tumour is None and slide.annotation is None and needs_line
    what = "its folder holds neither outlines of test slides nor a line of it in reference.csv"
    return CAMELYON16_FLAWED.get(slide.name.casefold(), what if unknown else "")


def _camelyon17(slide: CohortSlide, stages: dict[str, str]) -> CohortSlide:
    """Return a slide with what CAMELYON17's names and its table of stages say of it."""
    name = slide.name.casefold()
    match = _CAMELYON17_NAME.fullmatch(name)
    if match is None:
        return slide
    if int(match.group(2)) >= _FIRST_TEST_PATIENT:
        slide = replace(slide, split="test")
    slide = replace(slide, patient=match.group(1), node=match.group(3))
    stage = stages.get(name, "").casefold()
    if slide.annotation is not None:
        # Micro- and macro-metastases are outlined exhaustively, isolated tumour cells are not.
        return replace(slide, tumour=True, exhaustive=stage != "itc")
    return replace(slide, tumour=stage != "negative", exhaustive=stage == "negative") if stage else slide


def _flaw_in_camelyon17(slide: CohortSlide, stages: dict[str, str]) -> str:
    """Return why a slide must not be used; empty for all but a few."""
    name = slide.name.casefold()
    if _CAMELYON17_NAME.fullmatch(name) is None:
        return "its name is not patient_000_node_0, so that nothing is known of it"
    if slide.annotation is None and not stages.get(name):
        return "it has neither outlines nor a line in stages.csv, so that nothing is known of it"
    return ""


def _table(files: list[Path], name: str) -> dict[str, str]:
    """Return the second column of a table by the first, which names slides; empty where there is no such file."""
    found: dict[str, str] = {}
    for path in files:
        if path.name.casefold() != name:
            continue
        try:
            rows = [row.cells for row in read_csv(path) if len(row.cells) > 1]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CohortError(f"expected a table of slides in {path}, got {reason}; copy it again") from error
        found.update({Path(row[0].strip()).stem.casefold(): row[1].strip() for row in rows})
    return found
