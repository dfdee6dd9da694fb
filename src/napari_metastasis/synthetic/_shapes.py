"""Closed curves as radius over angle: outlines that are exact as polygons and as functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from napari_metastasis.synthetic._noise import Floats

__all__ = ["Blob"]

#: Angles that a curve is tabulated at; a chord of a 3 mm metastasis is 9 µm long and leaves the curve by under 0.1 µm.
_ANGLES = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A star-shaped area.

    Attributes
    ----------
    x, y
        Its middle, in µm.
    radius
        (1024,) float32 distance from the middle to the outline, by angle from -π, in µm.
    slope
        (1024,) float32 cosine of the angle between the outline's normal and the ray, to turn a distance along the ray
        into one across the outline.
    """

    x: float
    y: float
    radius: Floats
    slope: Floats

    @classmethod
    def from_radius(cls, x: float, y: float, radius: NDArray[np.float64]) -> Blob:
        """Return the area with this radius at 1024 angles from -π."""
        growth = (np.roll(radius, -1) - np.roll(radius, 1)) / (4 * np.pi / _ANGLES)
        return cls(x, y, radius.astype(np.float32), (1 / np.hypot(1, growth / radius)).astype(np.float32))

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        diameter: float,
        aspect: float,
        rough: float,
        lobes: int = 9,
        fall: float = 1.0,
    ) -> Blob:
        """Return an area around (0, 0) whose longest diameter is ``diameter`` µm.

        Parameters
        ----------
        rng
            Source of its shape and orientation.
        diameter
            In µm; met exactly.
        aspect
            Short over long axis of the ellipse that it varies on.
        rough
            How far it leaves the ellipse: 0 not at all, 0.3 much.
        lobes
            Highest harmonic of the outline.
        fall
            How fast harmonics weaken with their order: 1 for smooth lobes, less for a ragged outline.
        """
        angle = -np.pi + np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
        turned = angle - rng.uniform(0, 2 * np.pi)
        radius = aspect / np.hypot(aspect * np.cos(turned), np.sin(turned))
        for order in range(2, lobes + 1):
            radius *= 1 + rough / order**fall * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
        blob = cls.from_radius(0, 0, radius)
        return cls.from_radius(0, 0, radius * (diameter / pdist(blob.polygon()[::4]).max()))

    def moved(self, x: float, y: float) -> Blob:
        """Return the same shape around (x, y)."""
        return Blob(x, y, self.radius, self.slope)

    def polygon(self, corners: int = _ANGLES) -> NDArray[np.float64]:
        """Return (corners, 2) points (x, y) of the outline in µm; ``corners`` divides 1024."""
        step = _ANGLES // corners
        angle = -np.pi + np.arange(0, _ANGLES, step) * (2 * np.pi / _ANGLES)
        radius = self.radius[::step].astype(np.float64)
        return np.c_[self.x + radius * np.cos(angle), self.y + radius * np.sin(angle)]

    @property
    def reach(self) -> float:
        """Return the largest distance of the outline from the middle, in µm."""
        return float(self.radius.max())

    def depth(self, x: Floats, y: Floats) -> Floats:
        """Return how far (x, y) lies inside the outline in µm, negative outside; exact at the outline."""
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        place = (np.arctan2(dy, dx) + np.float32(np.pi)) * np.float32(_ANGLES / (2 * np.pi))
        index = place.astype(np.int32)
        share = place - index
        here, there = index & (_ANGLES - 1), (index + 1) & (_ANGLES - 1)
        radius = self.radius[here] * (1 - share) + self.radius[there] * share
        depth: Floats = (radius - np.hypot(dx, dy)) * self.slope[here]
        return depth

    def angle(self, x: Floats, y: Floats) -> Floats:
        """Return the direction from the middle to (x, y), in radians from -π to π."""
        angle: Floats = np.arctan2(y - np.float32(self.y), x - np.float32(self.x))
        return angle
