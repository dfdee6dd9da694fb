"""Labelled patches from a folder, a zip archive or PCam's own HDF5 files, read one at a time."""

from __future__ import annotations

import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import MissingDependencyError, PatchDatasetError
from napari_metastasis.pictures import PictureError, decode_picture
from napari_metastasis.slides.stains import StainMatrix, middle_stain_matrix, nuclear_tint, swap_note
from napari_metastasis.storage import home_path

__all__ = ["PatchSource", "colours_note", "join_patches", "open_named_patches", "open_patches", "patch_set_stains"]

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_CLASS_FOLDERS = {"0": 0, "1": 1}
#: What folders of a split are called. Splits must not be mixed: one is measured on what another learnt.
_SPLITS = {
    name: names[0]
    for names in (("train", "training"), ("valid", "val", "validation"), ("test", "testing"))
    for name in names
}
#: Pixels of a patch, and bytes of its file: more is no patch.
_MOST_PX, _MOST_BYTES = 1 << 24, 1 << 27
#: Ways in which a zip's entries are packed that Python unpacks: not at all, Deflate, bzip2, LZMA.
_UNPACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_DEFLATE64 = 9
#: Patches, spread over all, and about how many pixels of each tell the stains.
_PATCHES_SEEN, _PIXELS_SEEN = 128, 10_000
_REMEDY = "give a folder or zip with class folders 0 and 1, or PCam's HDF5 file of images with its labels beside it"


class PatchSource(Protocol):
    """Patches with their labels: 0 normal, 1 tumour. Picklable, so that worker processes can each open their own."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the class of every patch, (n,): 0 normal, 1 tumour."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Return what each patch is called: its path in the folder or archive, or its number in an HDF5 file."""
        ...

    def __len__(self) -> int:
        """Return the number of patches."""
        ...

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return patch ``index`` as (rows, columns, 3) uint8."""
        ...


def open_patches(path: str | Path) -> PatchSource:
    """Return the patches at ``path``: a folder, a zip archive, or PCam's HDF5 file of images.

    Raises
    ------
    PatchDatasetError
        If nothing is there, it holds no patches or those of several splits, or a class is empty.
    """
    path = home_path(path)
    source = _open(path)
    found = set(np.unique(source.labels).tolist())
    for wrong, what in (({0, 1} - found, "none of"), (found - {0, 1}, "also")):
        if wrong:
            raise PatchDatasetError(
                f"expected patches of class 0 and 1, got {what} class {min(wrong)} in {path}; {_REMEDY}"
            )
    return source


def open_named_patches(path: str | Path, names: Sequence[str]) -> PatchSource:
    """Return those patches of a folder or zip archive that somebody names, all of class 1, in that order.

    Raises
    ------
    PatchDatasetError
        If nothing is there, or one of them is missing or cannot be unpacked.
    """
    path, names = home_path(path), tuple(names)
    if not os.path.isdir(path):
        return _ZipPatches.naming(path, names)
    if missing := [name for name in names if not os.path.isfile(path / name)]:
        raise PatchDatasetError(f"expected {missing[0]} in {path}, got no such file; put it back")
    return _FolderPatches(path, names, np.ones(len(names), np.int64))


def colours_note(source: PatchSource) -> str:
    """Return what has to be said where red and blue of patches look exchanged; empty where they do not."""
    seen = [pixels[:: max(1, len(pixels) // _PIXELS_SEEN)] for pixels in _some_of(source)]
    remedy = "write the patches as RGB: OpenCV's imwrite expects BGR"
    return swap_note(nuclear_tint(np.concatenate(seen)), remedy) if seen else ""


def patch_set_stains(source: PatchSource) -> StainMatrix:
    """Return the dyes of a set of patches: the middle of those of some, spread over all.

    A single patch tells too little of its slide's, and nobody says which patches are of one slide.

    Raises
    ------
    StainError
        If those of half of them cannot be told.
    """
    return middle_stain_matrix(_some_of(source), remedy="take a model that reads colours as they are")


def _some_of(source: PatchSource) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pixels, uint8 (pixels, 3), of patches spread over all."""
    for index in np.unique(np.linspace(0, len(source) - 1, _PATCHES_SEEN).astype(int)):
        # Whoever uses a damaged patch says so.
        with suppress(PatchDatasetError):
            yield source.read(int(index)).reshape(-1, 3)


