"""Something to learn: a slide with two textures, and a detector that takes the one for tumour and misses the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
import torch

from napari_metastasis.annotations import Correction
from napari_metastasis.geometry import HeatmapFrame, Point, Size
from napari_metastasis.models import load_detector, save_model
from napari_metastasis.slides import write_pyramid

__all__ = ["DOTTED", "MPP", "PLAIN", "correction", "mean_at", "misled_model", "two_textures_slide"]

MPP = 0.972
_RADIUS_PX, _STEP_PX, _FIRST_PX, _ALONG, _ROWS = 80, 380, 140, 4, 4
_PALE, _DARK = np.array([233.0, 214.0, 226.0]), np.array([78.0, 40.0, 110.0])
_NUCLEUS, _STROMA = np.array([60.0, 40.0, 120.0]), np.array([225.0, 150.0, 200.0])
#: What makes the dotted discs probable: log-odds.
_MISLED_BY = 2.0


@dataclass(frozen=True)
class Disc:
    """A disc on the slide, in level-0 pixels."""

    x: float
    y: float
    dotted: bool


_DISCS = tuple(
    Disc(_FIRST_PX + _STEP_PX * column, _FIRST_PX + _STEP_PX * row, dotted=(row + column) % 2 == 1)
    for row in range(_ROWS)
    for column in range(_ALONG)
)
#: Discs that the misled model takes for tumour, and those that it misses.
DOTTED = tuple(one for one in _DISCS if one.dotted)
PLAIN = tuple(one for one in _DISCS if not one.dotted)


def two_textures_slide(path: Path) -> Path:
    """Write the slide, and return its path."""
    side = _FIRST_PX * 2 + _STEP_PX * (_ALONG - 1)
    pixels = _PALE + np.random.default_rng(3).normal(0, 2, (side, side, 1))
    y, x = np.ogrid[:side, :side]
    dots = (((x % 14 - 7) ** 2 + (y % 14 - 7) ** 2) < 16)[..., None]
    for disc in _DISCS:
        inside = np.hypot(x + 0.5 - disc.x, y + 0.5 - disc.y) < _RADIUS_PX
        texture = np.where(dots, _NUCLEUS, _STROMA) if disc.dotted else np.broadcast_to(_DARK, pixels.shape)
        pixels[inside] = texture[inside]
    write_pyramid(path, np.rint(pixels).clip(0, 255).astype(np.uint8), mpp=MPP, size=Size(side, side))
    return path


def misled_model(path: Path) -> Path:
    """Write the quick shipped detector, too ready to say tumour, and return where its weights lie."""
    detector = load_detector("scannet-pcam")
    state = detector.network.state_dict()
    with torch.no_grad():
        state[[name for name in state if name.endswith("bias")][-1]][detector.spec.tumour_class] += _MISLED_BY
    save_model(path, detector.network, dataclasses.replace(detector.spec, name=path.stem), {"data": "none"})
    return path


def correction(disc: Disc) -> Correction:
    """Return what a person draws: a disc, and what it is."""
    shape = shapely.Point(disc.x, disc.y).buffer(_RADIUS_PX - 10)
    return Correction(key=Correction.new_key(), label="normal" if disc.dotted else "tumour", shape_px=shape)


def mean_at(probabilities: np.ndarray, frame: HeatmapFrame, discs: Iterable[Disc]) -> float:
    """Return the mean of a map over the middles of discs."""
    means = []
    for disc in discs:
        cell = frame.cell_at(Point(disc.x, disc.y))
        row, column = round(cell.y), round(cell.x)
        means.append(probabilities[row - 3 : row + 4, column - 3 : column + 4].mean())
    return float(np.mean(means))
