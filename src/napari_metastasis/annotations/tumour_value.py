"""Which values of masks mean tumour: classes of small numbers, or the upper half of grey levels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import AnnotationError

__all__ = ["detect_tumour_value", "mask_value", "tumour_pixels"]

#: Small whole numbers mean classes; what holds anything above half is grey, of which the upper half is tumour.
_MAX_CLASS, _HALF, _WHITE = 2, 127, 255
_CLASSES = frozenset({1, _MAX_CLASS})


def mask_value(values: Iterable[int], what: str) -> int:
    """Return the value that means tumour in a mask: 2, beside which 1 is normal tissue; or 1; or 255 for grey levels.

    Parameters
    ----------
    values
        Every value that occurs in it.
    what
        What it is called, for the message.

    Raises
    ------
    AnnotationError
        If the values allow of no single answer: classes beside 255, or numbers that are neither classes nor white.
    """
    stored = frozenset(values) - {0}
    if stored and stored <= _CLASSES:
        return max(stored)
    if stored and (max(stored) <= _HALF or _mixed(stored)):
        shown = sorted(stored)
        listing = ", ".join(map(str, shown[:8])) + (", …" if len(shown) > 8 else "")
        raise AnnotationError(
            f"expected masks in which tumour is 255, 2 or 1, got the values {listing} in {what}; "
            "say which one is tumour with --tumour-value"
        )
    return _WHITE


def detect_tumour_value(masks: Mapping[str, Collection[int]]) -> int:
    """Return the value that means tumour in the masks of one cohort: 2 where any of them holds a 2, else 1, else 255.

    CAMELYON's masks are 0 for glass, 1 for tissue and 2 for tumour, or 0 and 1 alone; a mask of the first kind without
    tumour looks like one of the second, so that the masks of a whole cohort have to be looked at. Grey masks have no
    say beside masks of classes, and are read by their upper half all the same: see :func:`tumour_pixels`.

    Parameters
    ----------
    masks
        The values of each, by what it is called in messages.

    Raises
    ------
    AnnotationError
        As :func:`mask_value` does.
    """
    found = set()
    for name, values in masks.items():
        if set(values) - {0}:
            found.add(mask_value(values, name))
    classes = found & _CLASSES
    if classes:
        return max(classes)
    return _WHITE if found else 1


def tumour_pixels(pixels: NDArray[np.uint8], values: Collection[int], tumour_value: int) -> NDArray[np.bool_]:
    """Return which mask pixels are tumour.

    Parameters
    ----------
    pixels
        Values of the mask.
    values
        All values of the mask, from :meth:`MaskFile.values`.
    tumour_value
        From :func:`detect_tumour_value`, or as the user states it. Masks of grey levels, which no class fits,
        follow their upper half instead.
    """
    if tumour_value not in _CLASSES | {_WHITE}:
        # Nothing is detected so: it was stated.
        stated: NDArray[np.bool_] = pixels == tumour_value
        return stated
    if tumour_value in _CLASSES and _mixed(values):
        return pixels == tumour_value
    grey: NDArray[np.bool_] = pixels > _HALF
    # A high value counts even where the list lacks it: a speck of tumour may lie between the pixels looked at.
    return grey if max(values, default=0) > _MAX_CLASS else grey | (pixels == tumour_value)


def _mixed(values: Collection[int]) -> bool:
    """Return whether 255 stands beside classes, and nothing else does: it may mean tumour, or not annotated."""
    stored = frozenset(values) - {0}
    return _WHITE in stored and bool(stored & _CLASSES) and stored <= _CLASSES | {_WHITE}