def join_patches(sources: Sequence[PatchSource]) -> PatchSource:
    """Return several sources as one, in their order."""
    return sources[0] if len(sources) == 1 else _JoinedPatches(tuple(sources))


@dataclass(frozen=True)
class _JoinedPatches:
    sources: tuple[PatchSource, ...]

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        return np.concatenate([source.labels for source in self.sources])

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for source in self.sources for name in source.names)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        source = self.sources[number]
        return source.read(index - int(self._ends[number]) + len(source))


def _open(path: Path) -> PatchSource:
    if os.path.isdir(path):
        hdf5 = sorted(path.glob("*_x.h5"))
        return _Hdf5Patches.open(hdf5[0]) if len(hdf5) == 1 else _FolderPatches.open(path, beside=hdf5)
    if not os.path.exists(path):
        raise PatchDatasetError(f"expected patches at {path}, got no such file; {_REMEDY}")
    if path.suffix.lower() in {".h5", ".hdf5"}:
        return _Hdf5Patches.open(path)
    if path.suffix.lower() == ".gz":
        raise PatchDatasetError(f"expected patches, got {path}, which is gzipped; unpack it first (gunzip)")
    if zipfile.is_zipfile(path):
        return _ZipPatches.open(path)
    raise PatchDatasetError(f"expected patches, got the file {path}; {_REMEDY}")


def _label_of(name: str) -> int | None:
    """Return the class of a patch by the folder it lies in; ``None`` for anything else in the archive."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in _IMAGE_SUFFIXES or path.name.startswith("."):
        return None
    return _CLASS_FOLDERS.get(path.parent.name)


def _named(names: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the patches among ``names``, sorted, with their labels."""
    found = sorted((name, label) for name in names if (label := _label_of(name)) is not None)
    return tuple(name for name, _ in found), np.array([label for _, label in found], dtype=np.int64)


def _check_one_split(names: Sequence[str], path: Path, remedy: str) -> None:
    """Refuse patches of several splits: who gives the folder above them would train on what is measured on."""
    folders = {PurePosixPath(name).parent.parent for name in names}
    splits = {
        part: _SPLITS[part.casefold()] for folder in folders for part in folder.parts if part.casefold() in _SPLITS
    }
    if len(set(splits.values())) > 1:
        raise PatchDatasetError(
            f"expected the patches of one split, got {', '.join(sorted(splits))} in {path}; {remedy}"
        )


