"""Annotation files: what they are called, and the outlines or the mask that is read from one."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from napari_metastasis.annotations import (
    AnnotationSet,
    MaskFile,
    detect_tumour_value,
    read_asap_xml,
    read_dsa_json,
    read_geojson,
)
from napari_metastasis.annotations.reading import Tell, silent
from napari_metastasis.errors import AnnotationError, one_of_many
from napari_metastasis.geometry import Region

__all__ = [
    "Areas",
    "annotation_format",
    "annotation_key",
    "annotation_suffix",
    "doubts",
    "geojson_corner",
    "holds_outlines",
    "holds_tissue_masks",
    "is_called_mask",
    "is_mask",
    "open_masks",
    "read_areas",
    "slide_key",
    "tumour_value_in",
]

#: What a file can say of a slide's tumour: outlines, or a mask.
Areas = AnnotationSet | MaskFile

_MASK_SUFFIXES = frozenset({".tif", ".tiff", ".svs", ".png", ".jpg", ".jpeg"})
_GEOJSON_SUFFIXES = frozenset({".geojson", ".json", ".geojson.gz", ".json.gz"})
#: What stands before a suffix and belongs to it: ``s.ome.tif`` shows the slide ``s``.
_INNER_SUFFIXES = (".ome",)
#: How much of a JSON file is looked at for features, which it begins with.
_SNIFFED_BYTES = 4096
_FEATURES = re.compile(rb'"type"\s*:\s*"Feature(Collection)?"')
_ELEMENTS = re.compile(rb'"elements"\s*:\s*\[')
#: How masks are called: ``Tumor_001_Mask``, ``a-tumor_mask``, ``Test_001_evaluation_mask``, ``Tumor_005_mask_level5``.
_MASK_NAME = re.compile(r"[_-](?:evaluation[_-])?(?:tumou?r[_-])?mask(?:[_-]level\d+)?$")
_SLIDE, _SLIDES = {"slide", "image", "wsi"}, {"slides", "images", "wsis"}


def annotation_suffix(path: Path) -> str:
    """Return the suffix that tells an annotation's format, in lower case: ``.geojson.gz`` of what is gzipped."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def annotation_key(path: Path) -> str:
    """Return what an annotation is called, to compare with slides: ``Tumor_001_Mask.tif`` is ``tumor_001``'s."""
    return _MASK_NAME.sub("", slide_key(path.name[: len(path.name) - len(annotation_suffix(path))]))


def slide_key(name: str) -> str:
    """Return what a slide's name is compared by: without capitals, and without what belongs to its suffix."""
    key = name.casefold()
    for inner in _INNER_SUFFIXES:
        key = key.removesuffix(inner)
    return key


def holds_outlines(path: Path) -> bool:
    """Return whether a JSON file begins as GeoJSON or an annotation of DSA does: others lie beside results, too."""
    start = _start(path)
    return _FEATURES.search(start) is not None or _ELEMENTS.search(start) is not None


def _start(path: Path) -> bytes:
    """Return what a file begins with; nothing where it cannot be read."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return file.read(_SNIFFED_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def holds_tissue_masks(folder: str) -> bool:
    """Return whether a folder is called after masks of tissue, which say nothing of tumour."""
    name = folder.casefold()
    of_tissue = re.search("tissue|background", name) is not None and "tumo" not in name
    return name == "background_tissue" or (of_tissue and _names_masks(name))


def _names_masks(name: str) -> bool:
    return re.search(r"masks?(?![a-z])", name) is not None


def _holds_masks(folder: str) -> bool:
    name = folder.casefold()
    words = set(re.findall(r"[a-z]+", name))
    # "slides_and_masks" holds both; "slide_masks" are masks of slides.
    with_slides = words & _SLIDES or ("and" in words and words & _SLIDE)
    return _names_masks(name) and not with_slides and not holds_tissue_masks(name)


def is_called_mask(path: Path, folder: str) -> bool:
    """Return whether a picture is called a mask, or lies in a folder that is called after masks of tumour.

    Parameters
    ----------
    path
        The picture.
    folder
        Name of the folder that it lies in; empty where the folder's name does not count.
    """
    return _holds_masks(folder) or _MASK_NAME.search(path.stem.casefold()) is not None


def is_mask(annotation: Path) -> bool:
    """Return whether an annotation file is an image."""
    return annotation.suffix.lower() in _MASK_SUFFIXES


def geojson_corner(bounds: Region | None) -> tuple[float, float]:
    """Return where GeoJSON's coordinates count from: the corner of the slide's bounds, in level-0 pixels."""
    return (0.0, 0.0) if bounds is None else (float(bounds.x), float(bounds.y))


def annotation_format(annotation: Path) -> Literal["asap", "dsa", "geojson", "mask"]:
    """Return how an annotation file is written.

    Raises
    ------
    AnnotationError
        If it is in no way that is read.
    """
    suffix = annotation_suffix(annotation)
    if is_mask(annotation):
        return "mask"
    if suffix == ".json" and _ELEMENTS.search(start := _start(annotation)) and not _FEATURES.search(start):
        return "dsa"
    if suffix in _GEOJSON_SUFFIXES:
        return "geojson"
    if suffix == ".xml":
        return "asap"
    remedy = "export it as one"
    if suffix == ".csv":
        remedy = "points are for models of mitoses: outline the tumour where another model is trained or measured"
    raise AnnotationError(
        f"expected an annotation as ASAP XML, GeoJSON or a mask (TIFF, PNG, JPEG), or DSA's JSON, got {annotation}; "
        f"{remedy}"
    )


def read_areas(annotation: Path, *, corner: tuple[float, float], tell: Tell = silent) -> Areas:
    """Read outlines, or open a mask.

    Parameters
    ----------
    annotation
        ASAP XML, GeoJSON, DSA's JSON, or a mask as an image.
    corner
        (x, y) that GeoJSON counts from, from :func:`geojson_corner`.
    tell
        Takes the share that is read.

    Raises
    ------
    AnnotationError
        If it is neither, or cannot be read.
    """
    written_as = annotation_format(annotation)
    if written_as == "mask":
        return MaskFile(annotation)
    if written_as == "geojson":
        return read_geojson(annotation, shift=corner, tell=tell)
    return read_dsa_json(annotation, tell=tell) if written_as == "dsa" else read_asap_xml(annotation, tell=tell)


def doubts(areas: Areas | AnnotationError | None, annotation: Path | None) -> str:
    """Return what has to be said of an annotation beside what was understood; nothing where all was."""
    return areas.doubts(annotation) if isinstance(areas, AnnotationSet) else ""


def open_masks(annotations: Iterable[Path | None]) -> Iterator[MaskFile]:
    """Yield the masks among annotation files; those that cannot be opened are left to whoever needs them."""
    for path in annotations:
        if path is None or not is_mask(path):
            continue
        found: list[MaskFile] = []
        with one_of_many(_pass_over):
            found.append(MaskFile(path))
        yield from found


def _pass_over(why: str) -> None:
    """Say nothing of a mask that cannot be read: whoever needs it meets the error again."""
    del why


def tumour_value_in(masks: Iterable[MaskFile | None]) -> int:
    """Return the value that means tumour in a set of masks: one alone may hold only normal tissue.

    Masks that cannot be read have no say here; who needs them says so. Each is closed.

    Raises
    ------
    AnnotationError
        If a mask's values do not say which one is tumour.
    """
    values: dict[str, frozenset[int]] = {}
    for mask in filter(None, masks):
        with one_of_many(_pass_over), mask:
            values[str(mask.path)] = mask.values()
    return detect_tumour_value(values)
