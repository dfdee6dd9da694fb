"""TIFF, BigTIFF, OME-TIFF, SVS, NDPI, SCN and Philips slides, read with tifffile."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
import numpy.typing as npt
import tifffile

from napari_metastasis.errors import CorruptSlideError, FluorescenceError, NetworkError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.pictures import check_pages
from napari_metastasis.slides import metadata as dialects
from napari_metastasis.slides.associated import check_associated
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array, UnsupportedDialectError
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.levels import LevelTiles, resembles, shrinks_alike
from napari_metastasis.slides.lifetime import ByteSource, PositionedFile
from napari_metastasis.slides.remote_file import SourceReader
from napari_metastasis.slides.tiff_tiles import TiffTiles

__all__ = ["TifffileBackend", "begins_as_tiff"]

#: The tag of a TIFF that holds XMP.
_XMP = 700

# tifffile logs every oddity, and Python prints logs to standard error where no logging is set up.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

#: What tifffile raises on damaged headers.
_PARSING_ERRORS = (
    tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, EOFError,
    OSError, AttributeError, AssertionError, struct.error, OverflowError, ZeroDivisionError, MemoryError, ParseError,
)  # fmt: skip

_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: Series of plain pages, whose levels are told by their sizes alone.
_PLAIN_SERIES = ("generic", "uniform", "shaped", "ndpi")
#: Images beside a slide, by what their names or the first lines of their descriptions say.
_BESIDE = re.compile(r"\b(label|macro|thumbnail|overview)\b")

_NDPI_SOURCE_LENS = 65421
_NDPI_Z_OFFSET = 65424
#: Source lenses that are no lenses.
_NDPI_BESIDE = {-1.0: "macro", -2.0: "map"}
#: Another image of at least this share of the slide's area is not passed over in silence.
_LARGE_SHARE = 0.1
_NDPI_FILTER_SET = 65434
_NDPI_EMISSION_WAVELENGTH = 65451


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The pages of a file that may make the slide, and those of other images."""

    kind: str
    levels: list[tifffile.TiffPage]
    associated: dict[str, tifffile.TiffPage]
    notes: tuple[str, ...]


def begins_as_tiff(source: ByteSource) -> bool:
    """Return whether a file begins as a TIFF does."""
    return source.size > len(_MAGICS[0]) and source.read(0, len(_MAGICS[0])) in _MAGICS


