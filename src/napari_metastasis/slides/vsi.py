"""Olympus VSI: what its file states, and what of it is no slide."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tifffile

from napari_metastasis.errors import CorruptSlideError, FluorescenceError, NotASlideError
from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.backend import Metadata
from napari_metastasis.slides.metadata import plausible
from napari_metastasis.slides.naming import pixels_beside

__all__ = ["describe_vsi", "open_vsi"]

#: How colour is stored: channels and their depth.
_COLOUR = "3 uint8"
_MOST_PAGES = 16
#: Another image of at least this share of the slide's area is not passed over in silence.
_LARGE_SHARE = 0.1


def open_vsi(path: Path, *, cache_bytes: int) -> ApartBackend:
    """Open a VSI file with slideio; the largest of its images in colour is the slide.

    Raises
    ------
    CorruptSlideError
        If the folder with its pixels is not there, or it is cut off or damaged.
    FluorescenceError
        If no image is in colour.
    NotASlideError
        If it is a time series.
    """
    folder = pixels_beside(path)
    if not folder.is_dir():
        raise CorruptSlideError(
            f"expected the folder {folder.name} beside {path.name}, which holds its pixels, got none; "
            "copy the slide again with that folder"
        )
    describe = partial(describe_vsi, overviews=_overviews(path))
    return ApartBackend(MODULES / "vsi.py", path, cache_bytes=cache_bytes, name="slideio", describe=describe)


def _overviews(path: Path) -> frozenset[tuple[int, int]]:
    """Return the sizes of the small pictures in a VSI file itself, which is a TIFF."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return frozenset((int(page.imagewidth), int(page.imagelength)) for page in tiff.pages[:_MOST_PAGES])
    except (tifffile.TiffFileError, struct.error, OSError, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return frozenset()


def describe_vsi(
    facts: Mapping[str, Any], name: str, *, overviews: frozenset[tuple[int, int]] = frozenset()
) -> Metadata:
    """Return what a file states.

    Parameters
    ----------
    facts, name
        As the library has them, and of the file.
    overviews
        Sizes of pictures in the file itself, which the library takes for the slide where it does not know the rest.

    Raises
    ------
    CorruptSlideError
        If nothing but an overview is read.
    FluorescenceError, NotASlideError
        If it is no slide.
    """
    width, height, kind = facts["chosen"]
    if (width, height) in overviews:
        raise CorruptSlideError(
            f"expected the pixels of {name} in the folder beside it, got its overview of {width} x {height} px alone; "
            "copy the slide again with that folder, or export it as a pyramidal TIFF with the scanner's program"
        )
    if kind != _COLOUR:
        raise FluorescenceError(
            f"expected an H&E slide in colour, got {kind} channel(s) in {name}: a fluorescence image; choose a "
            "brightfield slide, or export this one as RGB"
        )
    if facts["frames"] > 1:
        raise NotASlideError(f"expected one slide in {name}, got {facts['frames']} time points; export one of them")
    notes = []
    if facts["planes"] > 1:
        notes.append(f"expected one focal plane in {name}, got {facts['planes']}; the middle one is read")
    large = [f"{one[0]} x {one[1]}" for one in facts["images"] if one[0] * one[1] >= _LARGE_SHARE * width * height]
    if len(large) > 1:
        notes.append(f"expected one slide in {name}, got {len(large)} images ({', '.join(large)} px); only the largest "
                     "is read")  # fmt: skip
    across, down = (metres * 1e6 for metres in facts["metres"])
    return Metadata(
        "Olympus VSI",
        plausible(across, down, "VSI metadata"),
        facts["magnification"] or None,
        notes=tuple(notes),
    )
