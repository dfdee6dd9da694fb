"""Slides of any size in seconds: a few JPEG tiles, repeated: of tissue-like texture, or of glass around a piece."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from napari_metastasis.geometry import Region
from napari_metastasis.scanning.engines.tuning import phantom
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic import SyntheticSlide

__all__ = ["write_piece_on_glass", "write_repeated_slide"]

_TILE_PX = 512
#: Tiles along a side until the picture of a repeated slide begins anew: a power of two, so that it does on every level.
_PERIOD = 4
_UM_PER_CM = 10_000
#: Resolution that pieces of tissue are drawn at, in µm per pixel.
_DRAWN_MPP = 0.5


def _encoded(tile: npt.NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=85))


def write_repeated_slide(path: Path, side_px: int, *, mpp: float) -> None:
    """Write a square slide of tissue from edge to edge, with levels at 1/2, 1/4, … down to one tile.

    Parameters
    ----------
    path
        File to write; one that is there is kept.
    side_px
        Side of level 0.
    mpp
        Its µm per pixel.
    """
    if path.exists():
        return
    # One picture, again and again: every level is the same of its smaller copy.
    pictures = [phantom(_TILE_PX * _PERIOD)[0]]
    encoded: dict[tuple[int, int, int], bytes] = {}

    def tiles(level: int, side: int) -> Iterator[bytes]:
        while len(pictures) <= level:
            pictures.append(_halved(pictures[-1]))
        picture = pictures[level]
        period = len(picture)
        for row, column in itertools.product(range(-(-side // _TILE_PX)), repeat=2):
            y, x = row * _TILE_PX % period, column * _TILE_PX % period
            if (level, y, x) not in encoded:
                rows, columns = ((start + np.arange(_TILE_PX)) % period for start in (y, x))
                encoded[level, y, x] = _encoded(picture[np.ix_(rows, columns)])
            yield encoded[level, y, x]

    _write_levels(path, side_px, tiles, mpp=mpp)


def write_piece_on_glass(path: Path, side_px: int, *, piece_px: int, mpp: float) -> None:
    """Write a square slide of white glass with one square piece of a synthetic lymph node in its middle.

    Slides of every size hold the same piece, so that only the glass around it differs.

    Parameters
    ----------
    path
        File to write; one that is there is kept.
    side_px
        Side of level 0.
    piece_px
        Side of the piece.
    mpp
        The slide's µm per pixel, as it says; the piece has the same pixels at any.
    """
    if path.exists():
        return
    settings = SyntheticSettings(
        width_px=piece_px, height_px=piece_px, mpp=_DRAWN_MPP, node_mm=0.8 * piece_px * _DRAWN_MPP / 1000, fat_mm=0.1,
        macro=0, micro=1, itc=1, blurred_areas=0, pen_marks=0, folds=0, tears=0, dust=0, seed=7,
    )  # fmt: skip
    drawn = SyntheticSlide(settings)
    pieces = [drawn.read(Region.of(drawn.size))]
    # Whole tiles of every level, so that the piece lies alike on each.
    corner = (side_px - piece_px) // 2 // _TILE_PX * _TILE_PX
    white = np.full((_TILE_PX, _TILE_PX, 3), 255, np.uint8)
    glass = _encoded(white)

    def tiles(level: int, side: int) -> Iterator[bytes]:
        while len(pieces) <= level:
            pieces.append(_halved(pieces[-1]))
        piece = pieces[level]
        there = Region(corner >> level, corner >> level, piece.shape[1], piece.shape[0])
        for row, column in itertools.product(range(-(-side // _TILE_PX)), repeat=2):
            tile = Region(column * _TILE_PX, row * _TILE_PX, _TILE_PX, _TILE_PX)
            part = tile.intersection(there)
            if part.is_empty:
                yield glass
                continue
            pixels = white.copy()
            pixels[part.shifted(-tile.x, -tile.y).slices] = piece[part.shifted(-there.x, -there.y).slices]
            yield _encoded(pixels)

    _write_levels(path, side_px, tiles, mpp=mpp)


def _halved(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    rows, columns = (side // 2 for side in pixels.shape[:2])
    squares = pixels[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
    return squares.mean(axis=(1, 3)).round().astype(np.uint8)


def _write_levels(path: Path, side_px: int, tiles: Callable[[int, int], Iterator[bytes]], *, mpp: float) -> None:
    """Write levels at 1/2, 1/4, … down to one tile, from the JPEG tiles of each level and its side in pixels."""
    partial = path.with_suffix(".part")
    with tifffile.TiffWriter(partial, bigtiff=True) as tiff:
        for level in itertools.count():
            downsample = 2**level
            side = -(-side_px // downsample)
            tiff.write(
                tiles(level, side),
                shape=(side, side, 3),
                dtype="uint8",
                tile=(_TILE_PX, _TILE_PX),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                resolution=(_UM_PER_CM / (mpp * downsample),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )
            if side <= _TILE_PX:
                break
    partial.rename(path)
