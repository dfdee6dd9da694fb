"""What a slide is called, and the folder that belongs to it."""

from __future__ import annotations

import os
from pathlib import Path

from napari_metastasis.slide_address import SlidePath, SlideUrl

__all__ = ["pixels_beside", "slide_name"]

_ZIPPED, _ZARR, _OME = ".zip", ".zarr", ".ome"


def slide_name(path: SlidePath) -> str:
    """Return a slide's name: that of its folder, in which dots are part of it, or of its file without the suffix.

    An OME-Zarr is called the same as a folder, as one file, and at an address.
    """
    name = path.name.removesuffix(_ZIPPED)
    if name.lower().endswith(_ZARR):
        return name[: -len(_ZARR)].removesuffix(_OME) or name
    return path.name if not isinstance(path, SlideUrl) and os.path.isdir(path) else path.stem


def pixels_beside(path: Path) -> Path:
    """Return the folder that holds the pixels of a VSI file, which itself holds a small picture of them."""
    return path.with_name(f"_{path.stem}_")
