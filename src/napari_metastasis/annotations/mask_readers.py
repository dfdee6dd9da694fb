"""The pixels of mask images, level by level: TIFF tile by tile, pictures by their blocks that are not of one value."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.pictures import PictureError, check_pages, check_piece, decode_picture, is_decoded

__all__ = ["MASK_REMEDY", "MaskReader", "Values", "open_reader"]

Values = NDArray[np.uint8]

MASK_REMEDY = "choose a mask as 8-bit grey TIFF (tiled, with or without a pyramid), PNG or JPEG"
_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".svs"})
_JPEG_FAMILY = (6, 7, 33007, 34892)
#: Side of the squares that pictures are kept in; most of them are empty and take no memory.
_BLOCK_PX = 256
#: Decoded tiles that are kept: the one of nothing but glass, that of nothing but tissue, and the last.
_KEPT_TILES = 4
#: A picture or a strip is decoded whole; larger ones do not fit the memory of most machines. No slide is wider.
_MAX_PICTURE_PX, _MAX_SIDE_PX = 1 << 28, 400_000
#: Grey where black is 0 or white is, RGB, numbers of a palette, and JPEG's colours.
_PHOTOMETRICS, _MINISWHITE, _PLANAR_SEPARATE = (0, 1, 2, 3, 6), 0, 2
#: Samples that differ by no more are grey: JPEG is not exact.
_COLOURLESS = 24
#: A page is a level of the one before where its sides shrink alike, to within so many pixels of rounding.
_OFF_PX = 2
#: Levels are compared in so many squares around pieces of either that are not of one value, of so many pixels of the
#: coarser one, or of the finer one; each in so many blocks along a side, which differ by at most such a share of both
#: together. So many pieces are looked at to find them.
_SQUARES, _SQUARE_PX, _FINE_PX, _BLOCKS, _APART, _PIECES_SEEN = 4, 256, 2048, 4, 0.5, 256
#: Fewer marked pixels of the coarser level tell nothing: a level that is sampled may hold all of them, or none.
_TELLING_PX = 16
#: Levels of a shorter side show no shapes, and what was pooled to the highest value has grown many times.
_COARSEST_PX = 64


class MaskReader(Protocol):
    """The pixels of a mask, level by level."""

    levels: tuple[Size, ...]

    def read(self, level: int, region: Region) -> Values:
        """Return values inside a level, (rows, columns)."""

    def values(self, level: int) -> NDArray[np.bool_]:
        """Return which of the 256 values a level holds."""

    def close(self) -> None:
        """Give the file back."""


def open_reader(path: Path) -> MaskReader:
    """Open a mask; what its library raises on damaged files passes unchanged."""
    return _TiffReader(path) if path.suffix.lower() in _TIFF_SUFFIXES else _PictureReader(path)


class _TiffReader:
    """A TIFF mask, tile by tile."""

    def __init__(self, path: Path) -> None:
        # Held open, so that a read does not parse the pyramid's directories again.
        self._file = tifffile.TiffFile(path)
        self._name = path.name
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, bytes], Values] = OrderedDict()
        try:
            check_pages(self._file)
            self._pages = _pyramid(self._file)
            _check_alone(self._file, path)
            fault = next(filter(None, map(_fault, self._pages)), None)
            if fault is not None:
                raise AnnotationError(f"expected whole numbers in the mask {path}, got {fault}; {MASK_REMEDY}")
            self.levels = tuple(Size(int(page.imagewidth), int(page.imagelength)) for page in self._pages)
            self._check_levels(path)
        except BaseException:
            self._file.close()
            raise

    def _check_levels(self, path: Path) -> None:
        """Refuse a page that has the size of a level and shows something else: which one is the mask is not known."""
        for level, size in enumerate(self.levels[1:], start=1):
            if min(size.width, size.height) < _COARSEST_PX:
                return
            squares = [*self._marked(level, level), *self._marked(level - 1, level)]
            unlike = [square for square in squares if not self._is_alike(level, square)]
            if len(unlike) > len(squares) // 2:
                raise AnnotationError(
                    f"expected the levels of one mask in {path}, got a page of {size.width} x {size.height} px that "
                    "shows something else than the one before; save the mask alone, with its own levels or without"
                )

    def _marked(self, level: int, shown_at: int) -> Iterator[Region]:
        """Yield squares of the level ``shown_at`` around pieces of a level that are not of one value."""
        grid, size = list(self._grid(level)), self.levels[shown_at]
        counts = np.asarray(self._pages[level].databytecounts)[: len(grid)]
        # The longest first; where all are as long as they are large, pieces from all over.
        stored_alike = counts.size > 0 and counts.min() == counts.max()
        order = np.random.default_rng(0).permutation(len(grid)) if stored_alike else np.argsort(-counts, kind="stable")
        scale = self.levels[level].width / size.width
        side = max(_BLOCKS, min(_SQUARE_PX, int(_FINE_PX * size.width / self.levels[shown_at - 1].width)))
        found = 0
        for index in order[:_PIECES_SEEN].tolist():
            piece = grid[index].intersection(Region.of(self.levels[level]))
            values = self.read(level, piece)
            if values.min() == values.max():
                continue
            x, y = int(piece.center.x / scale) - side // 2, int(piece.center.y / scale) - side // 2
            yield Region(max(0, x), max(0, y), side, side).intersection(Region.of(size))
            found += 1
            if found == _SQUARES:
                return

    def _is_alike(self, level: int, square: Region) -> bool:
        """Return whether a square of a level shows what the next finer one shows there, or too little to tell."""
        size, finer = self.levels[level], self.levels[level - 1]
        x_scale, y_scale = finer.width / size.width, finer.height / size.height
        left, top = round(square.x * x_scale), round(square.y * y_scale)
        there = Region(left, top, round(square.right * x_scale) - left, round(square.bottom * y_scale) - top)
        coarse = self.read(level, square)
        fine = self.read(level - 1, there.intersection(Region.of(finer)))
        # What lies around is often not 0, and says nothing.
        ground = min(int(coarse.min()), int(fine.min()))
        marked = max(np.count_nonzero(coarse > ground), np.count_nonzero(fine > ground) / (x_scale * y_scale))
        if marked < _TELLING_PX:
            return True
        one, other = _block_means(coarse) - ground, _block_means(fine) - ground
        return float(np.abs(one - other).sum()) <= _APART * float((one + other).sum())

    def read(self, level: int, region: Region) -> Values:
        page, size = self._pages[level], self.levels[level]
        width, height = _piece(page)
        columns = -(-size.width // width)
        result = np.zeros(region.size.shape, dtype=np.uint8)
        for row in range(region.y // height, -(-region.bottom // height)):
            for column in range(region.x // width, -(-region.right // width)):
                whole = Region(column * width, row * height, width, height)
                part = whole.intersection(region)
                tile = self._tile(level, page, row * columns + column)
                if tile is not None:
                    result[part.shifted(-region.x, -region.y).slices] = tile[part.shifted(-whole.x, -whole.y).slices]
        return result

    def _tile(self, level: int, page: Any, index: int) -> Values | None:
        """Return a decoded piece, ``None`` where the file leaves it out: nothing is marked there."""
        data = self._stored(page, index)
        return None if data is None else self._decoded(level, page, index, data)

    def _stored(self, page: Any, index: int) -> bytes | None:
        """Return a piece as it is stored, ``None`` where the file leaves it out."""
        count = int(page.databytecounts[index])
        if count == 0:
            return None
        with self._lock:
            return self._bytes(int(page.dataoffsets[index]), count)

    def _decoded(self, level: int, page: Any, index: int, data: bytes) -> Values | None:
        with self._lock:
            # By what is stored, not by where: most tiles of a mask are of one value, and stored alike.
            if (level, data) in self._kept:
                self._kept.move_to_end((level, data))
                return self._kept[level, data]
        tables = (
            {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG_FAMILY else {}
        )
        check_piece(page, data)
        decoded, _, _ = page.decode(data, index, **tables)
        if decoded is None:
            return None
        tile = _gray(np.asarray(decoded)[0], self._name)
        if page.photometric == _MINISWHITE:
            # Black is the highest value.
            tile = np.uint8((1 << min(8, int(page.bitspersample))) - 1) - tile
        with self._lock:
            self._kept[level, data] = tile
            while len(self._kept) > _KEPT_TILES:
                self._kept.popitem(last=False)
        return tile

    def values(self, level: int) -> NDArray[np.bool_]:
        page, size = self._pages[level], self.levels[level]
        found, looked_at = np.zeros(256, dtype=bool), set()
        for index, part in enumerate(self._grid(level)):
            inside = part.intersection(Region.of(size)).size
            data = self._stored(page, index)
            if (hash(data), inside) in looked_at:
                continue
            looked_at.add((hash(data), inside))
            tile = None if data is None else self._decoded(level, page, index, data)
            found[0 if tile is None else np.unique(tile[: inside.height, : inside.width])] = True
        return found

    def _grid(self, level: int) -> Iterator[Region]:
        """Yield where the pieces of a level lie, in their order; the last ones may reach past it."""
        page, size = self._pages[level], self.levels[level]
        width, height = _piece(page)
        for y in range(0, size.height, height):
            for x in range(0, size.width, width):
                yield Region(x, y, width, height)

    def _bytes(self, offset: int, count: int) -> bytes:
        handle = self._file.filehandle
        if hasattr(os, "pread"):
            # A forked process shares the file's position with this one.
            return os.pread(handle.fileno(), count, offset)
        handle.seek(offset)
        data: bytes = handle.read(count)
        return data

    def close(self) -> None:
        self._file.close()


class _PictureReader:
    """A picture, decoded once and kept as its blocks that are not of one value."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        try:
            decoded = decode_picture(data, most_px=_MAX_PICTURE_PX, indexed=True)
        except PictureError as error:
            raise AnnotationError(f"expected a mask, got {error} in {path}; {MASK_REMEDY}") from error
        pixels = _gray(decoded, path.name)
        size = Size(pixels.shape[1], pixels.shape[0])
        self.levels: tuple[Size, ...] = (size,)
        self._constant: dict[tuple[int, int], int] = {}
        self._blocks: dict[tuple[int, int], Values] = {}
        for block in Region.of(size).split(_BLOCK_PX):
            values = pixels[block.slices]
            key = block.y // _BLOCK_PX, block.x // _BLOCK_PX
            if values.min() == values.max():
                self._constant[key] = int(values[0, 0])
            else:
                self._blocks[key] = values.copy()

    def read(self, level: int, region: Region) -> Values:
        del level
        result = np.empty(region.size.shape, dtype=np.uint8)
        for part in region.split(_BLOCK_PX):
            key = part.y // _BLOCK_PX, part.x // _BLOCK_PX
            target = part.shifted(-region.x, -region.y).slices
            if key in self._constant:
                result[target] = self._constant[key]
            else:
                result[target] = self._blocks[key][part.shifted(-key[1] * _BLOCK_PX, -key[0] * _BLOCK_PX).slices]
        return result

    def values(self, level: int) -> NDArray[np.bool_]:
        del level
        found = np.zeros(256, dtype=bool)
        found[list(self._constant.values())] = True
        for values in self._blocks.values():
            found[np.unique(values)] = True
        return found

    def close(self) -> None:
        """Nothing is open."""


