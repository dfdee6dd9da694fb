"""Draws upon pictures of tissue: thin smooth lines, labels, hatching, a scale bar with a legend.

Pictures are uint8 of shape (rows, columns, 3); every function returns a new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "HATCH_LABEL",
    "Label",
    "Legend",
    "as_jpeg",
    "draw_labels",
    "draw_lines",
    "draw_rings",
    "hatch",
    "nice_length",
    "scale_text",
    "with_footer",
    "with_scale_bar",
    "without_footer",
]

Picture = npt.NDArray[np.uint8]
RGB = tuple[int, int, int]
#: Corners (x, y) in pixels of the picture, (n, 2).
Line = npt.NDArray[np.float64]

HATCH_LABEL = "Tissue not scanned"

#: Lines are drawn so many times as large and averaged: smooth at every angle.
_FINER = 2
_WHITE, _BLACK, _GREY = (255, 255, 255), (30, 30, 30), (95, 95, 95)
#: A veil of white over what was not scanned, and grey lines upon it.
_VEIL, _HATCH_OPACITY, _HATCH_STEP, _HATCH_WIDTH = 0.45, 0.6, 14, 2
#: How much white or black stands on either side of a line, and how much of it covers; black beside light colours.
_HALO_PX, _HALO_OPACITY, _LIGHT = 1.0, 0.6, 400
_FONT_PX, _LABEL_PX, _MARGIN_PX = 20, 26, 14
_FOOTER_PX = _FONT_PX + 2 * _MARGIN_PX
#: 1, 2 and 5 of a power of ten: what scale bars are long.
_STEPS = (1.0, 2.0, 5.0)
_QUALITIES = (84, 70, 50, 25, 10)


@dataclass(frozen=True, slots=True)
class Label:
    """A short text above a place (x, y), in pixels of the picture."""

    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Legend:
    """What a colour means; without one, what the hatching means."""

    text: str
    rgb: RGB | None = None


def _font(size: int = _FONT_PX) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def draw_lines(picture: Picture, lines: Iterable[Line], *, rgb: RGB, width_px: float) -> Picture:
    """Draw lines of one colour, with a little white or black beside them, so that they are seen on any tissue."""
    lines = [line for line in lines if len(line) > 1]
    if not lines:
        return picture.copy()
    box = _box(picture, lines, margin=math.ceil(width_px + _HALO_PX) + 1)
    rows, columns = box
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height <= 0 or width <= 0:
        return picture.copy()
    result = picture.copy()
    part: npt.NDArray[np.floating] = result[box].astype(np.float32)
    halo = _BLACK if sum(rgb) > _LIGHT else _WHITE
    for colour, opacity, wide in ((halo, _HALO_OPACITY, width_px + 2 * _HALO_PX), (rgb, 1.0, width_px)):
        mask = Image.new("L", (width * _FINER, height * _FINER))
        pen = ImageDraw.Draw(mask)
        for line in lines:
            corners = (line - (columns.start, rows.start)) * _FINER
            pen.line([*map(tuple, corners.tolist())], fill=255, width=max(1, round(wide * _FINER)))
        cover = np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32)[..., None] / 255 * opacity
        part = part * (1 - cover) + np.asarray(colour, np.float32) * cover
    result[box] = (part + 0.5).astype(np.uint8)
    return result


def draw_rings(picture: Picture, centers: Iterable[tuple[float, float]], *, radius_px: float, rgb: RGB) -> Picture:
    """Draw circles around what is too small to be seen."""
    turn = np.linspace(0, 2 * np.pi, 17)
    ring = radius_px * np.column_stack((np.cos(turn), np.sin(turn)))
    return draw_lines(picture, [ring + center for center in centers], rgb=rgb, width_px=2)


def _box(picture: Picture, lines: Sequence[Line], *, margin: int) -> tuple[slice, slice]:
    """Return the part of a picture that lines touch."""
    corners = np.concatenate(lines)
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, (picture.shape[1], picture.shape[0]))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def draw_labels(picture: Picture, labels: Iterable[Label]) -> Picture:
    """Write labels, in their order; one that would cover an earlier one is left out."""
    image = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(image), _font(_LABEL_PX)
    taken: list[tuple[float, float, float, float]] = []
    for label in labels:
        left, top, right, bottom = pen.textbbox((0, 0), label.text, font=font, stroke_width=3)
        width, height = right - left, bottom - top
        x = min(max(label.x - width / 2, 0), max(0, image.width - width))
        y = min(max(label.y - height, 0), max(0, image.height - height))
        box = (x, y, x + width, y + height)
        if any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken):
            continue
        taken.append(box)
        pen.text((x - left, y - top), label.text, font=font, fill=_BLACK, stroke_width=3, stroke_fill=_WHITE)
    return np.asarray(image)


def hatch(picture: Picture, mask: npt.NDArray[np.bool_]) -> Picture:
    """Lay a light veil with slanting lines over part of a picture.

    Parameters
    ----------
    picture
        The picture.
    mask
        bool, (rows, columns): where.
    """
    rows, columns = np.nonzero(mask)
    result = picture.copy()
    values = picture[rows, columns].astype(np.float32) * (1 - _VEIL) + 255 * _VEIL
    lines = (rows + columns) % _HATCH_STEP < _HATCH_WIDTH
    values[lines] = values[lines] * (1 - _HATCH_OPACITY) + np.asarray(_GREY, np.float32) * _HATCH_OPACITY
    result[rows, columns] = (values + 0.5).astype(np.uint8)
    return result


def nice_length(um: float) -> float:
    """Return the longest length of 1, 2 or 5 times a power of ten that is no longer, in µm."""
    power = 10.0 ** math.floor(math.log10(um))
    return max(step * power for step in _STEPS if step * power <= um * (1 + 1e-9))


def scale_text(um: float) -> str:
    """Return a length for a person: in mm, since Pillow's own letters lack the µ."""
    return f"{um / 1000:g} mm"


