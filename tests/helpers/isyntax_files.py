"""iSyntax files byte by byte, whose pixels are all in the low band of their coarsest level: smooth pictures."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_PX", "LEVELS", "PADDING_PX", "low_band_shape", "write_isyntax"]

#: Sides of a block of coefficients; a tile of pixels is made of four bands, and twice as large.
BLOCK_PX = 128
LEVELS = 3
#: Level-0 pixels around the slide, which wavelets reach over.
PADDING_PX = (3 << LEVELS) - 3
_EMPTY_BLOCK = bytes(8)
_CHUNK_PX = BLOCK_PX << LEVELS


def low_band_shape(width: int, height: int) -> tuple[int, int]:
    """Return the rows and columns of the low band of a slide of so many pixels."""
    chunks = (-(-(side + 2 * PADDING_PX) // _CHUNK_PX) for side in (height, width))
    rows, columns = (count * BLOCK_PX for count in chunks)
    return rows, columns


def write_isyntax(
    path: Path,
    width: int,
    height: int,
    low_band: npt.NDArray[np.uint8],
    *,
    mpp: float | None = 0.25,
    label: npt.NDArray[np.uint8] | None = None,
) -> Path:
    """Write a gray slide.

    Parameters
    ----------
    path
        To write.
    width, height
        Of level 0.
    low_band
        Its pixels at an eighth of the size, of shape :func:`low_band_shape`: padding included.
    mpp
        µm per pixel; none is stated where it is ``None``.
    label
        Its label.
    """
    down, across = (side // BLOCK_PX for side in low_band.shape)
    grid = across << (LEVELS - 1), down << (LEVELS - 1)
    counts = [(grid[0] >> scale) * (grid[1] >> scale) for scale in range(LEVELS)]
    per_colour = sum(counts) + counts[-1]
    headers, blocks = [], []
    for row in range(down):
        for column in range(across):
            square = low_band[row * BLOCK_PX : (row + 1) * BLOCK_PX, column * BLOCK_PX : (column + 1) * BLOCK_PX]
            for colour in range(3):
                for scale, x, y, is_low in _blocks_of(column, row):
                    stride = grid[0] >> scale
                    number = sum(counts[: scale + is_low]) + y * stride + x + colour * per_colour
                    headers.append(_block_header(scale, x, y, colour, is_low))
                    blocks.append((number, _packed(square) if is_low and colour == 0 else _EMPTY_BLOCK))
    xml = _xml(width, height, b"".join(headers), mpp, label).encode()
    begins = len(xml) + 3
    entries = dict(blocks)
    at = begins + 8 + 40 * 3 * per_colour
    table, content = [], []
    for number in range(3 * per_colour):
        data = entries.get(number)
        table.append(_seek_entry(at if data is not None else 0, len(data or b"")))
        content.append(data or b"")
        at += len(data or b"")
    seek = struct.pack("<HHI", 0x301D, 0x2015, 40 * 3 * per_colour) + b"".join(table)
    path.write_bytes(xml + b"\r\n\x04" + seek + b"".join(content))
    return path


def _blocks_of(column: int, row: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yield scale, column, row and band of the blocks of a chunk, from the coarsest on, the low band last."""
    for depth in range(LEVELS):
        for y in range(1 << depth):
            for x in range(1 << depth):
                yield LEVELS - 1 - depth, (column << depth) + x, (row << depth) + y, False
    yield LEVELS - 1, column, row, True


def _block_header(scale: int, x: int, y: int, colour: int, is_low: bool) -> bytes:
    shift = (3 << scale) - 2 + (is_low << scale)
    left, top = ((side * 2 * BLOCK_PX << scale) + shift for side in (x, y))
    place = struct.pack("<HHI5I", 0x301D, 0x200E, 20, left, top, colour, scale, 0 if is_low else 1)
    return struct.pack("<HHI", 0xFFFE, 0xE000, 40) + place + struct.pack("<HHII", 0x301D, 0x2012, 4, 0)


