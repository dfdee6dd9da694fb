"""OME-Zarr slides as other programs write them: ome-zarr-py, and zarr itself where that cannot."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

with warnings.catch_warnings():
    # It uses what it says is deprecated.
    warnings.simplefilter("ignore")
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_multiscale

__all__ = ["describe", "halves", "write_ome_zarr"]

_FORMATS = {"0.4": FormatV04(), "0.5": FormatV05()}


def halves(pixels: npt.NDArray[np.uint8], levels: int) -> list[npt.NDArray[np.uint8]]:
    """Return (rows, columns, 3) levels, each every other pixel of the one before."""
    return [pixels[:: 2**level, :: 2**level] for level in range(levels)]


def write_ome_zarr(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    version: str = "0.5",
    axes: str = "cyx",
    mpp: tuple[float, float] = (0.5, 0.5),
    unit: str | None = "micrometer",
    levels: int = 3,
    chunk_px: int = 128,
    chunk_channels: int = 1,
    **options: Any,
) -> Path:
    """Write (rows, columns, channels) pixels with ome-zarr-py, each level every other pixel; return the path.

    ``mpp`` is that along y and x; axes that pixels lack have a length of 1; ``options`` are zarr's, of each array.
    """
    arrays = []
    for level in halves(pixels, levels):
        named = {"y": level.shape[0], "x": level.shape[1], "c": level.shape[2]}
        turned = level.transpose(["yxc".index(axis) for axis in axes if axis in named])
        arrays.append(turned.reshape([named.get(axis, 1) for axis in axes]))
    sides = dict(zip("yx", mpp, strict=True))
    kinds = {"c": "channel", "t": "time"}
    described = [
        {
            "name": axis,
            "type": kinds.get(axis, "space"),
            **({"unit": unit} if unit is not None and axis in "zyx" else {}),
        }
        for axis in axes
    ]
    scales = [
        [{"type": "scale", "scale": [sides[axis] * 2**level if axis in sides else 1.0 for axis in axes]}]
        for level in range(levels)
    ]
    chunks = {"c": chunk_channels, "y": chunk_px, "x": chunk_px}
    form = _FORMATS[version]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_multiscale(
            arrays,
            zarr.open_group(path, mode="w", zarr_format=form.zarr_format),
            fmt=form,
            axes=described,
            coordinate_transformations=scales,
            storage_options={"chunks": tuple(chunks.get(axis, 1) for axis in axes), **options},
        )
    return path


def describe(path: Path, change: Any) -> None:
    """Change what the group of an OME-Zarr 0.5 says: ``change`` is called with its attributes."""
    about = json.loads((path / "zarr.json").read_text())
    change(about["attributes"])
    (path / "zarr.json").write_text(json.dumps(about))