def _block_means(values: Values) -> NDArray[np.float64]:
    """Return the means of an image's blocks, (4, 4): what was sampled or averaged, blocks show alike."""
    rows, columns = (np.linspace(0, length, _BLOCKS + 1).astype(int)[:-1] for length in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.float64), columns, axis=1)
    counts = np.outer(np.diff([*rows, values.shape[0]]), np.diff([*columns, values.shape[1]]))
    return np.asarray(sums / counts)


def _check_alone(file: tifffile.TiffFile, path: Path) -> None:
    """Refuse several images of the mask's size: which of them is the mask, or whether all are, is not known."""
    first = file.series[0].levels[0].keyframe
    size = (first.imagewidth, first.imagelength)
    alike = [series for series in file.series if (series.keyframe.imagewidth, series.keyframe.imagelength) == size]
    count = sum(len(series.levels[0].pages) for series in alike)
    if count > 1:
        raise AnnotationError(
            f"expected one mask in {path}, got {count} images of {size[0]} x {size[1]} px; save them as one image, "
            "tumour 255"
        )


def _pyramid(file: tifffile.TiffFile) -> list[Any]:
    """Return the pages of a pyramid, the finest first; some writers do not mark further pages as its levels."""
    pages = [level.keyframe for level in file.series[0].levels]
    if len(pages) > 1:
        return pages
    first = pages[0]
    for series in file.series[1:]:
        page = series.keyframe
        ratio = first.imagewidth / page.imagewidth
        if page.imagewidth < pages[-1].imagewidth and abs(first.imagelength / ratio - page.imagelength) <= _OFF_PX:
            pages.append(page)
    return pages


