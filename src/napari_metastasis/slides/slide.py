"""A whole-slide image: its levels, its resolution, and its pixels at any scale."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import dask.array as da
import numpy as np

from napari_metastasis.geometry import LevelFrame, ModelFrame, Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlidePath, SlideUrl
from napari_metastasis.slides.backend import Backend, UInt8Array
from napari_metastasis.slides.fingerprints import content_fingerprint, earlier_fingerprint
from napari_metastasis.slides.lifetime import Gate
from napari_metastasis.slides.naming import slide_name
from napari_metastasis.slides.overview import is_sampled, sampled_overview
from napari_metastasis.slides.pyramid import PlannedLevel, plan_pyramid, snapped_downsamples
from napari_metastasis.slides.resample import resample

if TYPE_CHECKING:
    import dask.array.core

__all__ = ["Level", "Slide"]


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide's pyramid.

    Attributes
    ----------
    size
        In level pixels.
    downsample
        Level-0 pixels along one side of a level pixel.
    stored
        Whether the level is stored in the file; others are averaged from the next finer stored one, on demand.
    exact
        Whether every pixel is the average of all that it covers, and not taken from a sample of tiles, for display only
        (:mod:`napari_metastasis.slides.overview`).
    array
        Dask array of shape (rows, columns, 3), uint8. Nothing is read before it is computed.
    """

    size: Size
    downsample: float
    stored: bool
    exact: bool
    array: dask.array.core.Array = field(repr=False, compare=False)