def _decode(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    try:
        image = decode_picture(data, most_px=_MOST_PX)
    except PictureError as error:
        raise PatchDatasetError(f"expected an image, got {error} in {name}; remove or replace the file") from error
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise PatchDatasetError(f"expected an 8-bit RGB patch, got {image.dtype} {image.shape} in {name}; convert it")
    return np.ascontiguousarray(image[..., :3])


@dataclass(frozen=True)
class _FolderPatches:
    folder: Path
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, *, beside: Sequence[Path] = ()) -> _FolderPatches:
        """Return the patches of class folders; ``beside`` are files that may be meant where there are none."""
        names, labels = _named([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
        if not names and beside:
            files = ", ".join(path.name for path in beside)
            raise PatchDatasetError(f"expected one file of images in {folder}, got {files}; give one of them")
        if not names:
            raise PatchDatasetError(f"expected patches in class folders 0 and 1, got none below {folder}; {_REMEDY}")
        _check_one_split(names, folder, "give one of these folders")
        return cls(folder, names, labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        path = self.folder / self.names[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PatchDatasetError(
                f"expected a patch at {path}, got {error.strerror}; put it back, or start again without it"
            ) from error
        return _decode(data, str(path))


def _check_entries(entries: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Refuse entries that cannot be unpacked, or unpack to what is no patch.

    Raises
    ------
    PatchDatasetError
        For the first of them.
    """
    for entry in entries:
        if entry.flag_bits & 1:
            raise PatchDatasetError(
                f"expected a zip without a password, got {entry.filename} encrypted in {path}; unpack it, and give the "
                "folder"
            )
        if entry.compress_type not in _UNPACKED:
            what = "Deflate64, as Windows writes it" if entry.compress_type == _DEFLATE64 else "which is not known here"
            raise PatchDatasetError(
                f"expected a zip that Python reads, got compression method {entry.compress_type} ({what}) in {path}; "
                "unpack it, and give the folder"
            )
        if entry.file_size > _MOST_BYTES:
            raise PatchDatasetError(
                f"expected patches of at most {_MOST_BYTES >> 20} MiB, got {entry.file_size >> 20} MiB of "
                f"{entry.filename} in {path}; remove it from the archive"
            )


@dataclass
class _ZipPatches:
    path: Path
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    _archive: zipfile.ZipFile | None = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path) -> _ZipPatches:
        try:
            with zipfile.ZipFile(path) as archive:
                names, labels = _named(archive.namelist())
                entries = [archive.getinfo(name) for name in names]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise PatchDatasetError(f"expected a zip archive, got {error} in {path}; fetch it again") from error
        _check_entries(entries, path)
        if not names:
            raise PatchDatasetError(f"expected patches in class folders 0 and 1, got none in {path}; {_REMEDY}")
        _check_one_split(names, path, "unpack it, and give one of these folders")
        return cls(path, names, labels)

    @classmethod
    def naming(cls, path: Path, names: tuple[str, ...]) -> _ZipPatches:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [archive.getinfo(name) for name in names]
        except KeyError as error:
            raise PatchDatasetError(f"expected the patches named, got {error} ({path}); fetch it again") from error
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise PatchDatasetError(f"expected a zip archive, got {error} in {path}; fetch it again") from error
        _check_entries(entries, path)
        return cls(path, names, np.ones(len(names), np.int64))

    def __getstate__(self) -> dict[str, Any]:
        # An open archive belongs to its process: a shared file position would mix up the patches.
        return {**self.__dict__, "_archive": None}

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.path)
        try:
            data = self._archive.read(self.names[index])
        except (
            zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError, ValueError, RuntimeError,
            NotImplementedError,
        ) as error:  # fmt: skip
            raise PatchDatasetError(
                f"expected {self.names[index]} in {self.path}, got {error}; fetch the archive again"
            ) from error
        return _decode(data, f"{self.path}:{self.names[index]}")


@dataclass
class _Hdf5Patches:
    """PCam as published: ``…_x.h5`` holds ``x`` (n, 96, 96, 3) uint8, ``…_y.h5`` holds ``y`` (n, 1, 1, 1)."""

    path: Path
    labels: npt.NDArray[np.int64]
    _images: Any = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path) -> _Hdf5Patches:
        h5py = _h5py()
        labels_path = path.with_name(path.name.replace("_x.", "_y."))
        try:
            with h5py.File(path, "r") as images:
                count, shape = len(images["x"]), images["x"].shape[1:]
                if len(shape) != 3 or shape[2] != 3 or images["x"].dtype != np.uint8:
                    raise PatchDatasetError(
                        f"expected x of n x rows x columns x 3 uint8, "
                        f"got {images['x'].dtype} {images['x'].shape} in {path}; {_REMEDY}"
                    )
                if math.prod(shape) > 3 * _MOST_PX or math.prod(images["x"].chunks or shape) > _MOST_BYTES:
                    raise PatchDatasetError(
                        f"expected patches of at most {_MOST_PX:,} pixels, got {shape} in chunks of "
                        f"{images['x'].chunks} in {path}; {_REMEDY}"
                    )
                inline = "y" in images
            with h5py.File(path if inline else labels_path, "r") as file:
                if file["y"].size != count:
                    raise PatchDatasetError(
                        f"expected {count} labels, got {file['y'].size} in {file.filename}; {_REMEDY}"
                    )
                labels = np.asarray(file["y"]).reshape(-1).astype(np.int64)
        except PatchDatasetError:
            raise
        except (OSError, KeyError, AttributeError, TypeError, ValueError, RuntimeError, MemoryError) as error:
            raise PatchDatasetError(
                f"expected PCam's HDF5 files at {path} and {labels_path}, got {error}; {_REMEDY}"
            ) from error
        return cls(path, labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.labels))))

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        if self._images is None:
            self._images = _h5py().File(self.path, "r")["x"]
        try:
            patch: npt.NDArray[np.uint8] = self._images[index]
        except (OSError, RuntimeError, ValueError) as error:
            raise PatchDatasetError(
                f"expected patch {index} in {self.path}, got damaged data; fetch the file again"
            ) from error
        return patch


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "expected h5py to read HDF5 patches, got none; pip install 'napari-metastasis[train]'"
        ) from error
    return h5py
