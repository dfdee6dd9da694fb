"""Olympus VSI: what its file states, and what of it is no slide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_metastasis.errors import CorruptSlideError, FluorescenceError, NotASlideError
from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.backend import Metadata
from napari_metastasis.slides.metadata import plausible
from napari_metastasis.slides.naming import pixels_beside

__all__ = ["describe_vsi", "open_vsi"]

#: How colour is stored: channels and their depth.
_COLOUR = "3 uint8"
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
    return ApartBackend(MODULES / "vsi.py", path, cache_bytes=cache_bytes, name="slideio", describe=describe_vsi)


def describe_vsi(facts: Mapping[str, Any], name: str) -> Metadata:
    """Return what a file states.

    Raises
    ------
    FluorescenceError, NotASlideError
        If it is no slide.
    """
    width, height, kind = facts["chosen"]
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
