"""CZI files byte by byte, as scanners write them and the library does not: with pyramids, JPEG XR, and labels."""

from __future__ import annotations

import io
import struct
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

#: Names of the kinds of samples.
GRAY8, GRAY16, BGR24, BGR48 = 0, 1, 3, 4
PLAIN, JPEG_XR, ZSTD = 0, 4, 5
#: How JPEG XR names 24 bits of red, green and blue, and of blue, green and red.
_RGB24, _BGR24 = (bytes.fromhex("24c3dd6f034efe4bb1853d77768dc9" + last) for last in ("0d", "0c"))
_COMPRESSED: Mapping[int, Callable[[Pixels], bytes]] = {
    PLAIN: lambda pixels: pixels.tobytes(),
    # Without loss; what is stored is the same, only the order of what is decoded is another.
    JPEG_XR: lambda pixels: imagecodecs.jpegxr_encode(_swapped(pixels), level=1.0).replace(_RGB24, _BGR24),
    ZSTD: lambda pixels: imagecodecs.zstd_encode(pixels.tobytes()),
}


@dataclass(frozen=True)
class Tile:
    """A subblock.

    Attributes
    ----------
    pixels
        RGB of shape (rows, columns, 3), or gray.
    x, y
        Of its corner, in the file's level-0 pixels; they may be negative.
    downsample
        Level-0 pixels along one of its pixels.
    """

    pixels: npt.NDArray[np.generic]
    x: int
    y: int
    downsample: int = 1
    scene: int | None = None
    more: Mapping[str, int] = field(default_factory=dict)
    compression: int = PLAIN


def tiles_of(
    picture: Pixels, side: int, *, corner: tuple[int, int] = (0, 0), downsample: int = 1, **more: object
) -> Iterator[Tile]:
    """Yield the tiles of a picture whose corner lies at ``corner``, in level-0 pixels."""
    for y in range(0, picture.shape[0], side):
        for x in range(0, picture.shape[1], side):
            yield Tile(
                picture[y : y + side, x : x + side],
                corner[0] + x * downsample,
                corner[1] + y * downsample,
                downsample,
                **more,  # type: ignore[arg-type]
            )


