"""The one list of what files of slides are called; the napari manifest names the same."""

from __future__ import annotations

__all__ = ["CHOOSE", "FOLDER_SUFFIXES", "SHARED_SUFFIXES", "SLIDE_SUFFIXES", "slide_suffix"]

#: Suffixes of files, and of folders that are one slide. DICOM files need none: see dicom_folder.py.
FOLDER_SUFFIXES = frozenset({".zarr"})
SLIDE_SUFFIXES = FOLDER_SUFFIXES | {
    ".bif", ".czi", ".dcm", ".isyntax", ".mrxs", ".ndpi", ".qptiff", ".scn", ".svs", ".svslide", ".tif", ".tiff",
    ".ozx", ".vms", ".vmu", ".vsi", ".zarr.zip",
}  # fmt: skip

#: Those that other images have, too: what they hold is looked at before it is taken for a slide.
SHARED_SUFFIXES = frozenset({".czi", ".ozx", ".tif", ".tiff", ".vsi", ".zarr", ".zarr.zip"})

#: What a message says of the rest.
CHOOSE = "choose an SVS, NDPI, SCN, MRXS, CZI, DICOM, OME-Zarr or pyramidal TIFF file"


def slide_suffix(name: str) -> str:
    """Return the suffix by which a file or folder of this name may be a slide, in small letters; else nothing."""
    name = name.lower()
    # The longest that fits: a zipped OME-Zarr has two.
    return max((suffix for suffix in SLIDE_SUFFIXES if name.endswith(suffix)), key=len, default="")
