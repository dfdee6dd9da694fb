"""Zeiss CZI, read with pylibCZIrw in a process of its own."""

from __future__ import annotations

import os
import struct
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pylibCZIrw import czi

__all__ = ["CziFile", "open_file"]

UInt8Array = npt.NDArray[np.uint8]
#: Corners, sizes and, of pyramids, stored sizes of subblocks.
_Rects = npt.NDArray[np.int64]

_WHITE = (1.0, 1.0, 1.0)
#: A level is one where it covers so much of what was scanned; cells of the raster that this is counted in, at most.
_COVERED, _RASTER_CELLS = 0.99, 1024
#: Images beside the slide, as CZI calls them and everybody else does.
_ASSOCIATED = {"Label": "label", "SlidePreview": "macro", "Thumbnail": "thumbnail"}
#: Of the segments that a file is made of: their head, an entry of a list, and what stands before the content.
_SEGMENT_BYTES, _ENTRY_BYTES, _CONTENT_AT = 32, 128, 256
#: Where the file's head says where the list of images beside the slide is.
_LISTED_AT = _SEGMENT_BYTES + 72
_MOST_ENTRIES, _MOST_BYTES = 1000, 1 << 28


def open_file(path: str, cache_bytes: int) -> CziFile:
    """Open a file."""
    return CziFile(path, cache_bytes)