class _LevelPixels:
    """A level as an array for dask, which reads only the slice that is asked for."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, level: int, size: Size) -> None:
        self._slide = slide
        self._level = level
        self.shape = (*size.shape, 3)

    def __getitem__(self, index: tuple[slice, ...]) -> UInt8Array:
        rows, columns, channels = index
        y, bottom, _ = rows.indices(self.shape[0])
        x, right, _ = columns.indices(self.shape[1])
        return self._slide.read_level(self._level, Region(x, y, right - x, bottom - y))[..., channels]


class _AssociatedImages(Mapping[str, UInt8Array]):
    """Label, macro and thumbnail, each decoded when it is looked up."""

    def __init__(self, gate: Gate, images: Mapping[str, Callable[[], UInt8Array]]) -> None:
        self._gate = gate
        self._images = images

    def __getitem__(self, name: str) -> UInt8Array:
        with self._gate.reading():
            return self._images[name]()

    def __contains__(self, name: object) -> bool:
        # Else Mapping would decode the image to know whether it is there.
        return name in self._images

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


class Slide:
    """An open whole-slide image.

    Made by :func:`~napari_metastasis.slides.open_slide`. Every method may be called from many threads; a pickled slide
    opens its file again where it is unpickled. Close it, or use it in a ``with`` statement.

    Attributes
    ----------
    path
        The file, the folder or the address that was opened.
    name
        The file's name without its suffix: what result files are named after.
    mpp
        Micrometres per level-0 pixel.
    mpp_supplied
        Whether the caller gave it, and not the file.
    swapped
        Whether the file holds red and blue in each other's place, as the caller said; pixels are in their right order.
    objective_power
        Magnification of the objective; ``None`` where the file does not state it.
    bounds
        The part of level 0 that was scanned; ``None`` where all of it was. Coordinates are never shifted by it.
    format
        Name of the format.
    notes
        What has to be said of results: what of the file is not read, or not taken at its word.
    backend
        Name of the library that reads.
    levels
        From the finest to the coarsest, in steps of about 2, completed where the file has gaps.
    associated_images
        Label, macro and thumbnail, uint8 of shape (rows, columns, 3), each decoded when it is looked up.
    """

    def __init__(
        self,
        path: SlidePath,
        backend: Backend,
        *,
        file: SlidePath,
        mpp: float,
        mpp_supplied: bool,
        swapped: bool = False,
        settings: SlideSettings,
        reopen: tuple[Callable[..., Slide], tuple[Any, ...]],
    ) -> None:
        self.path = path
        self.name = slide_name(path)
        self._file = file
        self.mpp = mpp
        self.mpp_supplied = mpp_supplied
        self.swapped = swapped
        self.objective_power = backend.metadata.objective_power
        self.bounds = backend.metadata.bounds
        self.format = backend.metadata.format
        self.notes = backend.metadata.notes
        self.backend = backend.name
        self._backend = backend
        self._reopen = reopen
        self._gate = Gate(path.name)
        self._overview: UInt8Array | None = None
        self._overview_lock = threading.Lock()
        self._settings = settings
        sizes = tuple(level.size for level in backend.levels)
        self._stored_sizes = sizes
        self._stored_downsamples = snapped_downsamples(sizes)
        self._plan: tuple[PlannedLevel, ...] = plan_pyramid(sizes, thumbnail_px=settings.thumbnail_px)
        self.associated_images: Mapping[str, UInt8Array] = _AssociatedImages(self._gate, backend.associated)

    @property
    def size(self) -> Size:
        """Return the size of level 0, in pixels."""
        return self._stored_sizes[0]

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Return the downsample of every level."""
        return tuple(level.downsample for level in self._plan)

    @property
    def closed(self) -> bool:
        """Return whether the slide was closed."""
        return self._gate.closed

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Return the levels, from the finest to the coarsest."""
        return tuple(
            Level(
                planned.size,
                planned.downsample,
                planned.stored,
                not self._sampled(planned),
                self._array(index, planned),
            )
            for index, planned in enumerate(self._plan)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return what tells the slide from others: see :func:`~napari_metastasis.slides.fingerprints.fingerprint`."""
        return self._known_as(self.content_fingerprint)

    @cached_property
    def content_fingerprint(self) -> str:
        """Return what tells the slide's files from others', whichever way their colours are read."""
        return content_fingerprint(self.path, self._file, self._settings)

    @cached_property
    def earlier_fingerprint(self) -> str:
        """Return what results of earlier versions know the slide by."""
        # They knew files of this machine alone.
        if isinstance(self._file, SlideUrl) or self._file.is_dir():
            return self.fingerprint
        return self._known_as(earlier_fingerprint(self._file))

    def _known_as(self, of_file: str) -> str:
        """Return what the slide is known by: other colours are another slide."""
        return hashlib.sha256(f"{of_file} red and blue swapped".encode()).hexdigest() if self.swapped else of_file

    def frame(self, model_mpp: float) -> ModelFrame:
        """Return the pixels of a model that was trained at ``model_mpp`` µm per pixel."""
        return ModelFrame.fit(slide=self.size, mpp=self.mpp, model_mpp=model_mpp, downsamples=self.downsamples)

    def level_frame(self, level: int) -> LevelFrame:
        """Return where the pixels of a level lie."""
        return LevelFrame(downsample=self._plan[level].downsample, mpp=self.mpp)

    def read_level(self, level: int, region: Region) -> UInt8Array:
        """Return pixels of a level, straight from decoded tiles.

        Parameters
        ----------
        level
            Index into :attr:`levels`.
        region
            In level pixels; white where it reaches past the slide.

        Returns
        -------
        uint8 of shape (rows, columns, 3)

        Raises
        ------
        CorruptSlideError
            If a tile cannot be read or decoded.
        SlideError
            If the slide is closed.
        """
        planned = self._plan[level]
        with self._gate.reading():
            if planned.stored:
                return self._read_stored(planned.source, region)
            if self._sampled(planned):
                return self._read_sampled(planned, region)
            return resample(lambda source: self._read_stored(planned.source, source), region, planned.ratio)

    def read(self, frame: ModelFrame, region: Region) -> UInt8Array:
        """Return the pixels that a model sees.

        The coarsest stored level at least as fine as the frame is taken as it is, or resampled on a grid anchored at
        the slide's corner: the same pixel comes out of every region that holds it.

        Parameters
        ----------
        frame
            From :meth:`frame`.
        region
            In model pixels; white where it reaches past the slide.

        Returns
        -------
        uint8 of shape (rows, columns, 3)

        Raises
        ------
        CorruptSlideError
            If a tile cannot be read or decoded.
        SlideError
            If the slide is closed.
        """
        # The tolerance is for rounding only: a frame that takes a stored level has exactly its downsample.
        fine = [index for index, found in enumerate(self._stored_downsamples) if found <= frame.scale * (1 + 1e-9)]
        stored = fine[-1] if fine else 0
        ratio = frame.scale / self._stored_downsamples[stored]
        with self._gate.reading():
            if abs(ratio - 1) < 1e-9:
                return self._read_stored(stored, region)
            return resample(lambda source: self._read_stored(stored, source), region, ratio)

    def forget(self) -> None:
        """Drop decoded tiles from memory, after much was read that nobody will read again soon."""
        with self._gate.reading():
            self._backend.forget()

    def close(self) -> None:
        """Close the file, after the reads that are under way."""
        if self._gate.close():
            self._backend.close()

    def _read_stored(self, stored: int, region: Region) -> UInt8Array:
        """Return pixels of a level in the file, white outside it."""
        return _on_white(region, self._stored_sizes[stored], lambda inside: self._backend.read(stored, inside))

    def _sampled(self, planned: PlannedLevel) -> bool:
        stored = self._backend.levels[planned.source]
        return is_sampled(planned, stored.size, stored.tile)

    def _read_sampled(self, planned: PlannedLevel, region: Region) -> UInt8Array:
        """Return pixels of a level that is shown from a sample of tiles, which are decoded once."""
        finest = next(level for level in self._plan if self._sampled(level))
        with self._overview_lock:
            if self._overview is None:
                self._overview = sampled_overview(
                    self._backend, finest.source, finest.ratio, threads=self._settings.threads
                )
            overview = self._overview
        return resample(
            lambda part: _on_white(part, finest.size, lambda inside: overview[inside.slices]),
            region,
            planned.ratio / finest.ratio,
        )

    def _array(self, index: int, planned: PlannedLevel) -> dask.array.core.Array:
        chunk = self._settings.chunk_px
        # Named by content, so that dask neither hashes the source nor confuses two slides. With inline_array, slicing
        # 200,000 x 100,000 px takes 8 ms, without it 45.
        name = f"slide-{self.fingerprint[:24]}-{self.backend}-{planned.downsample:g}-{chunk}"
        return da.from_array(
            _LevelPixels(self, index, planned.size),
            chunks=(chunk, chunk, 3),
            name=name,
            asarray=False,
            inline_array=True,
            lock=False,
            meta=np.empty((0, 0, 0), np.uint8),
        )

    def __reduce__(self) -> tuple[Callable[..., Slide], tuple[Any, ...]]:
        return self._reopen

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        size = f"{self.size.width} x {self.size.height}"
        return f"<Slide {self.path.name}: {self.format}, {size} px at {self.mpp:g} µm/px, {len(self._plan)} levels>"


def _on_white(region: Region, image: Size, read: Callable[[Region], UInt8Array]) -> UInt8Array:
    """Return pixels of an image that is white all around, uint8 of shape (rows, columns, 3)."""
    inside = region.intersection(Region.of(image))
    if inside == region and not region.is_empty:
        return read(region)
    result = np.full((*region.size.shape, 3), 255, np.uint8)
    if not inside.is_empty:
        result[inside.shifted(-region.x, -region.y).slices] = read(inside)
    return result