def halved(picture: Pixels, times: int = 1, step: int = 2) -> Pixels:
    """Return a picture whose pixels are means of ``step`` x ``step``; its sides are multiples of that."""
    for _ in range(times):
        boxes = picture.reshape(picture.shape[0] // step, step, picture.shape[1] // step, step, 3)
        picture = boxes.mean(axis=(1, 3)).round().astype(np.uint8)
    return picture


def metadata(tiles: Sequence[Tile] = (), *, mpp: float | None = 0.25, magnification: float | None = 20) -> str:
    """Return the XML that a scanner writes."""
    left, top = (min((getattr(tile, axis) for tile in tiles), default=0) for axis in "xy")
    right = max((tile.x + tile.pixels.shape[1] * tile.downsample for tile in tiles), default=0)
    bottom = max((tile.y + tile.pixels.shape[0] * tile.downsample for tile in tiles), default=0)
    scenes = len({tile.scene for tile in tiles})
    sizes = f"<SizeX>{right - left}</SizeX><SizeY>{bottom - top}</SizeY><SizeS>{scenes}</SizeS>"
    scaling = "".join(
        f'<Distance Id="{axis}"><Value>{mpp * 1e-6:.8g}</Value><DefaultUnitFormat>µm</DefaultUnitFormat></Distance>'
        for axis in ("XY" if mpp is not None else "")
    )
    lenses = "".join(
        f'<Objective Id="Objective:{number}"><NominalMagnification>{power}</NominalMagnification></Objective>'
        for number, power in enumerate([5, magnification])
        if power is not None
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><ImageDocument><Metadata><Information>'
        f'<Image>{sizes}<ObjectiveSettings><ObjectiveRef Id="Objective:1"/></ObjectiveSettings></Image>'
        f"<Instrument><Objectives>{lenses}</Objectives></Instrument></Information>"
        f"<Scaling><Items>{scaling}</Items></Scaling></Metadata></ImageDocument>"
    )


def write_czi(
    path: Path,
    tiles: Sequence[Tile],
    *,
    xml: str | None = None,
    attachments: Mapping[str, tuple[str, bytes]] | None = None,
) -> Path:
    """Write a file.

    Parameters
    ----------
    path
        To write.
    tiles
        Of all levels and scenes.
    xml
        Its metadata; none where it is empty.
    attachments
        By name: the kind (CZI or JPG) and the content of a file that lies in it.
    """
    path.write_bytes(czi_bytes(tiles, xml=metadata(tiles) if xml is None else xml, attachments=attachments or {}))
    return path


def czi_bytes(
    tiles: Sequence[Tile], *, xml: str = "", attachments: Mapping[str, tuple[str, bytes]] | None = None
) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    file.write(bytes(32 + 512))
    entries = []
    for number, tile in enumerate(tiles):
        entries.append(_subblock(file, tile, number))
    directory = _segment(file, b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    described = 0
    if xml:
        text = xml.encode()
        described = _segment(file, b"ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    listed = _attachments(file, attachments or {})
    number = uuid.UUID(int=7).bytes_le
    header = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, number, number, 0, directory, described, 0, listed)
    file.seek(0)
    file.write(struct.pack("<16sqq", b"ZISRAWFILE", 512, 512) + header.ljust(512, b"\0"))
    return file.getvalue()


def _segment(file: io.BytesIO, name: bytes, data: bytes) -> int:
    """Append a segment; return where it begins."""
    at = file.seek(0, io.SEEK_END)
    room = -(-len(data) // 32) * 32
    file.write(struct.pack("<16sqq", name, room, len(data)) + data.ljust(room, b"\0"))
    return at


def _subblock(file: io.BytesIO, tile: Tile, number: int) -> bytes:
    """Append a subblock; return its entry of the directory."""
    pixels = tile.pixels
    kinds = {(2, 1): GRAY8, (2, 2): GRAY16, (3, 1): BGR24, (3, 2): BGR48}
    kind = kinds[pixels.ndim, pixels.dtype.itemsize]
    rows, columns = pixels.shape[:2]
    stored = _swapped(pixels) if pixels.ndim == 3 else np.ascontiguousarray(pixels)
    data = _COMPRESSED[tile.compression](stored)  # type: ignore[arg-type]
    at = file.seek(0, io.SEEK_END)
    sizes = [("X", tile.x, columns * tile.downsample, columns), ("Y", tile.y, rows * tile.downsample, rows)]
    sizes += [("C", 0, 1, 1), *((name, start, 1, 1) for name, start in tile.more.items())]
    sizes += [] if tile.scene is None else [("S", tile.scene, 1, 1)]
    sizes += [("M", number, 1, 1)] if tile.downsample == 1 else []
    seen = {name: (name, *rest) for name, *rest in sizes}
    dimensions = b"".join(
        struct.pack("<4siifi", name.encode(), start, size, 0.0, stored_size)
        for name, start, size, stored_size in seen.values()
    )
    pyramid = 0 if tile.downsample == 1 else 2
    entry = struct.pack("<2siqiiB5xi", b"DV", kind, at, 0, tile.compression, pyramid, len(seen)) + dimensions
    head = struct.pack("<iiq", 0, 0, len(data)) + entry
    _segment(file, b"ZISRAWSUBBLOCK", head.ljust(max(256, len(head)), b"\0") + data)
    return entry


def _attachments(file: io.BytesIO, attachments: Mapping[str, tuple[str, bytes]]) -> int:
    entries = []
    for name, (kind, data) in attachments.items():
        at = file.seek(0, io.SEEK_END)
        number = uuid.uuid5(uuid.NAMESPACE_OID, name).bytes_le
        entry = struct.pack("<2s10xqi16s8s80s", b"A1", at, 0, number, kind.encode(), name.encode())
        head = struct.pack("<i12x", len(data)) + entry
        _segment(file, b"ZISRAWATTACH", head.ljust(256, b"\0") + data)
        entries.append(entry)
    return _segment(file, b"ZISRAWATTDIR", struct.pack("<i252x", len(entries)) + b"".join(entries))


def _swapped(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.ascontiguousarray(pixels[..., ::-1])
