"""The square of a slide that is drawn in one go: where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.synthetic._noise import Floats, upsampled

__all__ = ["Box", "Window"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in µm."""

    x: float
    y: float
    width: float
    height: float

    def grown(self, margin: float) -> Box:
        """Return the box with a margin on every side."""
        return Box(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A square of pixels, and the coarse grid over it that slow fields are worked out on.

    Attributes
    ----------
    x, y
        Its first pixel on the slide; both even.
    side, mpp
        Pixels along a side, and µm of each.
    step
        Pixels between the corners of the coarse grid.
    coarse_x, coarse_y
        float32 locations of these corners in µm.
    """

    x: int
    y: int
    side: int
    mpp: float
    step: int
    coarse_x: Floats
    coarse_y: Floats

    @classmethod
    def of(cls, x: int, y: int, *, side: int, mpp: float, step: int) -> Window:
        """Return the window whose first pixel is (x, y)."""
        coarse = np.arange(0, side + step, step)
        coarse_x, coarse_y = np.meshgrid(
            ((coarse + x) * mpp).astype(np.float32), ((coarse + y) * mpp).astype(np.float32)
        )
        return cls(x, y, side, mpp, step, coarse_x, coarse_y)

    @property
    def box(self) -> Box:
        """Return where it lies in µm."""
        return Box(self.x * self.mpp, self.y * self.mpp, self.side * self.mpp, self.side * self.mpp)

    def full(self, coarse: Floats) -> Floats:
        """Return a field of the coarse grid at every pixel."""
        return upsampled(coarse, self.step)

    def reaches(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
        """Return whether the rectangle from ``low`` to ``high`` in µm touches the window."""
        return bool(
            low[0] < self.coarse_x.max()
            and high[0] > self.coarse_x.min()
            and low[1] < self.coarse_y.max()
            and high[1] > self.coarse_y.min()
        )
