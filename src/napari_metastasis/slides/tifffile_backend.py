"""TIFF, BigTIFF, OME-TIFF, SVS, NDPI, SCN and Philips slides, read with tifffile."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from napari_metastasis.errors import CorruptSlideError, FluorescenceError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import metadata as dialects
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.lifetime import PositionedFile
from napari_metastasis.slides.tiff_tiles import TiffTiles, UnsupportedTiffError

__all__ = ["TifffileBackend"]

# tifffile logs every oddity, and Python prints logs to standard error where no logging is set up.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

#: What tifffile raises on damaged headers.
_PARSING_ERRORS = (
    tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, EOFError,
    OSError, AttributeError, AssertionError, struct.error, OverflowError, ZeroDivisionError, MemoryError,
)  # fmt: skip

#: A page belongs to the pyramid if both its sides shrink alike, to within this share or two pixels.
_ASPECT_TOLERANCE = 0.01

_NDPI_SOURCE_LENS = 65421
_NDPI_FILTER_SET = 65434
_NDPI_EMISSION_WAVELENGTH = 65451


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The pages of a file that make the slide, and those of other images."""

    kind: str
    series: int
    levels: list[tifffile.TiffPage]
    associated: dict[str, tifffile.TiffPage]


class TifffileBackend:
    """An open TIFF slide.

    Parameters
    ----------
    path
        A file that begins like a TIFF.
    cache_bytes
        Decoded tiles kept for neighbouring reads.

    Raises
    ------
    CorruptSlideError
        If the file is cut off or its headers are damaged.
    UnsupportedTiffError
        If it holds nothing that tifffile can show as RGB.
    FluorescenceError
        If its image is grey, or states a filter set.
    """

    name = "tifffile"

    def __init__(self, path: Path, *, cache_bytes: int) -> None:
        self._cache = TileCache(cache_bytes)
        self._file = PositionedFile(path)
        try:
            self._open(path)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path) -> None:
        try:
            with tifffile.TiffFile(path) as tiff:
                _check_directories(tiff, path.name)
                chosen = _choose(tiff, path.name)
                self.metadata = _metadata(tiff, chosen)
                self._levels = tuple(TiffTiles(page, self._file, self._cache) for page in chosen.levels)
                self.associated = self._lazy(chosen.associated)
        except (CorruptSlideError, NotASlideError, FluorescenceError):
            raise
        except _PARSING_ERRORS as error:
            raise CorruptSlideError(
                f"expected a complete TIFF file, but the headers of {path.name} cannot be read; "
                "copy the slide again from its source"
            ) from error
        self.levels = tuple(StoredLevel(size=level.size, tile=level.tile) for level in self._levels)

    def _lazy(self, pages: dict[str, tifffile.TiffPage]) -> Mapping[str, Callable[[], UInt8Array]]:
        found: dict[str, Callable[[], UInt8Array]] = {}
        for name, page in pages.items():
            try:
                image = TiffTiles(page, self._file, self._cache)
            except (NotASlideError, *_PARSING_ERRORS):
                continue  # a focus map, or a label that was blanked badly: the slide itself is whole
            found[name] = lambda image=image: image.read(Region.of(image.size))  # type: ignore[misc]
        return found

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level; see :class:`~napari_metastasis.slides.backend.Backend`."""
        return self._levels[level].read(region)

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64]:
        """Return the compressed size of every tile of a stored level in reading order."""
        return self._levels[level].tile_bytes

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        self._file.close()


def _check_directories(tiff: tifffile.TiffFile, name: str) -> None:
    """Refuse a file whose chain of pages breaks off; tifffile goes on with the pages before that."""
    cut_off = f"expected a complete TIFF file, but {name} is cut off; copy the slide again from its source"
    if not len(tiff.pages):
        raise CorruptSlideError(cut_off)
    if tiff.is_ndpi:
        return  # its offsets have a format of their own
    offsets = {page.offset for page in tiff.pages}
    layout, file = tiff.tiff, tiff.filehandle
    file.seek(tiff.pages[len(tiff.pages) - 1].offset)
    (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(tags * layout.tagsize, 1)
    (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    if following and following not in offsets:
        raise CorruptSlideError(cut_off)


def _choose(tiff: tifffile.TiffFile, name: str) -> _Chosen:
    """Return the pages of the largest RGB image, and those of the other images."""
    images = [(index, series) for index, series in enumerate(tiff.series) if _is_flat_rgb(series)]
    if not images:
        _refuse(tiff, name)
    index, base = max(images, key=lambda item: item[1].keyframe.imagewidth * item[1].keyframe.imagelength)
    levels = [level.keyframe for level in base.levels]
    associated: dict[str, tifffile.TiffPage] = {}
    for other, series in images:
        if other == index:
            continue
        page = series.keyframe
        # Plain pages, one a level: tifffile recognises only those whose sizes divide exactly.
        if series.kind in ("generic", "uniform", "shaped", "ndpi") and _continues(levels, page):
            levels.extend(level.keyframe for level in series.levels)
        else:
            associated.setdefault(_associated_name(series, page), page)
    levels = [page for page in levels if _is_rgb(page)]
    levels.sort(key=lambda page: page.imagewidth * page.imagelength, reverse=True)
    return _Chosen(kind=base.kind, series=index, levels=_strictly_coarser(levels), associated=associated)


def _is_rgb(page: tifffile.TiffPage) -> bool:
    return int(page.samplesperpixel) in (3, 4)


def _is_flat_rgb(series: tifffile.TiffPageSeries) -> bool:
    return bool(series.keyframe is not None and _is_rgb(series.keyframe))


def _refuse(tiff: tifffile.TiffFile, name: str) -> None:
    page = tiff.series[0].keyframe
    channels = max((len(series.pages) for series in tiff.series), default=1)
    if int(page.photometric) in (0, 1):
        raise FluorescenceError(
            f"expected an H&E slide in RGB, got {channels} grey channel(s) in {name}: a fluorescence image; "
            "choose a brightfield slide, or export this one as RGB"
        )
    raise UnsupportedTiffError(
        f"expected an RGB image in {name}, got {page.samplesperpixel} channel(s); export the slide as RGB"
    )


def _continues(levels: list[tifffile.TiffPage], page: tifffile.TiffPage) -> bool:
    """Return whether ``page`` shows the same slide, smaller."""
    full = levels[0]
    if page.imagewidth >= full.imagewidth or page.is_tiled != full.is_tiled or page.dtype != full.dtype:
        return False
    ratio = full.imagewidth / page.imagewidth
    expected = full.imagelength / ratio
    return abs(page.imagelength - expected) <= max(2.0, _ASPECT_TOLERANCE * expected)


def _strictly_coarser(pages: list[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """Drop levels that repeat the size of the one before, as focal planes do."""
    kept: list[tifffile.TiffPage] = []
    for page in pages:
        if not kept or page.imagewidth < kept[-1].imagewidth:
            kept.append(page)
    return kept


def _associated_name(series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    text = f"{series.name} {str(page.description)[:200]}".lower()
    for known in ("label", "macro", "thumbnail", "overview"):
        if known in text:
            return known
    return "macro" if page.imagewidth > 2 * page.imagelength else f"image {page.index}"


def _metadata(tiff: tifffile.TiffFile, chosen: _Chosen) -> Metadata:
    page = chosen.levels[0]
    description = str(tiff.pages[0].description or "")
    size = Size(int(page.imagewidth), int(page.imagelength))
    resolution = dialects.resolution_pixel_size(
        page.tags.valueof(282), page.tags.valueof(283), int(page.tags.valueof(296, 2) or 1)
    )
    if chosen.kind == "svs":
        fields = dialects.aperio_fields(description)
        mpp = dialects.number(fields.get("MPP"))
        return Metadata("Aperio SVS", dialects.plausible(mpp, mpp), dialects.number(fields.get("AppMag")))
    if chosen.kind == "ndpi":
        power = dialects.number(page.tags.valueof(_NDPI_SOURCE_LENS))
        return Metadata("Hamamatsu NDPI", resolution, power, fluorescence=_ndpi_fluorescence(page))
    root = dialects.xml_root(description) if description.lstrip("\ufeff \r\n").startswith("<") else None
    if chosen.kind == "philips":
        return Metadata("Philips TIFF", dialects.philips_pixel_size(description) or resolution)
    if chosen.kind == "scn" and root is not None:
        found, power = dialects.scn_scan(root, width=size.width, height=size.height)
        return Metadata("Leica SCN", found or resolution, power)
    if chosen.kind == "ome" and root is not None:
        found = dialects.ome_pixel_size(root, chosen.series)
        return Metadata("OME-TIFF", found or resolution, dialects.ome_objective_power(root))
    return Metadata("BigTIFF" if tiff.is_bigtiff else "TIFF", resolution)


def _ndpi_fluorescence(page: tifffile.TiffPage) -> str:
    """Return the filter set's name where the file states an emission wavelength, which brightfield scans lack."""
    wavelength = dialects.number(page.tags.valueof(_NDPI_EMISSION_WAVELENGTH))
    if not wavelength:
        return ""
    filter_set = str(page.tags.valueof(_NDPI_FILTER_SET, "") or "").strip()
    return f"filter set {filter_set}" if filter_set else f"emission at {wavelength:g} nm"
