"""MIDOG's JSON: cells of many slides as boxes, each with its category (https://midog2021.grand-challenge.org)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_metastasis.errors import AnnotationError, brief

__all__ = ["is_midog", "midog_cells"]

_REMEDY = "give MIDOG's own JSON, with images, categories, and annotations with a bbox each"
_Cell = tuple[tuple[float, float], str]


def is_midog(document: Any) -> bool:
    """Return whether a document of JSON is of this kind, and not GeoJSON."""
    return isinstance(document, dict) and {"images", "annotations"} <= document.keys()


def midog_cells(document: Any, path: Path, *, slide: str | None) -> Iterator[_Cell]:
    """Yield the centre of every box of a slide, (x, y) in level-0 pixels, and its category's name.

    Boxes are (left, top, right, bottom), unlike COCO's, whose fields MIDOG otherwise takes over.

    Parameters
    ----------
    document
        What the file holds.
    path
        The file, for messages.
    slide
        Name of the slide's file, as the document has it; ``None`` where it speaks of one alone.

    Raises
    ------
    AnnotationError
        If the document does not speak of that slide, speaks of several and none is named, or has a box that is none.
    """
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        categories = {one["id"]: str(one["name"]) for one in document.get("categories", ())}
        boxes = [(one["image_id"], one["bbox"], one.get("category_id")) for one in document["annotations"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(f"expected images and boxes in {path}, got {brief(error)} missing; {_REMEDY}") from error
    if slide is None and len(names) != 1:
        raise AnnotationError(
            f"expected the points of one slide in {path}, got those of {len(names)}; say which slide's are wanted"
        )
    wanted = {one for one, name in names.items() if slide is None or name == slide}
    if not wanted:
        some = ", ".join(list(names.values())[:3])
        raise AnnotationError(
            f"expected the points of {slide} in {path}, got those of {some} …; check the slide's name"
        )
    for image, box, category in boxes:
        if image in wanted:
            yield _centre(box, path), categories.get(category, "None")


def _centre(box: Any, path: Path) -> tuple[float, float]:
    try:
        left, top, right, bottom = map(float, box)
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"expected four numbers as every bbox in {path}, got {brief(box)}; {_REMEDY}") from error
    if not (left < right and top < bottom):
        raise AnnotationError(
            f"expected left, top, right, bottom as every bbox in {path}, got {brief(box)}; COCO's own boxes, which end "
            "in width and height, have to be converted"
        )
    return (left + right) / 2, (top + bottom) / 2