class CziFile:
    """An open file: scenes and mosaics on one canvas, whose corner is that of all that was scanned.

    Parameters
    ----------
    path
        To open.
    cache_bytes
        Decoded subblocks kept.
    """

    def __init__(self, path: str, cache_bytes: int) -> None:
        self._path = path
        self._file = czi.CziReader(
            path,
            cache_options=czi.CacheOptions(max_memory_usage=cache_bytes),
            # Irregular edges of what was scanned lie in masks.
            reader_options=czi.ReaderOptions(enable_mask_awareness=True),
        )
        self._dimensions: dict[str, tuple[int, int]] = {}
        self._pixel_types: dict[str, str] = {}
        found: dict[int, list[tuple[int, int, int, int, int, int]]] = defaultdict(list)

        def note(_: int, block: Any) -> bool:
            logical, stored = block.logicalRect, block.physicalSize
            at = block.coordinate.to_dict()
            for name, start in at.items():
                first, last = self._dimensions.get(name, (start, start))
                self._dimensions[name] = min(first, start), max(last, start)
            self._pixel_types.setdefault(str(at.get("C", 0)), block.pixelType.name)
            if logical.w > 0 and logical.h > 0 and stored.w > 0 and stored.h > 0:
                downsample = max(1, round(logical.w / stored.w), round(logical.h / stored.h))
                found[downsample].append((logical.x, logical.y, logical.w, logical.h, stored.w, stored.h))
            return True

        self._file.enumerate_subblocks(note)
        if not found.get(1):
            raise ValueError("no pixels at full resolution")
        blocks = {downsample: np.array(found[downsample], np.int64) for downsample in sorted(found)}
        self._scanned = blocks[1]
        self._x, self._y = (int(side) for side in self._scanned[:, :2].min(axis=0))
        right, bottom = (int(side) for side in (self._scanned[:, :2] + self._scanned[:, 2:4]).max(axis=0))
        self._size = right - self._x, bottom - self._y
        covered = self._raster(self._scanned)
        #: Level-0 pixels along a pixel of each level.
        self._downsamples = [
            downsample for downsample in blocks if self._raster(blocks[downsample])[covered].mean() >= _COVERED
        ]
        self._tiles = [np.median(blocks[one][:, 4:], axis=0).astype(int).tolist() for one in self._downsamples]
        self._attachments = dict(_attachments(path))
        channels = sorted(self._pixel_types, key=int)
        colour = next((one for one in channels if self._pixel_types[one] == "Bgr24"), channels[0])
        #: What is read of a stack: its middle.
        self._plane = {
            name: (first + last) // 2 if name == "Z" else first
            for name, (first, last) in self._dimensions.items()
            if name not in "SM"
        } | {"C": int(colour)}

    def _raster(self, rects: _Rects) -> npt.NDArray[np.bool_]:
        """Return which cells of a raster over the canvas hold something of rectangles."""
        step = max(1, max(self._size) // _RASTER_CELLS)
        cells = np.zeros((self._size[1] // step + 1, self._size[0] // step + 1), bool)
        for x, y, width, height in ((rects[:, :4] - (self._x, self._y, 0, 0)).clip(0)).tolist():
            cells[y // step : (y + height) // step + 1, x // step : (x + width) // step + 1] = True
        return cells

    def facts(self) -> dict[str, Any]:
        """Return what the file states."""
        width, height = self._size
        return {
            "levels": [
                [-(-width // downsample), -(-height // downsample), *tile]
                for downsample, tile in zip(self._downsamples, self._tiles, strict=True)
            ],
            "dimensions": {name: last - first + 1 for name, (first, last) in self._dimensions.items()},
            "pixel_types": self._pixel_types,
            "xml": self._xml(),
            "associated": list(self._attachments),
        }

    def _xml(self) -> str:
        try:
            return self._file.raw_metadata
        except (RuntimeError, ValueError):
            return ""  # the pixels may be whole: a size can be supplied

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3), white where nothing was scanned."""
        downsample = self._downsamples[level]
        left, top = self._x + x * downsample, self._y + y * downsample
        region = left, top, width * downsample, height * downsample
        # A little over, because the library cuts off what remains of width times zoom.
        zoom = 1.0 if downsample == 1 else min(1.0, (1 + 1e-9) / downsample)
        pixels = self._file.read(roi=region, plane=self._plane, zoom=zoom, pixel_type="Bgr24", background_pixel=_WHITE)[
            :height, :width, ::-1
        ]
        if downsample > 1:
            # Tiles of coarser levels reach over what was not scanned; writers leave that black.
            pixels = np.where(self._shown(region, (height, width), downsample)[..., None], pixels, np.uint8(255))
        return np.ascontiguousarray(pixels)

    def _shown(
        self, region: tuple[int, int, int, int], shape: tuple[int, int], downsample: int
    ) -> npt.NDArray[np.bool_]:
        """Return which pixels of a region hold something that was scanned."""
        x, y, width, height = region
        corners, sizes = self._scanned[:, :2] - (x, y), self._scanned[:, 2:4]
        first, last = corners // downsample, -(-(corners + sizes) // downsample)
        inside = ((corners < (width, height)) & (corners + sizes > 0)).all(axis=1)
        shown = np.zeros(shape, bool)
        for (left, top), (right, bottom) in zip(first[inside].clip(0).tolist(), last[inside].tolist(), strict=True):
            shown[top:bottom, left:right] = True
        return shown

    def associated(self, name: str, most_px: int) -> UInt8Array | bytes | tuple[int, int]:
        """Return an image beside the slide: pixels, a JPEG, or its width and height where it has too many pixels."""
        kind, data = _content(self._path, self._attachments[name])
        if not kind.startswith("CZI"):
            return data
        # The library opens files alone. A label may name a patient: it lies there as short as can be.
        with tempfile.TemporaryDirectory(prefix="napari-metastasis-") as folder:
            inner = os.path.join(folder, "image.czi")
            Path(inner).write_bytes(data)
            file = czi.CziReader(inner)
            try:
                box = file.total_bounding_rectangle
                if box.w * box.h > most_px:
                    return box.w, box.h
                return np.ascontiguousarray(file.read(pixel_type="Bgr24", background_pixel=_WHITE)[..., ::-1])
            finally:
                file.close()


def _attachments(path: str) -> Iterator[tuple[str, int]]:
    """Yield the names of images beside the slide, and where each begins in the file."""
    with open(path, "rb") as file:
        (at,) = struct.unpack_from("<q", file.read(_LISTED_AT + 8), _LISTED_AT)
        size = os.fstat(file.fileno()).st_size
        if not 0 < at < size - _SEGMENT_BYTES - _CONTENT_AT:
            return  # none, or damaged: the slide itself may be whole
        file.seek(at + _SEGMENT_BYTES)
        (count,) = struct.unpack("<i", file.read(4))
        file.seek(at + _SEGMENT_BYTES + _CONTENT_AT)
        for _ in range(min(max(count, 0), _MOST_ENTRIES)):
            entry = file.read(_ENTRY_BYTES)
            if len(entry) < _ENTRY_BYTES:
                return
            name = entry[48:].split(b"\0")[0].decode(errors="replace")
            if name in _ASSOCIATED:
                yield _ASSOCIATED[name], struct.unpack_from("<q", entry, 12)[0]


def _content(path: str, at: int) -> tuple[str, bytes]:
    """Return the kind and the bytes of a file that lies in a CZI file."""
    with open(path, "rb") as file:
        file.seek(at + _SEGMENT_BYTES)
        head = file.read(_CONTENT_AT)
        (count,) = struct.unpack_from("<i", head)
        if not 0 < count <= _MOST_BYTES:
            raise ValueError(f"an image of {count} bytes")
        kind = head[16 + 40 : 16 + 48].rstrip(b"\0").decode(errors="replace")
        return kind, file.read(count)
