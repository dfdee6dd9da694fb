"""Where most points lie together: the densest circle or rectangle of a given area, found exactly.

Mitoses are counted in 2 mm² where they are densest, which a person looks for by eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_metastasis.geometry import Point
from napari_metastasis.settings import HotSpotSettings

__all__ = ["HotSpot", "hot_spot"]

Floats = NDArray[np.float64]
#: Points on the edge lie inside; of the radius, or of the sides, this much is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class HotSpot:
    """The densest area of a set of points.

    Attributes
    ----------
    center
        In level-0 pixels.
    width, height
        In level-0 pixels: of the rectangle, or twice the circle's radius.
    shape
        "circle" or "rectangle".
    area_mm2
        The area.
    count
        How many points lie in it, or on its edge.
    """

    center: Point
    width: float
    height: float
    shape: str
    area_mm2: float
    count: int

    @property
    def per_mm2(self) -> float:
        """Return the points in a mm² of it."""
        return self.count / self.area_mm2

    def holds(self, xy: Floats) -> NDArray[np.bool_]:
        """Return which points, (n, 2) as (x, y) in level-0 pixels, lie in it or on its edge: (n,) bool."""
        center = np.array((self.center.x, self.center.y))
        if self.shape == "circle":
            return _in_circle(xy, center, self.width / 2)
        half = np.array((self.width, self.height)) / 2 * (1 + _ROUNDING)
        return np.asarray((np.abs(xy - center) <= half).all(axis=1))

    @property
    def outline_px(self) -> shapely.Polygon:
        """Return its outline in level-0 pixels; of a circle a polygon of 64 corners on it."""
        if self.shape == "circle":
            around = shapely.Point(self.center.x, self.center.y).buffer(self.width / 2, quad_segs=16)
            assert isinstance(around, shapely.Polygon)
            return around
        x, y, half_width, half_height = self.center.x, self.center.y, self.width / 2, self.height / 2
        return shapely.box(x - half_width, y - half_height, x + half_width, y + half_height)


def hot_spot(xy: Floats, *, mpp: float, settings: HotSpotSettings) -> HotSpot | None:
    """Return the area that holds the most points; ``None`` where there are none.

    It may lie anywhere, also across the edge of the tissue. Of several that hold as many one is returned, the same for
    the same points.

    Parameters
    ----------
    xy
        (n, 2) float64, points as (x, y) in level-0 pixels.
    mpp
        Micrometres per level-0 pixel.
    settings
        Area and shape.
    """
    xy = np.asarray(xy, np.float64).reshape(-1, 2)
    if not len(xy):
        return None
    area_px = settings.area_mm2 * (1000 / mpp) ** 2
    if settings.shape == "circle":
        radius = math.sqrt(area_px / math.pi)
        width = height = 2 * radius
        center = _densest_circle(xy, radius)
    else:
        height = math.sqrt(area_px / settings.aspect)
        width = settings.aspect * height
        center = _densest_rectangle(xy, width, height)
    middle = Point(float(center[0]), float(center[1]))
    found = HotSpot(middle, width, height, settings.shape, settings.area_mm2, count=0)
    return replace(found, count=int(np.count_nonzero(found.holds(xy))))


def _in_circle(xy: Floats, center: Floats, radius: float) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(xy - center, axis=1) <= radius * (1 + _ROUNDING))


def _densest_circle(xy: Floats, radius: float) -> Floats:
    """Return the centre of a circle that holds the most points.

    A densest circle can be moved until one of its points lies on its edge, and turned around that until another one
    does: it is enough to turn a circle around each point, and to count where others come in.
    """
    tree = cKDTree(xy)
    # No circle with a point on its edge holds more than lies within its diameter: those that may hold most come first.
    diameter = 2 * radius * (1 + _ROUNDING)
    near = tree.query_ball_point(xy, diameter, return_length=True)
    most, best = 0, xy[0]
    for index in np.argsort(-near, kind="stable"):
        if near[index] <= most:
            break
        others = xy[tree.query_ball_point(xy[index], diameter)] - xy[index]
        distance = np.linalg.norm(others, axis=1)
        # Itself, and others in its place.
        always = int(np.count_nonzero(distance == 0))
        others, distance = others[distance > 0], distance[distance > 0]
        # The circle whose centre lies in direction φ holds a point in direction θ at distance d while
        # |φ - θ| <= arccos(d / 2r).
        reach = np.arccos(np.clip(distance / (2 * radius), 0, 1))
        comes = (np.arctan2(others[:, 1], others[:, 0]) - reach) % (2 * math.pi)
        goes = comes + 2 * reach
        in_order, leaving = np.sort(comes), np.sort(goes)
        count = np.arange(1, len(comes) + 1) - np.searchsorted(leaving, in_order - _ROUNDING)
        # Those that came in before the turn began, and are still there.
        count += len(comes) - np.searchsorted(leaving, in_order + 2 * math.pi - _ROUNDING)
        found = always + int(count.max(initial=0))
        if found > most:
            angle = in_order[count.argmax()] if len(count) else 0.0
            most, best = found, xy[index] + radius * np.array((math.cos(angle), math.sin(angle)))
    # In the middle of its points, where that loses none, it looks as a person would have drawn it.
    middle = xy[_in_circle(xy, best, radius)].mean(axis=0)
    return middle if np.count_nonzero(_in_circle(xy, middle, radius)) >= most else best


def _densest_rectangle(xy: Floats, width: float, height: float) -> Floats:
    """Return the centre of an upright rectangle that holds the most points.

    A densest one can be moved until one of its points lies on its left edge, and one on its upper edge.
    """
    xy = xy[np.argsort(xy[:, 0], kind="stable")]
    last = np.searchsorted(xy[:, 0], xy[:, 0] + width * (1 + _ROUNDING), side="right")
    columns = last - np.arange(len(xy))
    most, corner = 0, xy[0]
    for index in np.argsort(-columns, kind="stable"):
        if columns[index] <= most:
            break
        rows = np.sort(xy[index : last[index], 1])
        count = np.searchsorted(rows, rows + height * (1 + _ROUNDING), side="right") - np.arange(len(rows))
        if count.max() > most:
            most, corner = int(count.max()), np.array((xy[index, 0], rows[count.argmax()]))
    size = np.array((width, height))
    held = xy[((xy >= corner) & (xy <= corner + size * (1 + _ROUNDING))).all(axis=1)]
    # In the middle of its points.
    return np.asarray((held.min(axis=0) + held.max(axis=0)) / 2)
