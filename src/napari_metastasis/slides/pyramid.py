"""Plan the levels that a slide shows, and the stored level that each is made from; no pixel is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_metastasis.geometry import Size

__all__ = ["PlannedLevel", "plan_pyramid", "snapped_downsamples"]

#: A gap between two stored levels is filled while a halving stays at least this factor from the coarser one.
_MIN_STEP = 1.4


@dataclass(frozen=True, slots=True)
class PlannedLevel:
    """One level of a completed pyramid.

    Attributes
    ----------
    size
        In level pixels.
    downsample
        Level-0 pixels along one side of a level pixel.
    source
        Index of the stored level that it is read from.
    ratio
        Pixels of that stored level along one side of a level pixel; 1 for the stored level itself.
    """

    size: Size
    downsample: float
    source: int
    ratio: int

    @property
    def stored(self) -> bool:
        """Return whether the level is stored in the file."""
        return self.ratio == 1


def snapped_downsamples(sizes: tuple[Size, ...]) -> tuple[float, ...]:
    """Return how many level-0 pixels lie along a pixel of each level.

    Writers cut or pad the last row and column, so that sizes divide to 2.0005 where pixels were averaged two by two.
    A quotient that differs from a whole number only by such rounding is therefore taken as that number.
    """
    full = sizes[0]
    found = []
    for size in sizes:
        ratio_x, ratio_y = full.width / size.width, full.height / size.height
        whole = round(math.sqrt(ratio_x * ratio_y))
        # Halving k times and cutting each time loses less than one level pixel in all; padding adds less than one.
        explained = all(
            abs(level * whole - slide) < 2 * whole
            for level, slide in ((size.width, full.width), (size.height, full.height))
        )
        found.append(float(whole) if explained and whole >= 1 else (ratio_x + ratio_y) / 2)
    return tuple(found)


def plan_pyramid(sizes: tuple[Size, ...], *, thumbnail_px: int) -> tuple[PlannedLevel, ...]:
    """Return the levels of a pyramid whose steps are about 2, down to one of at most ``thumbnail_px``.

    Parameters
    ----------
    sizes
        Of the stored levels, from the finest to the coarsest.
    thumbnail_px
        Longest side of the coarsest level.
    """
    downsamples = snapped_downsamples(sizes)
    planned: list[PlannedLevel] = []
    for index, (size, downsample) in enumerate(zip(sizes, downsamples, strict=True)):
        planned.append(PlannedLevel(size, downsample, index, 1))
        coarser = downsamples[index + 1] if index + 1 < len(sizes) else math.inf
        ratio = 2
        while downsample * ratio * _MIN_STEP <= coarser:
            halved = Size(math.ceil(size.width / ratio), math.ceil(size.height / ratio))
            last = planned[-1].size
            if math.isinf(coarser) and max(last.width, last.height) <= thumbnail_px:
                break
            planned.append(PlannedLevel(halved, downsample * ratio, index, ratio))
            ratio *= 2
    return tuple(planned)