def _seek_entry(at: int, size: int) -> bytes:
    return (
        struct.pack("<HHI", 0xFFFE, 0xE000, 32)
        + struct.pack("<HHIQ", 0x301D, 0x2010, 8, at)
        + struct.pack("<HHIQ", 0x301D, 0x2011, 8, size)
    )


def _packed(square: npt.NDArray[np.uint8]) -> bytes:
    """Return a block of coefficients, as the first version of the compressor packs it."""
    areas = square.reshape(BLOCK_PX // 4, 4, BLOCK_PX // 4, 4).swapaxes(1, 2).reshape(-1).astype(np.uint16)
    planes = [np.zeros(areas.size // 8, np.uint8)]  # signs
    planes += [np.packbits((areas >> bit & 1).astype(np.uint8), bitorder="little") for bit in range(15)]
    data = np.concatenate(planes).tobytes()
    bits: list[int] = []
    # A tree in which all bytes have codes of eight bits: its own value, the first bit first.
    for symbol in range(256):
        depth = 8 if symbol == 0 else (symbol & -symbol).bit_length() - 1
        bits += [0] * depth + [1] + [symbol >> bit & 1 for bit in range(8)]
    position = 0
    while position < len(data):
        value = data[position]
        bits += [value >> bit & 1 for bit in range(7, -1, -1)]
        position += 1
        if value == 0:
            run = 1
            while position < len(data) and data[position] == 0:
                run, position = run + 1, position + 1
            digits = run.to_bytes((run.bit_length() + 7) // 8, "big")
            for number, digit in enumerate(digits):
                # Of a long run, each further digit has the symbol before it.
                bits += [0] * 8 if number else []
                bits += [digit >> bit & 1 for bit in range(8)]
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    return struct.pack("<IBB", len(data), 0, 8) + packed + bytes(8)


def _xml(width: int, height: int, headers: bytes, mpp: float | None, label: npt.NDArray[np.uint8] | None) -> str:
    table = base64.b64encode(struct.pack("<I", len(headers)) + headers).decode()
    scale = [] if mpp is None else [_attribute(0x2007, f"{mpp}")]
    ends = [width + 2 * PADDING_PX - 1, height + 2 * PADDING_PX - 1, 2, LEVELS - 1, 3]
    general = (
        _attribute(0x2001, str(len(headers) // 48))
        + _objects(0x2003, [f"{_attribute(0x2004, name)}{''.join(scale) if name in 'xy' else ''}" for name in "xycsw"])
        + _objects(0x200A, [_attribute(0x200B, f"0 1 {end}") for end in ends])
    )
    template = _objects(0x200A, [_attribute(0x200B, f"0 1 {end}") for end in (BLOCK_PX - 1, BLOCK_PX - 1, 0, 0, 0)])
    slide = (
        _attribute(0x1004, "WSI")
        + _objects(0x2000, [general])
        + _objects(0x2009, [template])
        + _attribute(0x200F, "16")
        + _attribute(0x2014, table)
    )
    images = [slide]
    if label is not None:
        jpeg = base64.b64encode(imagecodecs.jpeg_encode(label, level=95)).decode()
        images.append(_attribute(0x1004, "LABELIMAGE") + _attribute(0x1005, jpeg))
    content = _attribute(0x1001, "5.0") + _objects(0x1003, images, "DPScannedImage")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<DataObject ObjectType="DPUfsImport">\n{content}</DataObject>'


def _attribute(element: int, text: str, kind: str = "IString") -> str:
    return f'<Attribute Name="{element:x}" Group="0x301D" Element="0x{element:04X}" PMSVR="{kind}">{text}</Attribute>\n'


def _objects(element: int, contents: list[str], kind: str = "UFSImage") -> str:
    inside = "".join(f'<DataObject ObjectType="{kind}">\n{content}</DataObject>\n' for content in contents)
    # The library learns what an attribute is called from the first letter of its content.
    return _attribute(element, f"\n<Array>\n{inside}</Array>\n", "IDataObjectArray")
