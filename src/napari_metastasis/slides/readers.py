"""The one table of libraries that read slides: which files each takes, how well, and which extra brings it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from napari_metastasis.errors import MissingDependencyError, NotASlideError
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_suffixes import CHOOSE
from napari_metastasis.slides.backend import Backend
from napari_metastasis.slides.zarr_files import is_zarr, open_zarr_files

__all__ = ["READERS", "Fit", "Glance", "Reader", "readers_of"]

_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CZI_MAGIC = b"ZISRAWFILE"
_ISYNTAX_SIGN = b"DPUfsImport"
#: Bytes that tell the formats apart; an iSyntax file begins with XML that names its kind within so many.
_GLANCE_BYTES = 512

#: Tiles of Ventana and Trestle overlap and have to be stitched, and Leica's regions lie on a collection, whose pixels
#: outlines are drawn in: OpenSlide does both, a plain TIFF reader does not.
_SAFER_WITH_OPENSLIDE = frozenset({"ventana", "trestle", "leica"})


class Fit(IntEnum):
    """How well a reader takes a file; the best one is asked."""

    NONE = 0
    #: Where no better one can.
    ABLE = 1
    GOOD = 2
    BEST = 3


class Glance:
    """What a file says of its kind at first sight.

    Parameters
    ----------
    path
        A file, or the folder of a format that is one.

    Raises
    ------
    NotASlideError
        If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The first bytes; none of a folder.
        self.begins = b""
        if path.is_dir():
            return
        try:
            with path.open("rb") as file:
                self.begins = file.read(_GLANCE_BYTES)
        except OSError as error:
            raise NotASlideError(
                f"expected a slide file, but {path} cannot be read ({error.strerror}); check its permissions"
            ) from error

    @property
    def is_tiff(self) -> bool:
        """Return whether it begins as a TIFF; Olympus' VSI does, too, but its slide lies in the folder beside it."""
        return self.begins.startswith(_TIFF_MAGICS) and not self.is_vsi

    @property
    def is_vsi(self) -> bool:
        """Return whether it is called VSI."""
        return self.path.suffix.lower() == ".vsi"

    @cached_property
    def is_zarr(self) -> bool:
        """Return whether it is a Zarr hierarchy, in a folder or in one .zip file."""
        return is_zarr(self.path)

    @cached_property
    def openslide_format(self) -> str | None:
        """Return the vendor that OpenSlide sees in it; ``None`` where it sees no slide."""
        from napari_metastasis.slides.openslide_backend import openslide_format

        return openslide_format(self.path)


@dataclass(frozen=True, slots=True)
class Reader:
    """A library that reads slides.

    Attributes
    ----------
    name
        As ``open_slide(backend=…)`` takes it and results record it: mostly, as the library is installed.
    reads
        What it reads, for "expected a … file"; empty where the reader says better itself what a file is not.
    fit
        Says how well it takes a file, by a glance and without the library.
    open
        Opens a file; imports the library.
    library
        As it is imported.
    extra
        Of this package, which brings the library; empty where it is always there.
    """

    name: str
    reads: str
    fit: Callable[[Glance], Fit]
    open: Callable[[Path, SlideSettings], Backend]
    library: str
    extra: str = ""

    @property
    def installed(self) -> bool:
        """Return whether the library is there."""
        return importlib.util.find_spec(self.library) is not None

    def missing(self, path: Path) -> MissingDependencyError:
        """Return what to raise where the library is not there."""
        return MissingDependencyError(
            f"expected {self.name} to read {path.name}, a {self.reads} file, but it is not installed; "
            f"run pip install 'napari-metastasis[{self.extra}]'"
        )


def readers_of(glance: Glance) -> list[Reader]:
    """Return the readers that would take a file, installed or not, the best first."""
    fitting = [(reader.fit(glance), reader) for reader in READERS]
    # Of equals, the first of the table.
    return [reader for fit, reader in sorted(fitting, key=lambda one: -one[0]) if fit > Fit.NONE]


def _begins(magic: bytes) -> Callable[[Glance], Fit]:
    return lambda glance: Fit.GOOD if glance.begins.startswith(magic) else Fit.NONE


def _ome_zarr(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.ome_zarr_backend import OmeZarrBackend

    files = open_zarr_files(path, settings)
    if files is None:
        raise NotASlideError(f"expected an OME-Zarr, got {path.name}; {CHOOSE}")
    return OmeZarrBackend(files, cache_bytes=settings.cache_mib << 20)


def _tifffile(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.tifffile_backend import TifffileBackend

    return TifffileBackend(path, cache_bytes=settings.cache_mib << 20)


def _openslide(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.openslide_backend import open_with_openslide

    return open_with_openslide(path, cache_bytes=settings.cache_mib << 20)


def _openslide_fit(glance: Glance) -> Fit:
    found = glance.openslide_format
    if found is None or glance.is_vsi:
        return Fit.NONE
    if found in _SAFER_WITH_OPENSLIDE:
        return Fit.BEST
    return Fit.ABLE if glance.is_tiff else Fit.GOOD


def _czi(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.czi import open_czi

    return open_czi(path, cache_bytes=settings.cache_mib << 20)


def _isyntax(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.isyntax import open_isyntax

    return open_isyntax(path, cache_bytes=settings.cache_mib << 20)


def _isyntax_fit(glance: Glance) -> Fit:
    # Its XML may begin with a comment of any length.
    named = glance.path.suffix.lower() == ".isyntax" and glance.begins.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<")
    return Fit.GOOD if named or _ISYNTAX_SIGN in glance.begins else Fit.NONE


def _vsi(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.vsi import open_vsi

    return open_vsi(path, cache_bytes=settings.cache_mib << 20)


def _picture(path: Path, settings: SlideSettings) -> Backend:
    from napari_metastasis.slides.picture_backend import PictureBackend

    return PictureBackend(path, cache_bytes=settings.cache_mib << 20)


def _picture_fit(glance: Glance) -> Fit:
    from napari_metastasis.pictures import is_png_or_jpeg

    # MIRAX slides begin as a JPEG does.
    return Fit.GOOD if is_png_or_jpeg(glance.begins) and glance.openslide_format is None else Fit.NONE


#: In the order in which equals are asked. A new format is a module with a backend, and its entry here.
READERS: tuple[Reader, ...] = (
    Reader("ome-zarr", "OME-Zarr", lambda glance: Fit.BEST if glance.is_zarr else Fit.NONE, _ome_zarr, "imagecodecs"),
    Reader("tifffile", "TIFF", lambda glance: Fit.GOOD if glance.is_tiff else Fit.NONE, _tifffile, "tifffile"),
    Reader("pylibczirw", "Zeiss CZI", _begins(_CZI_MAGIC), _czi, "pylibCZIrw", "formats"),
    Reader("pyisyntax", "Philips iSyntax", _isyntax_fit, _isyntax, "isyntax", "formats"),
    Reader(
        "slideio", "Olympus VSI", lambda glance: Fit.GOOD if glance.is_vsi else Fit.NONE, _vsi, "slideio", "formats"
    ),
    Reader("openslide", "", _openslide_fit, _openslide, "openslide"),
    Reader("imagecodecs", "PNG or JPEG", _picture_fit, _picture, "imagecodecs"),
)
