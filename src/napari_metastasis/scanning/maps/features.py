"""Encoded patches on disk: every patch of a slide once, in chunks, so that refining needs neither slide nor memory.

Features are written first, then which cells have them, then the probabilities: what a killed scan leaves is whole, or
counts as absent.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import Region, Size, sparse_zeros
from napari_metastasis.partials import partial_folder
from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning.maps.ome_zarr import DAMAGED
from napari_metastasis.scanning.maps.place import require_place, sweep_chunks, writing_in_place
from napari_metastasis.storage import storage_errors

__all__ = ["FEATURES_VERSION", "FeatureStore"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

#: Version of the features: to be raised when a change of this program changes one by more than rounding.
FEATURES_VERSION = 1
#: Side of a chunk in native cells: about an ROI, and 256 KiB for 32 features.
_CHUNK_CELLS = 64
_PRESENT_CHUNK_CELLS = 512
_OWN, _KEPT = "napari_metastasis", "kept"
_LARGEST = float(np.finfo(np.float16).max)


class FeatureStore:
    """The features of one slide's patches, for the model that reads them. Every method may be called from any thread.

    Attributes
    ----------
    path
        The Zarr folder.
    cells
        Native cells along x and y.
    """

    def __init__(self, path: Path, cells: Size, *, views: int, features: int) -> None:
        self.path = path
        self.cells = cells
        self._shape = (views, *cells.shape, features)
        self._guard = threading.Lock()
        self._made = False
        try:
            with storage_errors(path):
                group = zarr.open_group(path, mode="r+", zarr_format=3)
                self._is_kept = bool(group.attrs.get(_KEPT, True))
                found, present = group["features"], group["present"]
                assert isinstance(found, zarr.Array)
                assert isinstance(present, zarr.Array)
        except DAMAGED as error:
            raise self._damaged() from error
        chunks = ((1, _CHUNK_CELLS, _CHUNK_CELLS, features), (_PRESENT_CHUNK_CELLS,) * 2)
        # Other chunks may be of any size, and are none of ours.
        if (found.shape, present.shape, found.chunks, present.chunks) != (self._shape, cells.shape, *chunks):
            raise self._damaged()
        if found.dtype != np.float16 or present.dtype != np.bool_:
            raise self._damaged()
        self._features: zarr.Array[Any] = found
        self._stored_present: zarr.Array[Any] = present
        self._present: BoolArray = sparse_zeros(cells.shape)
        try:
            with storage_errors(path):
                for chunk in Region.of(cells).split(_PRESENT_CHUNK_CELLS):
                    np.copyto(self._present[chunk.slices], True, where=np.asarray(present[chunk.slices], np.bool_))
        except DAMAGED:
            # Nothing tells which features are whole: all patches are encoded again.
            self._present = sparse_zeros(cells.shape)
            with storage_errors(path):
                present[:] = False

    @classmethod
    def open_or_create(
        cls, path: Path, *, cells: Size, views: int, features: int, identity: Mapping[str, Any], keep: bool = True
    ) -> FeatureStore:
        """Return the store found at ``path``, or a new one.

        Parameters
        ----------
        path
            Zarr folder; its parent exists.
        cells
            Native cells along x and y.
        views
            Views of every patch.
        features
            Numbers kept of each.
        identity
            Everything that decides them, as plain values.
        keep
            Whether :meth:`discard` spares the store. One that any earlier scan asked to keep is spared as well.

        Raises
        ------
        StorageError
            If the one found there is of something else or damaged, or the disk refuses.
        """
        wanted = {"features_version": FEATURES_VERSION, "identity": dict(identity)}
        made = not path.exists()
        if made:
            _create(path, (views, *cells.shape, features), {_OWN: wanted, _KEPT: keep})
        try:
            with storage_errors(path):
                stored = read_json(path / "zarr.json")["attributes"][_OWN]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"expected features at {path}, got something else; move it away") from error
        if stored != wanted:
            raise StorageError(f"expected features of this scan at {path}, got those of another; move them away")
        # The scan that opens them holds the lock of its map.
        sweep_chunks(path)
        store = cls(path, cells, views=views, features=features)
        store._made = made
        if keep and not store._is_kept:
            with storage_errors(path):
                zarr.open_group(path, mode="r+", zarr_format=3).attrs[_KEPT] = store._is_kept = True
        return store

    def beside(self, path: Path) -> FeatureStore | None:
        """Return the same features as another scan stored them; ``None`` where none can be read there."""
        if not path.exists():
            return None
        try:
            return FeatureStore(path, self.cells, views=self._shape[0], features=self._shape[3])
        except StorageError:
            return None

    def discard(self) -> None:
        """Delete the store, unless some scan asked to keep it."""
        if self._is_kept:
            return
        with self._guard:
            shutil.rmtree(self.path, ignore_errors=True)
            self._made = False

    def close(self) -> None:
        """Delete a new store that nothing was written into: a scan that failed at once leaves no trace."""
        with self._guard:
            if self._made and not self._present.any():
                shutil.rmtree(self.path, ignore_errors=True)
            self._made = False

    @property
    def present(self) -> BoolArray:
        """Return the native cells that have features: bool, (rows, columns), a copy."""
        present = sparse_zeros(self._present.shape)
        with self._guard:
            np.copyto(present, True, where=self._present)
        return present

    def covers(self, cells: Region, expected: BoolArray) -> bool:
        """Return whether every cell that is expected has features: bool, (rows, columns) of ``cells``."""
        with self._guard:
            return not bool((expected & ~self._present[cells.slices]).any())

    def write(self, cells: Region, features: FloatArray) -> None:
        """Store features; the data first, then that they are there.

        Parameters
        ----------
        cells
            Native cells on the map.
        features
            float32, (views, rows, columns, features). NaN leaves a cell as it is.

        Raises
        ------
        StorageError
            If the disk refuses; what was stored before stays valid.
        """
        fresh = ~np.isnan(features[0, ..., 0])
        with self._guard, storage_errors(self.path):
            # What is stored stays, to the last digit.
            fresh &= ~self._present[cells.slices]
            if not fresh.any():
                return
            with writing_in_place(self.path, self._is_in_place):
                try:
                    self._add(cells, fresh, features)
                except DAMAGED:
                    # Chunks that were cut short can only be written over whole.
                    self._forget_damaged(cells)
                    self._add(cells, ~np.isnan(features[0, ..., 0]) & ~self._present[cells.slices], features)

    def _add(self, cells: Region, fresh: BoolArray, features: FloatArray) -> None:
        rows, columns = cells.slices
        # Features past the format's range, as of an encoder that was hardly trained, are as large as it holds.
        values = features.clip(-_LARGEST, _LARGEST).astype(np.float16)
        if not fresh.all():
            values = np.where(fresh[None, ..., None], values, np.asarray(self._features[:, rows, columns]))
        self._features[:, rows, columns] = values
        self._present[cells.slices] |= fresh
        self._stored_present[cells.slices] = self._present[cells.slices]

    def _forget_damaged(self, cells: Region) -> None:
        """Empty the chunks around some cells that cannot be decoded, in every view."""
        for chunk in cells.grown(_CHUNK_CELLS).split(_CHUNK_CELLS):
            inside = chunk.intersection(Region.of(self.cells))
            if inside.intersection(cells).is_empty:
                continue
            rows, columns = inside.slices
            try:
                np.asarray(self._features[:, rows, columns])
            except DAMAGED:
                self._features[:, rows, columns] = np.float16(np.nan)
                self._present[inside.slices] = False
                self._stored_present[inside.slices] = self._present[inside.slices]

    def read(self, cells: Region) -> FloatArray:
        """Return float32 features, (views, rows, columns, features), NaN where there are none.

        Parameters
        ----------
        cells
            Native cells; they may reach past the map.

        Raises
        ------
        StorageError
            If they cannot be read. Damaged ones are forgotten: a scan encodes their patches again.
        """
        answers = np.full((self._shape[0], *cells.size.shape, self._shape[3]), np.nan, np.float32)
        inside = cells.intersection(Region.of(self.cells))
        if inside.is_empty:
            return answers
        rows, columns = inside.slices
        with self._guard, storage_errors(self.path):
            present = self._present[inside.slices]
            if not present.any():
                return answers
            # Chunks that are gone would read as patches without features.
            require_place(self.path, self._is_in_place)
            try:
                values = np.asarray(self._features[:, rows, columns], np.float32)
            except DAMAGED as error:
                self._forget_damaged(inside)
                raise StorageError(
                    f"expected readable features, got damaged data in {self.path}; scan again to repair it"
                ) from error
        values[:, ~present] = np.nan
        answers[(slice(None), *inside.shifted(-cells.x, -cells.y).slices)] = values
        return answers

    def _is_in_place(self) -> bool:
        # Its name says what is in it: the same name is the same store, whoever made it.
        return (self.path / "zarr.json").exists()

    def _damaged(self) -> StorageError:
        return StorageError(f"expected readable features, got damaged data in {self.path}; move it away, then scan")


def _create(path: Path, shape: tuple[int, int, int, int], attributes: Mapping[str, Any]) -> None:
    """Make an empty store; it appears whole, or not at all."""
    with storage_errors(path), partial_folder(path) as partial:
        group = zarr.create_group(store=partial, zarr_format=3, attributes=dict(attributes))
        group.create_array(
            "features",
            shape=shape,
            chunks=(1, _CHUNK_CELLS, _CHUNK_CELLS, shape[3]),
            dtype="float16",
            fill_value=np.nan,
            compressors=ZstdCodec(level=1, checksum=True),
        )
        group.create_array(
            "present",
            shape=shape[1:3],
            chunks=(_PRESENT_CHUNK_CELLS, _PRESENT_CHUNK_CELLS),
            dtype="bool",
            fill_value=False,
            compressors=ZstdCodec(level=1, checksum=True),
        )
