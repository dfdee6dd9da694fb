"""One level of an OME-Zarr: where its pixels lie among the axes of an array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from napari_metastasis.errors import CorruptSlideError, FluorescenceError
from napari_metastasis.geometry import Size
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.grid import TileGrid
from napari_metastasis.slides.zarr_array import ZarrArray, array_layout
from napari_metastasis.slides.zarr_files import ZarrFiles

__all__ = ["RGB", "OmeZarrLevel"]

#: Red, green and blue.
RGB = 3


class OmeZarrLevel:
    """One array of a pyramid.

    Parameters
    ----------
    array
        Its chunks.
    axes
        Names of its axes, in order.
    name
        Of the slide, for messages.

    Raises
    ------
    CorruptSlideError
        If the array has other axes.
    FluorescenceError
        If its channels are not red, green and blue.
    """

    def __init__(self, array: ZarrArray, axes: Sequence[str], name: str) -> None:
        self.array = array
        layout = array.layout
        if len(axes) != len(layout.shape):
            raise CorruptSlideError(
                f"expected an array of {len(axes)} axes ({' '.join(axes)}) in {name}, got {len(layout.shape)}; export "
                "the slide again"
            )
        self._axes = tuple(axes)
        shape, chunk = (dict(zip(axes, sizes, strict=True)) for sizes in (layout.shape, layout.chunk))
        self._chunk = chunk
        self.size = Size(shape["x"], shape["y"])
        self.tile = Size(min(chunk["x"], shape["x"]), min(chunk["y"], shape["y"]))
        self.grid = TileGrid(self.size, Size(chunk["x"], chunk["y"]))
        self.channels, self.depth, self.times = (shape.get(axis, 1) for axis in "czt")
        if self.channels < RGB:
            raise FluorescenceError(
                f"expected an H&E slide in RGB, got {self.channels} channel(s) in {name}; choose a brightfield slide, "
                "or export this one as RGB"
            )
        if self.channels > RGB + 1:
            raise FluorescenceError(
                f"expected an H&E slide in RGB, got {self.channels} channels in {name}: a fluorescence image; choose a "
                "brightfield slide, or export this one as RGB"
            )

    @classmethod
    def of(cls, files: ZarrFiles, path: str, about: Mapping[str, Any], axes: Sequence[str]) -> OmeZarrLevel:
        """Return the level that an array is, by its description."""
        return cls(ZarrArray(files, path, array_layout(about, files.name)), axes, files.name)

    def parts(self) -> int:
        """Return how many chunks of red, green and blue there are."""
        return self.grid.count * -(-RGB // self._chunk.get("c", 1))

    def files(self) -> Iterator[str]:
        """Yield the file of every chunk."""
        return (self.array.key(at) for index in range(self.grid.count) for at in self.chunks_of(index))

    def chunks_of(self, index: int) -> list[tuple[int, ...]]:
        """Return the chunks that hold red, green and blue of a tile, by their numbers along each axis."""
        row, column = divmod(index, self.grid.columns)
        plane = {"y": row, "x": column, "t": 0, "z": self.depth // 2 // self._chunk.get("z", 1)}
        return [
            tuple({**plane, "c": channel}[axis] for axis in self._axes)
            for channel in range(-(-RGB // self._chunk.get("c", 1)))
        ]

    def pixels(self, index: int, chunks: Sequence[UInt8Array]) -> UInt8Array:
        """Return a tile, uint8 of shape (rows, columns, 3), from its chunks."""
        within = {"t": 0, "z": self.depth // 2 % self._chunk.get("z", 1)}
        pick = tuple(within.get(axis, slice(None)) for axis in self._axes)
        kept = [axis for axis in self._axes if axis not in within]
        turned = [kept.index(axis) for axis in ("y", "x", "c")]
        joined = np.concatenate([chunk[pick].transpose(turned) for chunk in chunks], axis=2)
        size = self.grid.region(index).size
        return np.ascontiguousarray(joined[: size.height, : size.width, :RGB])
