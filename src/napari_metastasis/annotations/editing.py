"""Change areas as a person draws: paint, erase, split, join and fill.

An area is a polygon or several, in level-0 pixels; it may cross itself, as outlines drawn by hand do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from numpy.typing import ArrayLike

__all__ = ["area_in", "area_of_lasso", "erased", "filled", "joined", "painted", "split", "stroke"]

#: Corners of a round end, for a quarter of a turn.
_QUARTER = 8
#: A corner may be left out where that moves the border by no more than this share of the brush.
_COARSE = 0.01


def stroke(points_px: ArrayLike, radius_px: float) -> shapely.Geometry:
    """Return what a round brush covers on its way.

    Parameters
    ----------
    points_px
        (n, 2) places (x, y) of its middle; one is enough.
    radius_px
        Its radius.
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    way = shapely.Point(points[0]) if len(points) == 1 else shapely.LineString(points)
    return _area(way.buffer(radius_px, quad_segs=_QUARTER).simplify(_COARSE * radius_px))


def area_of_lasso(points_px: ArrayLike) -> shapely.Geometry | None:
    """Return what a closed line encloses, by the even-odd rule; ``None`` where that is nothing.

    Parameters
    ----------
    points_px
        (n, 2) corners (x, y).
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    if len(np.unique(points, axis=0)) < 3:
        return None
    return area_in(shapely.make_valid(shapely.Polygon(points)))


def painted(area: shapely.Geometry, more: shapely.Geometry) -> shapely.Geometry:
    """Return an area with more."""
    return _area(_sound(area).union(more))


def erased(area: shapely.Geometry, less: shapely.Geometry) -> shapely.Geometry | None:
    """Return an area without another; ``None`` where nothing is left."""
    return area_in(_sound(area).difference(less))


def joined(areas: Iterable[shapely.Geometry]) -> shapely.Geometry:
    """Return areas as one, of several parts where they lie apart."""
    return _area(shapely.union_all([_sound(one) for one in areas]))


def filled(area: shapely.Geometry) -> shapely.Geometry:
    """Return an area without its holes."""
    return joined(shapely.Polygon(part.exterior) for part in shapely.get_parts(area))


def split(area: shapely.Geometry, line_px: ArrayLike) -> tuple[shapely.Geometry, ...]:
    """Return the pieces that a line cuts an area into, the largest first; the area itself where it cuts nothing off.

    Parameters
    ----------
    line_px
        (n, 2) places (x, y) on the line.
    """
    pieces: list[shapely.Polygon] = []
    line = shapely.LineString(np.asarray(line_px, np.float64).reshape(-1, 2))
    for part in shapely.get_parts(_sound(area)):
        borders = shapely.union_all([part.boundary, line])
        cut = shapely.get_parts(shapely.polygonize(shapely.get_parts(borders))).tolist()
        pieces += [piece for piece in cut if part.covers(piece.representative_point())] or [part]
    return tuple(sorted(pieces, key=lambda piece: -piece.area))


def _sound(area: shapely.Geometry) -> shapely.Geometry:
    """Return an area that can be compared: outlines drawn by hand cross themselves."""
    return area if area.is_valid else _area(shapely.make_valid(area))


def area_in(geometry: shapely.Geometry) -> shapely.Geometry | None:
    """Return what of a geometry is an area: no lines, no points; ``None`` where nothing is."""
    parts: Sequence[shapely.Geometry] = shapely.get_parts(geometry).tolist()
    # Made valid or cut, a polygon may leave lines and points behind, in a collection of collections.
    flat = [each for part in parts for each in shapely.get_parts(part).tolist()]
    areas = [each for each in flat if isinstance(each, shapely.Polygon) and each.area > 0]
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)


def _area(geometry: shapely.Geometry) -> shapely.Geometry:
    found = area_in(geometry)
    assert found is not None, "a union of areas is an area"
    return found
