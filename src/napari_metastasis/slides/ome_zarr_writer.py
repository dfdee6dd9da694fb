"""What makes encoded tiles an OME-Zarr 0.5, and one .zip file of it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import zstd
from zarr.codecs import ZstdCodec

from napari_metastasis.geometry import Size
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.ngff import OWN
from napari_metastasis.slides.pieces import PyramidPieces
from napari_metastasis.slides.slide import Slide
from napari_metastasis.storage import atomic_write, storage_errors

__all__ = ["describe_ome_zarr", "encode_chunk", "write_zip"]

#: As heatmaps are packed; the checksum tells a chunk that a power cut left half-written from a whole one.
_ZSTD_LEVEL = 3
_AXES = ("c", "y", "x")
_CHANNELS = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"))
#: The same for every file of a .zip, so that the same slide makes the same bytes.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def encode_chunk(tile_px: int) -> Callable[[UInt8Array], bytes]:
    """Return a function that packs a tile as a chunk of three channels; nothing is lost."""

    def encode(tile: UInt8Array) -> bytes:
        chunk = np.zeros((3, tile_px, tile_px), np.uint8)
        chunk[:, : tile.shape[0], : tile.shape[1]] = np.moveaxis(tile, 2, 0)
        return bytes(zstd.compress(chunk, _ZSTD_LEVEL, True))

    return encode


def describe_ome_zarr(pieces: PyramidPieces, slide: Slide, *, beside: Mapping[str, UInt8Array]) -> None:
    """Write the descriptions of a slide whose chunks are there, and the images beside it.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    names = {name: f"associated/{_key(name)}" for name in beside}
    own = {
        "converted_from": slide.format,
        "objective_power": slide.objective_power,
        "associated": list(names.values()),
    }
    attributes = {
        "ome": {
            "version": "0.5",
            "multiscales": [_multiscale(slide.name, len(pieces.sizes), slide.mpp)],
            "omero": {
                "channels": [
                    {
                        "label": label,
                        "color": color,
                        "active": True,
                        "window": {"min": 0, "max": 255, "start": 0, "end": 255},
                    }
                    for label, color in _CHANNELS
                ]
            },
        },
        OWN: own,
    }
    with storage_errors(pieces.tiles):
        # Descriptions alone: zarr would delete the chunks with an array that it overwrites.
        described = _Described(pieces.tiles)
        described.group("", attributes)
        for level, size in enumerate(pieces.sizes):
            described.array(str(level), size, pieces.tile_px)
        for name, path in names.items():
            image = beside[name]
            described.group(path, {"ome": {"version": "0.5", "multiscales": [_multiscale(name, 1, None)]}})
            array = described.array(f"{path}/0", Size(image.shape[1], image.shape[0]), pieces.tile_px)
            array[:] = np.moveaxis(image, 2, 0)
        if names:
            described.group("associated", {})


class _Described:
    """The descriptions of a hierarchy, written beside the chunks that are there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def group(self, path: str, attributes: Mapping[str, Any]) -> None:
        (self._path / path / "zarr.json").unlink(missing_ok=True)
        zarr.Group.from_store(self._path / path, attributes=dict(attributes), zarr_format=3, overwrite=False)

    def array(self, path: str, size: Size, tile_px: int) -> zarr.Array[Any]:
        (self._path / path / "zarr.json").unlink(missing_ok=True)
        return zarr.create_array(
            self._path / path,
            shape=(3, *size.shape),
            chunks=(3, tile_px, tile_px),
            dtype="uint8",
            fill_value=255,
            compressors=ZstdCodec(level=_ZSTD_LEVEL, checksum=True),
            dimension_names=_AXES,
            overwrite=False,
        )


def _multiscale(name: str, levels: int, mpp: float | None) -> dict[str, Any]:
    """Return the description of levels, each half of the one before; index (0, 0) of level 0 lies at 0 µm."""
    unit = {} if mpp is None else {"unit": "micrometer"}
    um = 1.0 if mpp is None else mpp
    return {
        "name": name,
        "type": "mean",
        "axes": [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "yx")],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, um * 2**level, um * 2**level]},
                    # A pixel's centre is the centre of those that it is averaged from.
                    {"type": "translation", "translation": [0.0, *[um * (2**level - 1) / 2] * 2]},
                ],
            }
            for level in range(levels)
        ],
    }


def _key(name: str) -> str:
    """Return a name as a part of a key."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in name) or "image"


def write_zip(path: Path, folder: Path) -> None:
    """Pack a hierarchy into one .zip file, its files as they are.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in _sorted_files(folder):
            entry = zipfile.ZipInfo(name, _NO_DATE)
            archive.writestr(entry, (folder / name).read_bytes())


def _sorted_files(folder: Path) -> Sequence[str]:
    found = [
        os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
        for place, _, names in os.walk(folder)
        for name in names
    ]
    # The description of the image comes first, as readers of streams want it.
    return sorted(found, key=lambda name: (name.count("/"), not name.endswith("zarr.json"), name))
