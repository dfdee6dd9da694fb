"""A slide that is read in processes of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.errors import CorruptSlideError, MissingDependencyError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.pictures import PictureError, decode_picture
from napari_metastasis.slides.apart.process import EndedError, LibraryError, ReadingError, ReadingProcess
from napari_metastasis.slides.associated import MOST_PX, check_associated
from napari_metastasis.slides.backend import Metadata, StoredLevel, UInt8Array
from napari_metastasis.slides.cache import TileCache
from napari_metastasis.slides.grid import TileGrid
from napari_metastasis.slides.tiff_tiles import compose_on_white

__all__ = ["MODULES", "ApartBackend"]

#: Where the modules lie that open files there.
MODULES = Path(__file__).parent

#: Processes of one slide at most: each holds some 100 MB besides its tiles.
_MOST_PROCESSES = 4
#: Tiles of libraries may be as small as 64 px, where an answer takes longer than decoding, or whole slides.
_LEAST_TILE_PX, _MOST_TILE_PX = 256, 1024
#: No slide is longer: 76 mm at 0.05 µm/px.
_MOST_SIDE_PX = 1 << 21
#: Share of the cache that is the library's own.
_LIBRARY_SHARE = 4


class ApartBackend:
    """A slide that a compiled library reads in processes of its own, one for each thread that reads at once.

    A file on which the library ends its process is a damaged slide, and nothing else. The libraries need not be safe to
    read from many threads.

    Parameters
    ----------
    module
        Python file that opens the slide there; see :class:`~napari_metastasis.slides.apart.process.ReadingProcess`.
    path
        File to open.
    cache_bytes
        Decoded tiles kept for neighbouring reads.
    name
        Of the library, as results record it.
    describe
        Makes metadata of the facts that the library has of the file, and refuses what is no slide.

    Raises
    ------
    CorruptSlideError
        If the file cannot be opened, or what it states cannot be so.
    MissingDependencyError
        If the library is installed, but cannot be loaded.
    """

    def __init__(
        self,
        module: Path,
        path: Path,
        *,
        cache_bytes: int,
        name: str,
        describe: Callable[[Mapping[str, Any], str], Metadata],
    ) -> None:
        self.name = name
        self._path = path
        self._cache = TileCache(cache_bytes)
        self._start = partial(ReadingProcess, module, path, cache_bytes // _LIBRARY_SHARE)
        self._idle: list[ReadingProcess] = []
        self._changed = threading.Condition()
        self._owner, self._started = os.getpid(), 0
        with self._process() as process:
            facts = process.facts
        try:
            self.levels = _levels(facts["levels"], path.name)
            block = facts.get("block_px")
            self._grids = tuple(
                TileGrid(level.size, Size(block, block) if block else _piece(level.tile)) for level in self.levels
            )
            self.metadata = describe(facts, path.name)
            self.associated: Mapping[str, Callable[[], UInt8Array]] = {
                str(image): partial(self._associated, str(image)) for image in facts["associated"]
            }
        except BaseException:
            self.close()
            raise

    def read(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a stored level; see :class:`~napari_metastasis.slides.backend.Backend`."""
        return self._grids[level].assemble(
            region, lambda index, tile: self._cache.get((level, index), lambda: self._tile(level, tile))
        )

    def _tile(self, level: int, tile: Region) -> UInt8Array:
        what = f"level {level} of {self._path.name} at {tile}"
        head, data = self._asked(what, {"read": [level, tile.x, tile.y, tile.width, tile.height]})
        shape = head.get("shape")
        if shape not in ([*tile.size.shape, 3], [*tile.size.shape, 4]):
            raise CorruptSlideError(f"expected {what}, got {shape}; copy the slide again from its source")
        return _on_white(np.frombuffer(data, np.uint8).reshape(shape))

    def tile_bytes(self, level: int) -> None:
        """Return ``None``: the libraries do not tell."""

    def forget(self) -> None:
        """Drop decoded tiles from memory."""
        self._cache.forget()

    def close(self) -> None:
        """End the processes."""
        self._cache.clear()
        with self._changed:
            idle, self._idle, self._started = self._idle, [], 0
        if os.getpid() == self._owner:
            for process in idle:
                process.end()

    def _associated(self, name: str) -> UInt8Array:
        what = f"the {name} image of {self._path.name}"
        head, data = self._asked(what, {"associated": [name, MOST_PX]})
        if "too_large" in head:
            check_associated(name, Size(*head["too_large"]), self._path.name)
        try:
            pixels = (
                np.frombuffer(data, np.uint8).reshape(head["shape"])
                if "shape" in head
                else decode_picture(data, most_px=MOST_PX)
            )
        except PictureError as error:
            raise CorruptSlideError(f"expected {what}, got {error}; copy the slide again from its source") from error
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
            raise CorruptSlideError(f"expected {what} in RGB, got {pixels.dtype} {pixels.shape}; leave it out")
        return _on_white(pixels)

    def _asked(self, what: str, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            try:
                with self._process() as process:
                    return process.ask(request)
            except EndedError:
                # Once more: somebody else may have ended it, such as a system that was short of memory.
                with self._process() as process:
                    return process.ask(request)
        except ReadingError as error:
            raise CorruptSlideError(
                f"expected {what}, but it cannot be read ({error}); copy the slide again with all files that belong "
                "to it"
            ) from error

    @contextmanager
    def _process(self) -> Iterator[ReadingProcess]:
        """Lend a process to one thread, started where all are lent and there may be more; wait for one elsewhere."""
        most = max(1, min(_MOST_PROCESSES, os.cpu_count() or 1))
        with self._changed:
            if os.getpid() != self._owner:
                # This process was forked: two that talk to one reader would take each other's answers.
                self._owner, self._started, self._idle = os.getpid(), 0, []
            self._changed.wait_for(lambda: self._idle or self._started < most)
            process = self._idle.pop() if self._idle else None
            self._started += process is None
        usable: ReadingProcess | None = None
        try:
            if process is None:
                process = self._started_one()
            yield process
            usable = process
        except ReadingError as error:
            usable = None if isinstance(error, EndedError) else process
            raise
        finally:
            if usable is None and process is not None:
                # Interrupted in the middle, it would give the answer to whoever asks next.
                process.kill()
            self._put_back(usable)

    def _put_back(self, process: ReadingProcess | None) -> None:
        with self._changed:
            if process is None:
                self._started -= 1
            else:
                self._idle.append(process)
            self._changed.notify()

    def _started_one(self) -> ReadingProcess:
        try:
            return self._start()
        except LibraryError as error:
            raise MissingDependencyError(
                f"expected {self.name} to load for {self._path.name}, but it does not ({error}); install it again"
            ) from error
        except ReadingError as error:
            raise CorruptSlideError(
                f"expected a complete slide, but {self._path.name} cannot be opened ({error}); "
                "copy it again with all files that belong to it"
            ) from error


def _piece(tile: Size) -> Size:
    """Return what is asked for at once: about a tile."""
    width, height = (min(max(side, _LEAST_TILE_PX), _MOST_TILE_PX) for side in (tile.width, tile.height))
    return Size(width, height)


def _on_white(pixels: UInt8Array) -> UInt8Array:
    return compose_on_white(pixels, premultiplied=False) if pixels.shape[2] == 4 else np.ascontiguousarray(pixels)


def _levels(stated: list[list[int]], name: str) -> tuple[StoredLevel, ...]:
    levels: list[StoredLevel] = []
    for width, height, across, down in stated:
        if not (0 < width <= _MOST_SIDE_PX and 0 < height <= _MOST_SIDE_PX):
            raise CorruptSlideError(
                f"expected a slide of at most {_MOST_SIDE_PX:,} px a side in {name}, got {width} x {height}; "
                "copy it again from its source"
            )
        if not levels or width < levels[-1].size.width:
            levels.append(StoredLevel(Size(width, height), Size(max(across, 1), max(down, 1))))
    if not levels:
        raise CorruptSlideError(f"expected a slide in {name}, got none; copy it again from its source")
    return tuple(levels)
