"""Zeiss CZI: what its metadata state, and what of it is no slide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from napari_metastasis.errors import FluorescenceError, NotASlideError
from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.backend import Metadata, PixelSize
from napari_metastasis.slides.metadata import number, plausible, xml_root

__all__ = ["open_czi"]

_COLOUR, _DEEP_COLOUR = "Bgr24", frozenset({"Bgr48", "Bgr96Float"})
#: Dimensions of which a slide has one; a letter is as the format names it.
_SINGLE = {"T": "time points", "R": "rotations", "I": "illuminations", "H": "phases", "V": "views"}


def open_czi(path: Path, *, cache_bytes: int) -> ApartBackend:
    """Open a CZI file with pylibCZIrw.

    Scenes lie where they were scanned, on one canvas that begins at the corner of all of them; between them, it is
    white.

    Raises
    ------
    CorruptSlideError
        If the file is cut off or damaged.
    FluorescenceError
        If it has no channel in colour.
    NotASlideError
        If it is a time series or the like, or has 16 bits.
    """
    return ApartBackend(MODULES / "czi.py", path, cache_bytes=cache_bytes, name="pylibczirw", describe=_metadata)


def _metadata(facts: Mapping[str, Any], name: str) -> Metadata:
    root = xml_root(facts["xml"])
    return Metadata(
        "Zeiss CZI",
        None if root is None else _pixel_size(root),
        None if root is None else _objective_power(root),
        notes=_notes(facts, name),
    )


def _notes(facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return what of the file is left out.

    Raises
    ------
    FluorescenceError, NotASlideError
        If what is left is no slide.
    """
    kinds = facts["pixel_types"].values()
    if _COLOUR not in kinds:
        if deep := sorted(_DEEP_COLOUR.intersection(kinds)):
            raise NotASlideError(
                f"expected 8 bits per channel in {name}, got {', '.join(deep)}; export the slide as 24-bit colour"
            )
        raise FluorescenceError(
            f"expected an H&E slide in colour, got {len(kinds)} channel(s) of {', '.join(sorted(set(kinds)))} in "
            f"{name}: a fluorescence image; choose a brightfield slide"
        )
    sizes = facts["dimensions"]
    for letter, noun in _SINGLE.items():
        if sizes.get(letter, 1) > 1:
            raise NotASlideError(f"expected one slide in {name}, got {sizes[letter]} {noun}; export one of them")
    notes = []
    if sizes.get("Z", 1) > 1:
        notes.append(f"expected one focal plane in {name}, got {sizes['Z']}; the middle one is read")
    if len(kinds) > 1:
        notes.append(f"expected one channel in {name}, got {len(kinds)}; only the first in colour is read")
    return tuple(notes)


def _pixel_size(root: Element) -> PixelSize | None:
    """Return the pixel size that the scaling states, in m."""
    found = {}
    for distance in root.iterfind("./Metadata/Scaling/Items/Distance"):
        metres = number(distance.findtext("Value"))
        found[distance.get("Id")] = None if metres is None else metres * 1e6
    return plausible(found.get("X"), found.get("Y"), "CZI scaling")


def _objective_power(root: Element) -> float | None:
    """Return the magnification of the objective that the image was taken with, or of the only one."""
    information = "./Metadata/Information"
    lenses = {
        lens.get("Id"): number(lens.findtext("NominalMagnification"))
        for lens in root.iterfind(f"{information}/Instrument/Objectives/Objective")
    }
    chosen = root.find(f"{information}/Image/ObjectiveSettings/ObjectiveRef")
    if chosen is not None:
        return lenses.get(chosen.get("Id"))
    return next(iter(lenses.values())) if len(lenses) == 1 else None
