"""Slides that OpenSlide reads: DICOM, MIRAX, Ventana, Zeiss …, and TIFF that tifffile cannot show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import openslide
import tifffile

from napari_metastasis.errors import CorruptSlideError, NotASlideError, first_line
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slide_suffixes import CHOOSE
from napari_metastasis.slides.apart.backend import MODULES, ApartBackend
from napari_metastasis.slides.associated import check_associated
from napari_metastasis.slides.backend import Backend, Metadata, PixelSize, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.grid import TileGrid
from napari_metastasis.slides.metadata import number, plausible, scn_scan, xml_root
from napari_metastasis.slides.tiff_tiles import compose_on_white

__all__ = ["OpenSlideBackend", "open_with_openslide", "openslide_format"]

_FORMAT_NAMES = {
    "aperio": "Aperio SVS",
    "dicom": "DICOM",
    "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu",
    "leica": "Leica SCN",
    "mirax": "MIRAX",
    "philips": "Philips TIFF",
    "sakura": "Sakura",
    "trestle": "Trestle",
    "ventana": "Ventana",
    "zeiss": "Zeiss CZI",
}

#: Formats of which damaged files were seen to end the process: libdicom reads past its frames, and a CZI's subblocks
#: without a size are divided by.
_DEADLY = frozenset({"dicom", "zeiss"})

#: Of an image beside the slide, as its properties are called.
_SIDES = ("width", "height")

#: Side of the blocks that are read at once: a few tiles, so that calls are few.
_BLOCK_PX = 512

#: Assumed where a level states no tile size: the most common one.
_TILE_PX = 256


def openslide_format(path: Path) -> str | None:
    """Return the vendor that OpenSlide sees in a file, or ``None`` where it sees no slide."""
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None


def open_with_openslide(path: Path, *, cache_bytes: int) -> Backend:
    """Open a slide with OpenSlide, in a process of its own where damaged files of its format would end this one.

    Raises
    ------
    NotASlideError
        If OpenSlide does not know the format.
    CorruptSlideError
        If it does, but cannot open the file.
    """
    if openslide_format(path) not in _DEADLY:
        return OpenSlideBackend(path, cache_bytes=cache_bytes)
    return ApartBackend(
        MODULES / "openslide.py",
        path,
        cache_bytes=cache_bytes,
        name=OpenSlideBackend.name,
        describe=lambda facts, _: _metadata(path, facts["properties"]),
    )


class OpenSlideBackend:
    """A slide opened with OpenSlide, which is safe to read from many threads.

    Parameters
    ----------
    path
        Any file of the slide that OpenSlide takes.
    cache_bytes
        Decoded tiles kept for neighbouring reads.

    Raises
    ------
    NotASlideError
        If OpenSlide does not know the format.
    CorruptSlideError
        If it does, but cannot open the file.
    """

    name = "openslide"

    def __init__(self, path: Path, *, cache_bytes: int) -> None:
        self._path = path
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise NotASlideError(
                f"expected a whole-slide image, got {path.name}, whose content no reader recognises; {CHOOSE}"
            ).in_window(f"{path.name} is not a slide that can be read. {CHOOSE[:1].upper()}{CHOOSE[1:]}.") from error
        except (openslide.OpenSlideError, OSError) as error:
            raise CorruptSlideError(
                f"expected a complete slide, but {path.name} cannot be opened ({first_line(error)}); "
                "copy it again with all files that belong to it"
            ) from error
        # Blocks are kept composed on white; OpenSlide keeps the tiles that lie across two blocks.
        self._cache = TileCache(cache_bytes)
        self._slide.set_cache(openslide.OpenSlideCache(cache_bytes // 4))
        properties = self._slide.properties
        self._downsamples = tuple(self._slide.level_downsamples)
        self.levels = tuple(
            StoredLevel(
                size=Size(*dimensions),
                tile=Size(
                    int(properties.get(f"openslide.level[{index}].tile-width", _TILE_PX)),
                    int(properties.get(f"openslide.level[{index}].tile-height", _TILE_PX)),
                ),
            )
            for index, dimensions in enumerate(self._slide.level_dimensions)
        )
        self._grids = tuple(TileGrid(level.size, Size(_BLOCK_PX, _BLOCK_PX)) for level in self.levels)
        self.metadata = _metadata(path, properties)
        self.associated: Mapping[str, Callable[[], UInt8Array]] = {
            name: lambda name=name: self._associated(name)  # type: ignore[misc]
            for name in self._slide.associated_images
        }

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level; see :class:`~napari_metastasis.slides.backend.Backend`."""
        return self._grids[level].assemble(
            region, lambda index, block: self._cache.get((level, index), lambda: self._block(level, block))
        )

    def _block(self, level: int, region: Region) -> UInt8Array:
        """Return a block of a level.

        OpenSlide takes the corner in level-0 pixels, and shifts its pixels by the fraction that remains where the sizes
        of levels do not divide. Blocks lie on a fixed grid, so that the shift of a pixel does not depend on the region
        that is read.
        """
        downsample = self._downsamples[level]
        corner = round(region.x * downsample), round(region.y * downsample)
        try:
            image = self._slide.read_region(corner, level, (region.width, region.height))
        except openslide.OpenSlideError as error:
            raise CorruptSlideError(
                f"expected level {level} of {self._path.name} at {region}, but it cannot be read "
                f"({first_line(error)}); copy the slide again with all files that belong to it"
            ) from error
        return compose_on_white(np.asarray(image), premultiplied=False)

    def tile_bytes(self, level: int) -> None:
        """Return ``None``: OpenSlide does not tell."""

    def forget(self) -> None:
        """Drop decoded tiles from memory."""
        self._cache.forget()

    def close(self) -> None:
        """Close the slide."""
        self._cache.clear()
        self._slide.close()

    def _associated(self, name: str) -> UInt8Array:
        stated = (number(self._slide.properties.get(f"openslide.associated.{name}.{side}")) for side in _SIDES)
        check_associated(name, Size(*(int(side or 0) for side in stated)), self._path.name)
        try:
            image = self._slide.associated_images[name]
        except openslide.OpenSlideError as error:
            raise CorruptSlideError(
                f"expected the {name} image of {self._path.name}, but it cannot be read ({first_line(error)}); "
                "copy the slide again with all files that belong to it"
            ) from error
        return compose_on_white(np.asarray(image.convert("RGBA")), premultiplied=False)


