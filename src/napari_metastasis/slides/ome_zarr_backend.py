"""OME-Zarr slides: a folder, one .zip file, or an address; versions 0.1 to 0.5 of the description."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import CorruptSlideError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides.associated import check_associated
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.fetching import Fetching
from napari_metastasis.slides.levels import on_edge, shrinks_alike
from napari_metastasis.slides.metadata import number
from napari_metastasis.slides.ngff import OWN, Multiscale, Node, find_image, multiscale_of, read_node
from napari_metastasis.slides.ome_zarr_level import RGB, OmeZarrLevel
from napari_metastasis.slides.pyramid import snapped_downsamples
from napari_metastasis.slides.remote_file import REQUESTS_AT_ONCE
from napari_metastasis.slides.resample import resample
from napari_metastasis.slides.zarr_files import ZarrFiles

__all__ = ["OmeZarrBackend"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: A level is what its size says; a scale that says something else by more than this share is told.
_SCALE_TOLERANCE = 0.05
#: A chunk that is not stored stands for its fill value where another level differs from that by no more gray levels.
_ALIKE = 24.0
#: So many pixels of a coarser level may show what lies beside a chunk.
_SMEARED_PX = 8
#: Chunks of a level of its own that are looked for when a slide is opened: a stat each.
_LOOKED_FOR = 1 << 16
#: What stands in the cache for a tile that is not stored.
_NOT_STORED: UInt8Array = np.empty((0, 0, RGB), np.uint8)


class OmeZarrBackend:
    """An open OME-Zarr.

    Parameters
    ----------
    files
        Of the hierarchy; closed with the slide.
    cache_bytes
        Decoded tiles kept for neighbouring reads.

    Raises
    ------
    NotASlideError
        If it holds no image that can be read.
    FluorescenceError
        If its image has other channels than red, green and blue.
    CorruptSlideError
        If its description is damaged.
    NetworkError
        If the network fails.
    """

    name = "ome-zarr"

    def __init__(self, files: ZarrFiles, *, cache_bytes: int) -> None:
        self._files = files
        # The files of a folder are read by whoever asks; requests wait for the network, many at once.
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="ome-zarr") if files.is_remote else None
        self._cache = TileCache(cache_bytes)
        self._fetching: Fetching[tuple[int, int], UInt8Array] = Fetching()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        images, why = find_image(self._files)
        if not images:
            raise NotASlideError(
                f"expected the image of a slide in {self._files.name}, got {why}; choose the folder of an image"
            )
        opened = {path: self._levels_of(path, node) for path, node in images.items()}
        largest = max(opened, key=lambda path: opened[path][1][0].size.area)
        scales, levels, notes = opened.pop(largest)
        self._levels = levels
        self._downsamples = snapped_downsamples(tuple(level.size for level in levels))
        self.levels = tuple(StoredLevel(size=level.size, tile=level.tile) for level in levels)
        own = images[largest].attributes.get(OWN)
        power = number(own.get("objective_power")) if isinstance(own, dict) else None
        self.metadata = Metadata(
            "OME-Zarr",
            scales.pixel_size,
            power,
            notes=(*scales.notes, *notes, *self._unwitnessed()),
        )
        # An image beside the slide is shown at its finest.
        self.associated: Mapping[str, Callable[[], UInt8Array]] = {
            (path.rpartition("/")[2] if not path.isdigit() else f"image {path}"): partial(
                self._associated, path, beside[1][0]
            )
            for path, beside in opened.items()
        }

    def _levels_of(self, path: str, node: Node) -> tuple[Multiscale, tuple[OmeZarrLevel, ...], tuple[str, ...]]:
        """Return an image's description, its levels from the finest to the coarsest, and what is to be said of them."""
        scales, name = multiscale_of(node.attributes, self._files.name), self._files.name
        paths = [f"{path}/{level}" if path else level for level in scales.paths]
        nodes = list(self._each(partial(read_node, self._files, inside=node), paths))
        missing = [own for own, found in zip(paths, nodes, strict=True) if found is None or found.array is None]
        if paths[0] in missing:
            raise CorruptSlideError(
                f"expected the level {paths[0]} of {name}, got none there; copy the slide again with all of its files"
            )
        notes = []
        if missing:
            notes.append(f"expected {len(paths)} levels in {name}, got none at {', '.join(missing)}; it is left out")
        found = [
            (OmeZarrLevel.of(self._files, own, one.array, scales.axes), scale)
            for own, one, scale in zip(paths, nodes, scales.scales, strict=True)
            if one is not None and one.array is not None
        ]
        found.sort(key=lambda one: one[0].size.area, reverse=True)
        (finest, first), levels = found[0], [found[0][0]]
        for level, scale in found[1:]:
            if level.size.width < levels[-1].size.width and shrinks_alike(finest.size, level.size):
                levels.append(level)
                notes += _scale_note(level, scale, finest, first, name)
            else:
                notes.append(
                    f"expected smaller copies of the slide in {name}, got one of {level.size.width} x "
                    f"{level.size.height} px; it is left out"
                )
        if finest.depth > 1:
            notes.append(f"expected one focal plane in {name}, got {finest.depth}; the middle one is read")
        if finest.times > 1:
            notes.append(f"expected one moment in {name}, got {finest.times}; the first is read")
        if finest.channels > RGB:
            notes.append(f"expected three channels in {name}, got {finest.channels}; the first three are read")
        return scales, tuple(levels), tuple(notes)

    def _unwitnessed(self) -> tuple[str, ...]:
        """Return what is to be said of a slide of one level: nothing tells a chunk left out from a lost one."""
        level, name = self._levels[0], self._files.name
        if len(self._levels) > 1:
            return ()
        expected, shown = level.parts(), f"is shown as the file says ({level.array.layout.fill} in each channel)"
        if self._files.is_remote or expected > _LOOKED_FOR or level.array.layout.shard is not None:
            return (
                f"expected smaller levels in {name}, got one level alone: a chunk of it that was lost cannot be told "
                f"from one that was left out, and {shown}",
            )
        absent = sum(self._files.size(key) is None for key in level.files())
        if not absent:
            return ()
        return (f"expected {expected} chunks in {name}, got {expected - absent}; what is not there {shown}",)

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level; see :class:`~napari_metastasis.slides.backend.Backend`."""
        own = self._levels[level]
        tiles = self._tiles(level, [index for index, _ in own.grid.over(region)])

        def tile(index: int, at: Region) -> UInt8Array:
            pixels = tiles[index]
            return self._left_out(level, at) if pixels is _NOT_STORED else pixels

        return own.grid.assemble(region, tile)

    def tile_bytes(self, level: int) -> npt.NDArray[np.int64] | None:
        """Return ``None``: nobody counts the bytes of ten thousand files."""
        del level
        return None

    def forget(self) -> None:
        """Drop decoded tiles from memory."""
        self._cache.forget()

    def close(self) -> None:
        """Close the files."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._cache.clear()
        self._files.close()

    def _tiles(self, level: int, indices: Sequence[int]) -> dict[int, UInt8Array]:
        """Return tiles of a level by their indices; :data:`_NOT_STORED` for what is not stored."""
        found = self._fetching.get(
            [(level, index) for index in indices],
            self._cache.held,
            lambda keys: self._decoded(level, [index for _, index in keys]),
        )
        return {index: pixels for (_, index), pixels in found.items()}

    def _decoded(self, level: int, indices: Sequence[int]) -> dict[tuple[int, int], UInt8Array]:
        own = self._levels[level]
        parts = [(index, at) for index in indices for at in own.chunks_of(index)]
        self._files.expect(dict.fromkeys(own.array.key(at) for _, at in parts))
        decoded: dict[int, list[UInt8Array | None]] = {index: [] for index in indices}
        for (index, _), chunk in zip(parts, self._each(lambda one: own.array.chunk(one[1]), parts), strict=True):
            decoded[index].append(chunk)
        found = {}
        for index, chunks in decoded.items():
            stored = [chunk for chunk in chunks if chunk is not None]
            pixels = own.pixels(index, stored) if len(stored) == len(chunks) else _NOT_STORED
            found[level, index] = self._cache.keep((level, index), pixels)
        return found

    def _each(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Do work on items in their order, on many at once where that is a matter of waiting."""
        return map(work, items) if self._pool is None else self._pool.map(work, items)

    def _left_out(self, level: int, region: Region) -> UInt8Array:
        """Return the pixels of a tile that is not stored.

        Zarr leaves out chunks that hold nothing but the fill value; a copy that broke off lacks others, which must not
        pass for black or white. The next finer level fills in; the next coarser one that has the place tells which of
        the two it is.

        Raises
        ------
        CorruptSlideError
            If that level shows something there.
        """
        fill = np.full((*region.size.shape, RGB), self._levels[level].array.layout.fill, np.uint8)
        if level > 0:
            ratio, finer = self._downsamples[level] / self._downsamples[level - 1], self._levels[level - 1]
            if self._stores_any(level - 1, _scaled(region, ratio, finer.size)):
                return resample(lambda part: on_edge(partial(self.read, level - 1), finer.size, part), region, ratio)
        for above in range(level + 1, len(self._levels)):
            ratio, coarser = self._downsamples[level] / self._downsamples[above], self._levels[above]
            there = _scaled(region, ratio, coarser.size)
            # A pixel at the tile's edge shows some of its neighbour.
            inner = Region(there.x + 1, there.y + 1, there.width - 2, there.height - 2)
            there = there if inner.width < 1 or inner.height < 1 else inner
            if self._stores_any(above, there):
                shown = self.read(above, there).astype(np.int16)
                other = (np.abs(shown - int(fill.flat[0])) > _ALIKE).any(axis=2)
                # Of a small patch of tissue as of a whole chunk; lossy chunks beside it smear a few pixels over.
                if np.count_nonzero(other) > _SMEARED_PX:
                    raise CorruptSlideError(
                        f"expected a stored chunk of level {level} of {self._files.name} at {region}, got none, though "
                        "a coarser level shows something there; copy the slide again with all of its files"
                    )
                break
        return fill

    def _stores_any(self, level: int, region: Region) -> bool:
        indices = [index for index, _ in self._levels[level].grid.over(region)]
        return any(pixels is not _NOT_STORED for pixels in self._tiles(level, indices).values())

    def _associated(self, name: str, image: OmeZarrLevel) -> UInt8Array:
        check_associated(name, image.size, self._files.name)

        def decode(index: int, at: Region) -> UInt8Array:
            chunks = [image.array.chunk(one) for one in image.chunks_of(index)]
            stored = [chunk for chunk in chunks if chunk is not None]
            if len(stored) < len(chunks):
                return np.full((*at.size.shape, RGB), image.array.layout.fill, np.uint8)
            return image.pixels(index, stored)

        return image.grid.assemble(Region.of(image.size), decode)


def _scaled(region: Region, ratio: float, size: Size) -> Region:
    """Return the pixels of another level that a region lies on: ``ratio`` of them along a pixel."""
    left, top = math.floor(region.x * ratio), math.floor(region.y * ratio)
    right, bottom = math.ceil(region.right * ratio), math.ceil(region.bottom * ratio)
    return Region(left, top, right - left, bottom - top).intersection(Region.of(size))


def _scale_note(
    level: OmeZarrLevel,
    scale: tuple[float, float] | None,
    finest: OmeZarrLevel,
    first: tuple[float, float] | None,
    name: str,
) -> list[str]:
    """Return what is to be said of a level whose scale is not what its size says."""
    if scale is None or first is None:
        return []
    stated, true = scale[1] / first[1], finest.size.width / level.size.width
    # Of a level of a few pixels, rounding changes the size by more.
    if abs(stated / true - 1) <= max(_SCALE_TOLERANCE, 2 / level.size.width):
        return []
    return [
        f"expected a level of {level.size.width} px to be {true:.3g} times coarser in {name}, got {stated:.3g} times "
        "by its scale; sizes are believed"
    ]
