"""What a synthetic slide is made of: plain values in µm from the corner of its first pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.synthetic._shapes import Blob

__all__ = ["Follicle", "Layout", "Metastasis", "Node", "Pattern", "Stroke", "Vessel"]

Pattern = Literal["solid", "nests", "cords", "glands"]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A lymph node: its outline, where its hilum is, and the trabeculae that run inwards.

    ``trabeculae`` is (n, 4): angle, length in µm, half width in µm, waviness in radians.
    """

    outline: Blob
    hilum: tuple[float, float]
    hilum_um: float
    trabeculae: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Follicle:
    """A lymphoid follicle.

    Attributes
    ----------
    outline
        Of all of it, its mantle included.
    center
        Share of its radius that is germinal centre, 0 for a primary follicle.
    light
        Direction in which its light zone lies, in radians: the mantle is thick there.
    """

    outline: Blob
    center: float
    light: float = 0.0


@dataclass(frozen=True, slots=True)
class Vessel:
    """A vessel cut across: its lumen's outline, the wall's thickness in µm, and whether blood fills it."""

    lumen: Blob
    wall_um: float
    blood: bool


@dataclass(frozen=True, slots=True)
class Metastasis:
    """A metastasis: its exact outline, how it grows, and how far its cells are from normal (0 to 1)."""

    name: str
    outline: Blob
    pattern: Pattern
    grade: float
    angle: float


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """A band along a line of (n, 2) points in µm: a pen mark, a fold, a tear or a blurred strip."""

    points: NDArray[np.float64]
    half_width_um: float
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything on a slide, in µm from the corner of its first pixel."""

    nodes: tuple[Node, ...]
    follicles: tuple[Follicle, ...]
    vessels: tuple[Vessel, ...]
    metastases: tuple[Metastasis, ...]
    pens: tuple[Stroke, ...]
    folds: tuple[Stroke, ...]
    tears: tuple[Stroke, ...]
    blurs: tuple[Blob, ...]
    dust: NDArray[np.float64]