def _metadata(path: Path, properties: Mapping[str, str]) -> Metadata:
    vendor = properties.get("openslide.vendor", "")
    return Metadata(
        format=_FORMAT_NAMES.get(vendor, vendor or "OpenSlide"),
        pixel_size=_pixel_size(path, vendor, properties),
        objective_power=number(properties.get("openslide.objective-power")),
        bounds=_bounds(properties),
    )


def _pixel_size(path: Path, vendor: str, properties: Mapping[str, str]) -> PixelSize | None:
    """Return the pixel size that the slide states; for Leica's, also that of its description's first region."""
    across, down = (number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    stated = plausible(across, down, "OpenSlide's openslide.mpp-x")
    width, height = (number(properties.get(f"openslide.region[0].{side}")) for side in ("width", "height"))
    if stated is not None or vendor != "leica" or width is None or height is None:
        return stated
    try:
        with tifffile.TiffFile(path) as tiff:
            root = xml_root(str(tiff.pages[0].aspage().description))
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError, TypeError, AttributeError):
        return None
    return None if root is None else scn_scan(root, width=int(width), height=int(height))[0]


def _bounds(properties: Mapping[str, str]) -> Region | None:
    found = [number(properties.get(f"openslide.bounds-{side}")) for side in ("x", "y", "width", "height")]
    if any(value is None for value in found):
        return None
    return Region(*(int(value) for value in found if value is not None))