class TifffileBackend:
    """An open TIFF slide.

    Parameters
    ----------
    path
        A file that begins like a TIFF, or the source of its bytes, which is closed with the slide.
    cache_bytes
        Decoded tiles kept for neighbouring reads.

    Raises
    ------
    CorruptSlideError
        If the file is cut off or its headers are damaged.
    UnsupportedDialectError
        If it holds nothing that tifffile can show as RGB.
    FluorescenceError
        If its image is grey, or states a filter set.
    """

    name = "tifffile"

    def __init__(self, path: Path | ByteSource, *, cache_bytes: int) -> None:
        self._cache = TileCache(cache_bytes)
        self._file: ByteSource = PositionedFile(path) if isinstance(path, Path) else path
        try:
            self._open(path)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path | ByteSource) -> None:
        reader = None if isinstance(path, Path) else SourceReader(path)
        try:
            # NDPI is told by its name.
            with tifffile.TiffFile(reader or path, name=self._file.name) as tiff:
                _check_directories(tiff, path.name)
                if reader is not None:
                    _refuse_what_has_to_be_joined(tiff, path.name)
                chosen = _choose(tiff, path.name)
                levels, others = self._checked(chosen.levels)
                self._levels = LevelTiles(tuple(levels))
                self.associated = self._lazy(chosen.associated | others)
                if levels[0].is_transparent():
                    raise NotASlideError(
                        f"expected a slide that can be seen, got {path.name}, all of which is said to be transparent; "
                        "export it without transparency"
                    )
                notes = (*chosen.notes, *levels[0].notes, *_left_out(others, path.name))
                self.metadata = replace(_metadata(tiff, chosen), notes=notes)
            if reader is not None and reader.failure is not None:
                raise reader.failure
        except (CorruptSlideError, NotASlideError, FluorescenceError, NetworkError):
            raise
        except _PARSING_ERRORS as error:
            if reader is not None and reader.failure is not None:
                raise reader.failure from error
            raise CorruptSlideError(
                f"expected a complete TIFF file, but the headers of {path.name} cannot be read; "
                "copy the slide again from its source"
            ) from error
        self.levels = tuple(StoredLevel(size=level.size, tile=level.tile) for level in self._levels)

    def _checked(self, pages: list[tifffile.TiffPage]) -> tuple[list[TiffTiles], dict[str, tifffile.TiffPage]]:
        """Return those of the pages, from the largest, that show the same slide, each smaller; and the others.

        Raises
        ------
        NotASlideError, UnsupportedDialectError, CorruptSlideError
            If the largest cannot be read.
        """
        levels = [TiffTiles(pages[0], self._file, self._cache)]
        others: dict[str, tifffile.TiffPage] = {}
        for page in pages[1:]:
            size = Size(int(page.imagewidth), int(page.imagelength))
            if shrinks_alike(levels[0].size, size) and size.width < levels[-1].size.width:
                level = TiffTiles(page, self._file, self._cache)
                if resembles(levels[-1], level):
                    levels.append(level)
                    continue
            others[f"image {page.index}"] = page
        return levels, others

    def _lazy(self, pages: dict[str, tifffile.TiffPage]) -> Mapping[str, Callable[[], UInt8Array]]:
        found: dict[str, Callable[[], UInt8Array]] = {}
        for name, page in pages.items():
            try:
                image = TiffTiles(page, self._file, self._cache)
            except (NotASlideError, *_PARSING_ERRORS):
                continue  # a focus map, or a label that was blanked badly: the slide itself is whole
            found[name] = partial(self._associated, name, image)
        return found

    def _associated(self, name: str, image: TiffTiles) -> UInt8Array:
        check_associated(name, image.size, self._file.name)
        return image.read(Region.of(image.size))

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level; see :class:`~napari_metastasis.slides.backend.Backend`."""
        return self._levels.read(level, region)

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64]:
        """Return the compressed size of every tile of a stored level in reading order."""
        return self._levels[level].tile_bytes

    def forget(self) -> None:
        """Drop decoded tiles from memory."""
        self._cache.forget()

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        self._file.close()


def _check_directories(tiff: tifffile.TiffFile, name: str) -> None:
    """Refuse a file whose chain of pages breaks off; tifffile goes on with the pages before that."""
    check_pages(tiff)
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


def _refuse_what_has_to_be_joined(tiff: tifffile.TiffFile, name: str) -> None:
    """Refuse slides whose tiles or regions OpenSlide puts in their places: it reads no address.

    Raises
    ------
    NotASlideError
        Naming the scanner.
    """
    # As OpenSlide tells them.
    tags = tiff.pages[0].tags
    xmp = tags.valueof(_XMP)
    if tiff.is_scn:
        found = "Leica SCN"
    elif tiff.is_bif or (isinstance(xmp, bytes) and b"iScan" in xmp):
        found = "Ventana"
    else:
        found = "Trestle" if "MedScan" in str(tags.valueof("Software") or "") else ""
    if found:
        raise NotASlideError(
            f"expected a slide that can be read at an address, got {name} of {found}, which OpenSlide has to put "
            "together; copy it to this machine"
        )


def _choose(tiff: tifffile.TiffFile, name: str) -> _Chosen:
    """Return the pages of the largest RGB image, the largest first, and those of the other images."""
    images = [series for series in tiff.series if _is_flat_rgb(series)]
    if not images:
        _refuse(tiff, name)
    slides = [series for series in images if not _beside(series, series.keyframe)] or images
    base = max(slides, key=lambda series: _area(series.keyframe))
    levels = [_in_focus(level) for level in base.levels]
    associated: dict[str, tifffile.TiffPage] = {}
    more: list[str] = []
    for series in images:
        if series is base:
            continue
        page = series.keyframe
        # Plain pages, one a level: tifffile recognises only those whose sizes divide exactly.
        if series.kind in _PLAIN_SERIES and series in slides and _may_continue(levels[0], page):
            levels.extend(_in_focus(level) for level in series.levels)
        else:
            associated.setdefault(_associated_name(series, page), page)
            if series in slides and _area(page) >= _LARGE_SHARE * _area(base.keyframe):
                more.append(f"{page.imagewidth} x {page.imagelength}")
    beside = {_beside(base, page): page for page in levels[1:] if _beside(base, page)}
    levels = [page for page in levels if _is_rgb(page) and page not in beside.values()]
    levels.sort(key=_area, reverse=True)
    notes = []
    if (planes := len(_pages_of(base))) > 1:
        notes.append(
            f"expected one focal plane in {name}, got {planes} images of its size; the one in focus by what the file "
            "says, or else the middle one, is read"
        )
    if more:
        notes.append(
            f"expected one slide in {name}, got further images ({', '.join(more)} px); only the largest is read"
        )
    return _Chosen(base.kind, levels, associated | beside, tuple(notes))


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _pages_of(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """Return the pages of a level: several where it is a stack."""
    return [page for page in series.pages if page is not None]


def _in_focus(series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    """Return the page of a level that is in focus: at offset 0 where the file tells offsets, else in the middle."""
    pages = _pages_of(series)
    if len(pages) == 1:
        return series.keyframe
    offsets = [page.aspage().tags.valueof(_NDPI_Z_OFFSET) for page in pages]
    if any(offset is None for offset in offsets):
        return pages[len(pages) // 2].aspage()
    # Signed, of 32 bits, whatever the tag is declared as.
    signed = [((int(offset) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31) for offset in offsets]
    return pages[int(np.argmin(np.abs(signed)))].aspage()


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
    raise UnsupportedDialectError(
        f"expected an RGB image in {name}, got {page.samplesperpixel} channel(s); export the slide as RGB"
    )


def _may_continue(full: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Return whether ``page`` may show the same slide, smaller."""
    if page.is_tiled != full.is_tiled or page.dtype != full.dtype:
        return False
    return shrinks_alike(
        Size(int(full.imagewidth), int(full.imagelength)), Size(int(page.imagewidth), int(page.imagelength))
    )