def with_footer(picture: Picture, *, um_per_px: float, legend: Iterable[Legend]) -> Picture:
    """Return a picture with a scale bar and a legend below it, so that they cover no tissue.

    Parameters
    ----------
    picture
        The picture; its own pixels stay where they are.
    um_per_px
        Its pixel size.
    legend
        What colours and hatching mean.
    """
    font, high = _font(), _FOOTER_PX
    length_um = nice_length(max(picture.shape[1], 4 * high) * um_per_px / 5)
    entries = [(entry, round(font.getlength(entry.text))) for entry in legend]
    bar_px = round(length_um / um_per_px)
    bar_room = bar_px + round(font.getlength(scale_text(length_um))) + 4 * _MARGIN_PX
    wide = bar_room + sum(width + 50 for _, width in entries)
    canvas = Image.new("RGB", (max(picture.shape[1], wide), picture.shape[0] + high), _WHITE)
    canvas.paste(Image.fromarray(picture), (0, 0))
    pen, middle = ImageDraw.Draw(canvas), picture.shape[0] + high // 2
    _bar(pen, _MARGIN_PX, middle, bar_px, _BLACK)
    pen.text((bar_px + 2 * _MARGIN_PX, middle), scale_text(length_um), font=font, fill=_BLACK, anchor="lm")
    x = bar_room
    for entry, width in entries:
        box = (x, middle - 8, x + 22, middle + 8)
        if entry.rgb is None:
            sample = np.full((17, 23, 3), 225, np.uint8)
            canvas.paste(Image.fromarray(hatch(sample, np.ones(sample.shape[:2], np.bool_))), box[:2])
            pen.rectangle(box, outline=_GREY)
        else:
            pen.rectangle(box, outline=entry.rgb, width=3)
        pen.text((x + 30, middle), entry.text, font=font, fill=_BLACK, anchor="lm")
        x += width + 50
    return np.asarray(canvas)


def without_footer(picture: Picture) -> Picture:
    """Return a picture of :func:`with_footer` without what stands below it."""
    return picture[:-_FOOTER_PX]


def with_scale_bar(picture: Picture, *, um_per_px: float) -> Picture:
    """Return a picture with a scale bar in its lower left corner."""
    length_um = nice_length(picture.shape[1] * um_per_px / 3)
    image, font = Image.fromarray(picture), _font(15)
    pen, wide = ImageDraw.Draw(image), round(length_um / um_per_px)
    y = image.height - 12
    pen.rectangle((6, y - 24, max(wide, 60) + 18, y + 8), fill=_WHITE)
    _bar(pen, 12, y, wide, _BLACK)
    pen.text((12, y - 5), scale_text(length_um), font=font, fill=_BLACK, anchor="ls")
    return np.asarray(image)


def _bar(pen: ImageDraw.ImageDraw, x: int, y: int, wide: int, rgb: RGB) -> None:
    pen.line((x, y, x + wide, y), fill=rgb, width=3)
    for end in (x, x + wide):
        pen.line((end, y - 5, end, y + 5), fill=rgb, width=2)


def as_jpeg(picture: Picture, *, most_bytes: int) -> bytes:
    """Return a picture as JPEG, in which thin coloured lines keep their colours.

    Parameters
    ----------
    picture
        The picture.
    most_bytes
        What it may take: noise, which does not compress, loses quality first.
    """
    whole = np.ascontiguousarray(picture)
    data = b""
    for quality in _QUALITIES:
        # Colours at full resolution: halved, as usual, thin lines turn grey.
        data = bytes(imagecodecs.jpeg8_encode(whole, level=quality, subsampling="444"))
        if len(data) <= most_bytes:
            break
    return data
