"""Philips iSyntax: what its file states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.backend import Metadata
from napari_metastasis.slides.metadata import plausible

__all__ = ["open_isyntax"]


def open_isyntax(path: Path, *, cache_bytes: int) -> ApartBackend:
    """Open an iSyntax file with pyisyntax.

    Raises
    ------
    CorruptSlideError
        If the file is cut off or damaged.
    """
    return ApartBackend(MODULES / "isyntax.py", path, cache_bytes=cache_bytes, name="pyisyntax", describe=_metadata)


def _metadata(facts: Mapping[str, Any], name: str) -> Metadata:
    del name  # nothing of the file is left out
    across, down = facts["mpp"] or (None, None)
    return Metadata("Philips iSyntax", plausible(across, down, "iSyntax header"))