def _left_out(pages: Mapping[str, tifffile.TiffPage], name: str) -> tuple[str, ...]:
    """Return what is to be said of pages that were taken for levels and are none."""
    if not pages:
        return ()
    sizes = ", ".join(f"{page.imagewidth} x {page.imagelength}" for page in pages.values())
    return (
        f"expected smaller copies of the slide in {name}, got images of another shape or content ({sizes} px); they "
        "are left out",
    )


def _beside(series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    """Return what kind of image beside the slide a page says that it is; nothing for one that says no such thing."""
    if page.tags.valueof(_NDPI_SOURCE_LENS) in _NDPI_BESIDE:
        return _NDPI_BESIDE[page.tags.valueof(_NDPI_SOURCE_LENS)]
    # Fields behind the first bar hold what users typed.
    first = str(page.description or "")[:200].partition("|")[0] if page.description[:1] != "<" else ""
    found = _BESIDE.search(f"{series.name if page is series.keyframe else ''} {first}".lower())
    return found[1] if found else ""


def _associated_name(series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    return _beside(series, page) or ("macro" if page.imagewidth > 2 * page.imagelength else f"image {page.index}")


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
        return Metadata(
            "Aperio SVS", dialects.plausible(mpp, mpp, "MPP of the description"), dialects.number(fields.get("AppMag"))
        )
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
        found = dialects.ome_pixel_size(root, width=size.width, height=size.height)
        return Metadata("OME-TIFF", found or resolution, dialects.ome_objective_power(root))
    return Metadata("BigTIFF" if tiff.is_bigtiff else "TIFF", resolution)


def _ndpi_fluorescence(page: tifffile.TiffPage) -> str:
    """Return the filter set's name where the file states an emission wavelength, which brightfield scans lack."""
    wavelength = dialects.number(page.tags.valueof(_NDPI_EMISSION_WAVELENGTH))
    if not wavelength:
        return ""
    filter_set = str(page.tags.valueof(_NDPI_FILTER_SET, "") or "").strip()
    return f"filter set {filter_set}" if filter_set else f"emission at {wavelength:g} nm"
