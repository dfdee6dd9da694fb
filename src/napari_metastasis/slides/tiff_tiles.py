"""The tiles or strips of one TIFF page, decoded straight from the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import tifffile

from napari_metastasis.errors import CorruptSlideError, NotASlideError, first_line
from napari_metastasis.geometry import Region, Size
from napari_metastasis.pictures import check_piece, is_decoded
from napari_metastasis.slides.backend import UInt8Array, UnsupportedDialectError
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.grid import TileGrid
from napari_metastasis.slides.lifetime import ByteSource

__all__ = ["MAX_PIECE_PX", "TiffTiles", "compose_on_white"]

#: What decoders raise on damaged data: imagecodecs' own errors are RuntimeErrors, NumPy's and zlib's are the others.
_DECODING_ERRORS = (
    RuntimeError, ValueError, IndexError, TypeError, EOFError, OverflowError, MemoryError, tifffile.TiffFileError,
)  # fmt: skip

#: Rows of an uncompressed strip that are read at once. Such a strip may be the whole image; it needs no decoding, so
#: any part of it can be read on its own.
_UNCOMPRESSED_ROWS = 256

_UNCOMPRESSED, _APERIO_YCBCR = 1, 33003
_MINISBLACK, _RGB, _YCBCR = 1, 2, 6
#: What OpenSlide, by libtiff, is known to show in its right colours: palettes, CMYK, YCbCr, CIE L*a*b*.
_SHOWN_BY_OPENSLIDE = (3, 5, 6, 8)
_JPEG_FAMILY = (6, 7, 33007, 34892)
_PLANAR_SEPARATE = 2
_COLOURS = 3
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2
#: Tiles that are looked into for a slide that is transparent everywhere, and the level from which a colour is white.
_LOOKED_INTO, _WHITE = 9, 250


#: Tiles, strips and pictures are decoded whole: larger ones take more memory than a slide is allowed.
MAX_PIECE_PX = 1 << 27


def compose_on_white(rgba: UInt8Array, *, premultiplied: bool) -> UInt8Array:
    """Return RGBA of shape (rows, columns, 4) laid on white, uint8 of shape (rows, columns, 3)."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    color, opacity = rgba[..., :3].astype(np.uint16), alpha.astype(np.uint16)
    shown = color if premultiplied else (color * opacity + 127) // 255
    return np.minimum(shown + (255 - opacity), 255).astype(np.uint8)