def _piece(page: Any) -> tuple[int, int]:
    """Return width and height of the tiles or strips of a page."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))


def _fault(page: Any) -> str | None:
    """Return what is wrong with a page of a mask; ``None`` where nothing is."""
    if page.dtype is None or page.dtype.kind not in "uib":
        return str(page.dtype)
    if getattr(page, "imagedepth", 1) != 1:
        return "a volume"
    if not is_decoded(page):
        return f"{getattr(page.compression, 'name', page.compression)} compression"
    if page.photometric not in _PHOTOMETRICS:
        return f"samples of the kind {getattr(page.photometric, 'name', page.photometric)}"
    if page.photometric == _MINISWHITE and page.dtype.itemsize > 1:
        return "more than 8 bits, of which the lowest is white"
    if page.planarconfig == _PLANAR_SEPARATE and page.samplesperpixel > 1:
        return "colours in planes of their own"
    width, height = _piece(page)
    if not 0 < width * height <= _MAX_PICTURE_PX or page.imagewidth < 1 or page.imagelength < 1:
        return f"pieces of {width} x {height} px"
    if max(page.imagewidth, page.imagelength) > _MAX_SIDE_PX:
        return f"{page.imagewidth} x {page.imagelength} px"
    return None


def _gray(pixels: NDArray[Any], name: str) -> Values:
    """Return the values of a mask, (rows, columns): of grey samples, of which colours are three alike.

    Raises
    ------
    AnnotationError
        If colours differ: which of them is tumour cannot be known. Or if only transparency tells pixels apart.
    """
    if pixels.ndim == 2:
        return _as_bytes(pixels)
    samples = pixels.shape[2]
    colours = pixels[..., : samples - 1 if samples in (2, 4) else samples].astype(np.int16, copy=False)
    apart = int(np.ptp(colours, axis=2).max(initial=0)) if colours.shape[2] > 1 else 0
    hidden = samples in (2, 4) and np.ptp(colours) == 0 and np.ptp(pixels[..., -1]) > 0
    if apart > _COLOURLESS or hidden:
        what = "transparency that tells more than its values" if hidden else "colours"
        raise AnnotationError(f"expected a grey mask in {name}, got {what}; save it as 8-bit grey, tumour 255")
    return _as_bytes(pixels[..., 0])


def _as_bytes(pixels: NDArray[Any]) -> Values:
    """Return values as uint8; what is larger than a byte is a label above all classes."""
    return pixels if pixels.dtype == np.uint8 else np.clip(pixels, 0, 255).astype(np.uint8)
