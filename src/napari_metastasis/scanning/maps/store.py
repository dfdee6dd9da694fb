"""Maps on disk: OME-Zarr 0.5 with a journal, so that a killed scan goes on where it stopped.

An answer is written once and never changes, and chunks are replaced whole. A cell therefore counts as answered when a
journal line covers it and its chunk holds a number; everything else is computed again.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from napari_metastasis.errors import RegionError, StorageError
from napari_metastasis.geometry import ChunkedCells, Region, chunks_over, sparse_zeros
from napari_metastasis.scanning.maps import ome_zarr as layout
from napari_metastasis.scanning.maps.journal import append_region, read_regions
from napari_metastasis.scanning.maps.lock import WriterLock
from napari_metastasis.scanning.maps.ome_zarr import MapHeader
from napari_metastasis.scanning.maps.place import require_place, sweep_chunks, writing_in_place
from napari_metastasis.storage import READ_ONLY, storage_errors

__all__ = ["FloatArray", "MapStore"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


class MapStore:
    """One map of a slide on disk.

    Use :meth:`open_or_create` to write, :meth:`open` to look. Every method may be called from any thread.

    Attributes
    ----------
    path
        The OME-Zarr folder.
    kind
        What the map is.
    frame
        Where the cells lie on the slide.
    identity
        Everything that decides the answers: slide, model, density, precision, … as plain values.
    refusal
        Why the disk does not take answers, though it was opened to write them; ``None`` where it does.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        header = layout.read_header(path)
        self.kind, self.frame, self.identity = header.kind, header.frame, header.identity
        self.refusal: StorageError | None = None
        self._made: tuple[Path, ...] = ()
        self._lock = WriterLock(layout.lock_path(path), path) if writable else None
        self._guard = threading.Lock()
        if writable:
            sweep_chunks(path)
        try:
            self._array: zarr.Array[Any] = layout.open_answers(path, self.frame, writable=writable)
            self._done = self._load_done()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> MapStore:
        """Return a map to read; it may be one that a scan is writing right now.

        Raises
        ------
        StorageError
            If no heatmap lies there, or it cannot be read.
        """
        return cls(path, writable=False)

    @classmethod
    def open_or_create(cls, path: Path, header: MapHeader) -> MapStore:
        """Return a map to write: the one found at ``path``, or a new one.

        One that lies on a read-only disk can be read all the same, and says so in :attr:`refusal`.

        Parameters
        ----------
        path
            Folder of the OME-Zarr; its parents are made, and unmade if that fails.
        header
            What the map is, where its cells lie, and what decides them.

        Raises
        ------
        StorageError
            If another scan is writing it, the one found there answers something else, or the disk refuses.
        """
        made = layout.create(path, header)
        try:
            store = cls(path, writable=True)
        except StorageError as error:
            if error.errno not in READ_ONLY:
                raise
            store = cls(path, writable=False)
            store.refusal = error
        store._made = made
        try:
            store._check_is(header)
        except StorageError:
            store.close()
            raise
        return store

    @property
    def done(self) -> BoolArray:
        """Return the cells that are answered: bool, (rows, columns), a copy."""
        done = sparse_zeros(self._done.shape)
        with self._guard:
            np.copyto(done, True, where=self._done)
        return done

    def answered(self) -> ChunkedCells:
        """Return all values, of which only chunks with answers are held.

        Raises
        ------
        StorageError
            If the store cannot be read.
        """
        size = self.frame.cells
        with self._guard:
            held = [(key, cells) for key, cells in chunks_over(Region.of(size), size) if self._done[cells.slices].any()]
        return ChunkedCells(size, {key: self.values(cells) for key, cells in held})

    def values(self, cells: Region | None = None) -> FloatArray:
        """Return float32 values, (rows, columns), NaN where a cell is not answered.

        Parameters
        ----------
        cells
            The part wanted; ``None`` for the whole map.

        Raises
        ------
        RegionError
            If ``cells`` do not lie on the map.
        StorageError
            If the store cannot be read.
        """
        cells = self._checked(Region.of(self.frame.cells) if cells is None else cells)
        with self._guard, storage_errors(self.path):
            if self._lock is not None:
                # Chunks that are gone would read as cells without an answer.
                require_place(self.path, self._is_in_place)
            if not self._done[cells.slices].any():
                # A scan that begins waits for this: there is nothing to decode.
                return np.full(cells.size.shape, np.nan, np.float32)
            values = self._read(cells)
            values[~self._done[cells.slices]] = np.nan
        return values

    def covers(self, cells: Region, expected: BoolArray) -> bool:
        """Return whether every cell that is expected is answered: bool, (rows, columns) of ``cells``."""
        with self._guard:
            return not bool((expected & ~self._done[cells.slices]).any())

    def read(self, cells: Region) -> FloatArray:
        """Return what :meth:`values` does, of cells that may reach past the map: NaN there."""
        read = np.full(cells.size.shape, np.nan, np.float32)
        inside = cells.intersection(Region.of(self.frame.cells))
        if not inside.is_empty:
            read[inside.shifted(-cells.x, -cells.y).slices] = self.values(inside)
        return read

    def write(self, cells: Region, answers: FloatArray) -> None:
        """Store answers; the data first, then the journal line that makes them count.

        Parameters
        ----------
        cells
            Where they lie.
        answers
            float32, (rows, columns) of ``cells``. NaN leaves a cell as it is.

        Raises
        ------
        RegionError
            If ``cells`` do not lie on the map, or the array has another shape.
        StorageError
            If the disk refuses; what was stored before stays valid.
        """
        self._checked(cells)
        if answers.shape != cells.size.shape:
            raise RegionError(f"expected answers of shape {cells.size.shape}, got {answers.shape}; cut them to fit")
        self._check_opened_for_writing()
        answered = ~np.isnan(answers)
        with self._guard, storage_errors(self.path):
            # An ROI may cover cells that were answered before: what is stored stays, to the last digit.
            answered &= ~self._done[cells.slices]
            with writing_in_place(self.path, self._is_in_place):
                if not answered.all():
                    answers = np.where(answered, answers, self._read(cells))
                self._array[cells.slices] = answers
                append_region(layout.journal_path(self.path), cells)
            self._made = ()
            self._done[cells.slices] |= answered

    def finish(self) -> None:
        """Write the coarser levels: each cell is the highest of four, so that no lesion is lost from far away.

        Raises
        ------
        StorageError
            If the disk refuses; the answers themselves are not touched.
        """
        self._check_opened_for_writing()
        values = self.answered()
        with self._guard:
            self._made = ()
            with writing_in_place(self.path, self._is_in_place):
                layout.write_pyramid(self.path, self.frame, values)

    def close(self) -> None:
        """Let others write; a second call does nothing.

        A new store that was neither written nor finished is deleted: a scan that failed at once leaves no trace.
        """
        if self._made and self._is_in_place():
            layout.remove(self._made)
        self._made = ()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> MapStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_is(self, header: MapHeader) -> None:
        """Refuse a map of something else; one without answers becomes one of another precision."""
        fits = layout.digest(self.identity) == layout.digest(header.identity)
        is_empty = not fits and self._lock is not None and not self._done.any()
        if self.frame != header.frame or not (fits or (is_empty and layout.like(self.identity, header.identity))):
            raise StorageError(
                f"expected no heatmap or one of the same scan at {self.path}, got one with other settings; "
                "choose another folder"
            )
        if not fits:
            layout.write_header(self.path, header)
            self.identity = header.identity

    def _check_opened_for_writing(self) -> None:
        if self._lock is None:
            raise self.refusal or StorageError(
                f"expected a heatmap opened for writing, got {self.path} to read; open it again to scan"
            )

    def _is_in_place(self) -> bool:
        return self._lock is not None and self._lock.is_in_place

    def _checked(self, cells: Region) -> Region:
        if cells.is_empty or not Region.of(self.frame.cells).contains(cells):
            raise RegionError(
                f"expected cells on the heatmap ({Region.of(self.frame.cells)}), got {cells}; choose a region inside"
            )
        return cells

    def _read(self, cells: Region) -> FloatArray:
        values: FloatArray = np.array(self._array[cells.slices], dtype=np.float32)
        return values

    def _load_done(self) -> BoolArray:
        """Return the cells that a journal line covers and that hold a number."""
        covered: BoolArray = sparse_zeros(self.frame.cells.shape)
        for region in dict.fromkeys(read_regions(layout.journal_path(self.path))):
            covered[region.intersection(Region.of(self.frame.cells)).slices] = True
        done: BoolArray = sparse_zeros(self.frame.cells.shape)
        with storage_errors(self.path):
            # Also those without a journal line, which a power cut may have left: they must be readable to be added to.
            for key, chunk in chunks_over(Region.of(self.frame.cells), self.frame.cells):
                if layout.holds_chunk(self.path, *key):
                    np.copyto(done[chunk.slices], True, where=covered[chunk.slices] & self._numbers(chunk))
        return done

    def _numbers(self, chunk: Region) -> BoolArray:
        """Return which cells of a chunk hold a number; one that cannot be decoded holds none."""
        try:
            return ~np.isnan(self._read(chunk))
        except layout.DAMAGED:
            if self._lock is None:
                raise StorageError(
                    f"expected a readable heatmap, got damaged data in {self.path}; scan again to repair it"
                ) from None
            # Written over whole, so that the ROIs computed again find a chunk that they can add to.
            self._array[chunk.slices] = np.nan
            return np.zeros(chunk.size.shape, np.bool_)