class TiffTiles:
    """One image of a TIFF file; reads from many threads.

    Parameters
    ----------
    page
        tifffile's page. Its file may be closed afterwards.
    file
        The same file, opened for positioned reads.
    cache
        Shared by every page of the file.

    Raises
    ------
    NotASlideError
        If the page is not 8 bits deep, or its samples are no colours.
    UnsupportedDialectError
        If its colours are stored in a way that cannot be decoded here.
    CorruptSlideError
        If the file ends before the page's last tile.
    """

    def __init__(self, page: tifffile.TiffPage, file: ByteSource, cache: TileCache) -> None:
        _check_supported(page, file.name)
        self._page = page
        self._file = file
        self._cache = cache
        self._key = page.offset
        self._page = page
        self._page_decode: Callable[..., tuple[npt.NDArray[np.uint8] | None, object, object]] = page.decode
        self._jpeg = (
            {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG_FAMILY else {}
        )
        self._samples = int(page.samplesperpixel)
        fourth = int(page.extrasamples[0]) if self._samples > _COLOURS and page.extrasamples else 0
        self._alpha = fourth in (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA)
        self._premultiplied = fourth == _ASSOCIATED_ALPHA
        #: What is to be said of how the samples were understood.
        self.notes = _notes(page, file.name, alpha=self._alpha)
        planes = self._samples if page.planarconfig == _PLANAR_SEPARATE else 1
        self.size = Size(int(page.imagewidth), int(page.imagelength))
        tile = (
            Size(int(page.tilewidth), int(page.tilelength))
            if page.is_tiled
            else Size(self.size.width, min(int(page.rowsperstrip), self.size.height))
        )
        offsets, counts = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
        self._raw = page.compression == _UNCOMPRESSED and not page.is_tiled and planes == 1
        if self._raw:
            tile, offsets, counts = _split_strips(self.size, tile, offsets, self._samples)
        self._grid = TileGrid(self.size, tile)
        if tile.area > MAX_PIECE_PX:
            raise NotASlideError(
                f"expected tiles or strips of at most {MAX_PIECE_PX:,} pixels in {file.name}, got {tile.width} x "
                f"{tile.height}; save it as a tiled TIFF"
            )
        self._planes = planes
        self._offsets, self._counts = offsets, counts
        self._check_complete()
        self._stored_tiles = (self.tile_bytes > 0).reshape(-1, self._grid.columns)
        #: Whether every tile is stored.
        self.is_whole = bool(self._stored_tiles.all())

    @property
    def tile(self) -> Size:
        """Return the size of the pieces that are decoded whole."""
        return self._grid.tile

    @property
    def tile_bytes(self) -> npt.NDArray[np.int64]:
        """Return the compressed size of every tile in reading order, over all planes."""
        return self._counts[: self._grid.count * self._planes].reshape(self._planes, -1).sum(axis=0)

    def read(self, region: Region) -> UInt8Array:
        """Return pixels, uint8 of shape (rows, columns, 3); ``region`` lies inside the image.

        Raises
        ------
        CorruptSlideError
            If a tile cannot be read or decoded.
        """
        needed = [index for index, _ in self._grid.over(region) if self._cache.held((self._key, index)) is None]
        if len(needed) > 1:
            # Of a file behind a network, many pieces are then fetched at once.
            self._file.expect(self._pieces(needed))
        return self._grid.assemble(region, self._tile)

    def _pieces(self, indices: list[int]) -> Iterator[tuple[int, int]]:
        """Yield where the stored pieces of tiles lie: (offset, count) of each."""
        for plane in range(self._planes):
            for index in indices:
                at = index + plane * self._grid.count
                yield int(self._offsets[at]), int(self._counts[at])

    def _tile(self, index: int, tile: Region) -> UInt8Array:
        nbytes = tile.width * tile.height * self._samples
        return self._cache.get((self._key, index), lambda: self._decode(index, tile), nbytes=nbytes)

    def region(self, index: int) -> Region:
        """Return where a tile lies."""
        return self._grid.region(index)

    def stores(self, region: Region) -> bool:
        """Return whether any tile that touches ``region``, which lies inside the image, is stored."""
        tile = self._grid.tile
        rows = slice(region.y // tile.height, -(-region.bottom // tile.height))
        columns = slice(region.x // tile.width, -(-region.right // tile.width))
        return bool(self._stored_tiles[rows, columns].any())

    def over(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield the index and the region of every tile that touches ``region``."""
        return self._grid.over(region)

    def is_transparent(self) -> bool:
        """Return whether all of the image is transparent though it has colours, by a look into a few tiles."""
        if not self._alpha:
            return False
        coloured = False
        for index in np.unique(np.linspace(0, self._grid.count - 1, _LOOKED_INTO).astype(int)).tolist():
            pixels = self._stored(index, self._grid.region(index))
            if pixels[..., _COLOURS].any():
                return False
            coloured = coloured or bool(pixels[..., :_COLOURS].min(initial=255) < _WHITE)
        return coloured

    def _decode(self, index: int, tile: Region) -> UInt8Array:
        pixels = self._stored(index, tile)
        if self._alpha:
            return compose_on_white(pixels[..., : _COLOURS + 1], premultiplied=self._premultiplied)
        return np.ascontiguousarray(pixels[..., :_COLOURS])

    def _stored(self, index: int, tile: Region) -> UInt8Array:
        """Return the samples of a tile as they are stored, uint8 of shape (rows, columns, samples)."""
        per_plane = self._grid.count
        planes = [self._segment(index + plane * per_plane, tile) for plane in range(self._planes)]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _segment(self, index: int, region: Region) -> UInt8Array:
        """Return one stored piece, uint8 of shape (rows, columns, samples), cropped to the image."""
        channels = self._samples if self._planes == 1 else 1
        count = int(self._counts[index])
        if count == 0:
            # Scanners leave out tiles that hold nothing but glass.
            return np.full((*region.size.shape, channels), 255, np.uint8)
        data = self._file.read(int(self._offsets[index]), count)
        try:
            if self._raw:
                return np.frombuffer(data, np.uint8).reshape(*region.size.shape, channels)
            check_piece(self._page, data)
            decoded, _, _ = self._page_decode(data, index, **self._jpeg)
            if decoded is None:
                raise ValueError("nothing was decoded")
            tile = np.asarray(decoded)[0, : region.height, : region.width]
            if tile.shape != (*region.size.shape, channels) or tile.dtype != np.uint8:
                raise ValueError(f"decoded {tile.shape} {tile.dtype}")
        except _DECODING_ERRORS as error:
            raise CorruptSlideError(
                f"expected an image tile of {self._file.name} at {region}, got damaged data ({first_line(error)}); "
                "copy the slide again from its source"
            ) from error
        return tile

    def _check_complete(self) -> None:
        """Refuse a file that ends before its last tile: the cheapest proof of a broken copy."""
        expected = self._grid.count * self._planes
        if len(self._offsets) < expected or len(self._counts) < expected:
            raise CorruptSlideError(
                f"expected {expected} tiles in {self._file.name}, got {min(len(self._offsets), len(self._counts))}; "
                "copy the slide again from its source"
            )
        # The offset of an empty tile is arbitrary.
        end = int((self._offsets + self._counts).max(initial=0, where=self._counts > 0))
        if end > self._file.size:
            raise CorruptSlideError(
                f"expected {end} bytes in {self._file.name}, got {self._file.size}: the file is cut off; "
                "copy it again from its source"
            )


def _check_supported(page: tifffile.TiffPage, name: str) -> None:
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise NotASlideError(
            f"expected 8 bits per channel in {name}, got {page.bitspersample}; export the slide as 8-bit RGB"
        )
    if page.samplesperpixel not in (3, 4) or page.photometric not in (_MINISBLACK, _RGB, _YCBCR):
        kind = UnsupportedDialectError if page.photometric in _SHOWN_BY_OPENSLIDE else NotASlideError
        raise kind(
            f"expected an RGB image in {name}, got {page.samplesperpixel} channels "
            f"({getattr(page.photometric, 'name', page.photometric)}); export the slide as RGB"
        )
    if not is_decoded(page):
        raise UnsupportedDialectError(
            f"expected a compression that can be read in {name}, got "
            f"{getattr(page.compression, 'name', page.compression)}; export the slide again as JPEG"
        )
    ycbcr = page.photometric == _YCBCR and page.compression not in _JPEG_FAMILY
    # tifffile returns the YCbCr of Aperio's older JPEG 2000 as if it were RGB.
    if page.compression == _APERIO_YCBCR or (ycbcr and page.compression not in _JPEG2000):
        raise UnsupportedDialectError(
            f"expected RGB tiles in {name}, got YCbCr with {getattr(page.compression, 'name', page.compression)} "
            "compression; export the slide again as JPEG"
        )
    if getattr(page, "imagedepth", 1) != 1:
        raise UnsupportedDialectError(f"expected a flat image in {name}, got a volume; export one focal plane")


_JPEG2000 = (33004, 33005, 34712)


def _notes(page: tifffile.TiffPage, name: str, *, alpha: bool) -> tuple[str, ...]:
    """Return what is to be said of how a page's samples are understood."""
    notes = []
    if page.photometric == _MINISBLACK:
        notes.append(
            f"expected RGB in {name}, got {page.samplesperpixel} samples that are said to be gray; they are read as "
            "red, green and blue: look at the colours"
        )
    if page.samplesperpixel > _COLOURS and not alpha:
        notes.append(
            f"expected three samples in {name}, got a fourth one that is not said to be transparency; it is left out"
        )
    return tuple(notes)


def _split_strips(
    size: Size, strip: Size, offsets: npt.NDArray[np.int64], samples: int
) -> tuple[Size, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return strip size, offsets and byte counts of uncompressed strips, split into bounded heights.

    Only a strip that holds the whole image is split.
    """
    row_bytes = size.width * samples
    if len(offsets) == 1:
        rows = np.arange(0, size.height, _UNCOMPRESSED_ROWS, dtype=np.int64)
        counts = np.minimum(_UNCOMPRESSED_ROWS, size.height - rows) * row_bytes
        return Size(size.width, min(_UNCOMPRESSED_ROWS, size.height)), offsets[0] + rows * row_bytes, counts
    rows = np.arange(0, size.height, strip.height, dtype=np.int64)
    return strip, offsets, np.minimum(strip.height, size.height - rows) * row_bytes
