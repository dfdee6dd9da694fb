"""Change areas as a person draws: paint, erase, split, join and fill.

An area is a polygon or several, in level-0 pixels; it may cross itself, as outlines drawn by hand do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from numpy.typing import ArrayLike

from napari_metastasis.errors import AnnotationError

__all__ = ["area_in", "area_of_lasso", "erased", "filled", "joined", "painted", "split", "stroke"]

#: Corners of a round end, for a quarter of a turn.
_QUARTER = 8
#: A corner may be left out where that moves the border by no more than this share of the brush.
_COARSE = 0.01


def stroke(points_px: ArrayLike, radius_px: float) -> shapely.Geometry | None:
    """Return what a round brush covers on its way; ``None`` where it went nowhere, or is no wider than a point.

    Parameters
    ----------
    points_px
        (n, 2) places (x, y) of its middle; one is enough.
    radius_px
        Its radius.
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points) or not radius_px > 0:
        return None
    way = shapely.Point(points[0]) if len(points) == 1 else shapely.LineString(points)
    return area_in(way.buffer(radius_px, quad_segs=_QUARTER).simplify(_COARSE * radius_px))


def area_of_lasso(points_px: ArrayLike) -> shapely.Geometry | None:
    """Return what a closed line encloses, by the even-odd rule; ``None`` where that is nothing.

    Parameters
    ----------
    points_px
        (n, 2) corners (x, y).
    """
    points = np.asarray(points_px, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(np.unique(points, axis=0)) < 3:
        return None
    return area_in(shapely.make_valid(shapely.Polygon(points)))


def painted(area: shapely.Geometry, more: shapely.Geometry | None) -> shapely.Geometry:
    """Return an area with more; the area itself where that is nothing."""
    return area if more is None else joined([area, more])


def erased(area: shapely.Geometry, less: shapely.Geometry | None) -> shapely.Geometry | None:
    """Return an area without another; ``None`` where nothing is left."""
    return area if less is None else area_in(_sound(area).difference(_sound(less)))


def joined(areas: Iterable[shapely.Geometry]) -> shapely.Geometry:
    """Return areas as one, of several parts where they lie apart.

    Raises
    ------
    AnnotationError
        If none of them covers anything.
    """
    found = area_in(shapely.union_all([_sound(one) for one in areas]))
    if found is None:
        raise AnnotationError("expected areas to join, got only points and lines; draw an area first")
    return found


def filled(area: shapely.Geometry) -> shapely.Geometry:
    """Return an area without its holes; what has none, as a point or a line, is returned as it is."""
    rings = [part.exterior for part in shapely.get_parts(area).tolist() if isinstance(part, shapely.Polygon)]
    return joined(map(shapely.Polygon, rings)) if area_in(area) is not None else area


def split(area: shapely.Geometry, line_px: ArrayLike) -> tuple[shapely.Geometry, ...]:
    """Return the pieces that a line cuts an area into, the largest first; the area itself where it cuts nothing off.

    Parameters
    ----------
    line_px
        (n, 2) places (x, y) on the line.
    """
    points = np.asarray(line_px, np.float64).reshape(-1, 2)
    if len(np.unique(points, axis=0)) < 2 or area_in(area) is None:
        return (area,)
    pieces: list[shapely.Polygon] = []
    line = shapely.LineString(points)
    for part in shapely.get_parts(_sound(area)):
        borders = shapely.union_all([part.boundary, line])
        cut = shapely.get_parts(shapely.polygonize(shapely.get_parts(borders))).tolist()
        pieces += [piece for piece in cut if part.covers(piece.representative_point())] or [part]
    return tuple(sorted(pieces, key=lambda piece: -piece.area))


def _sound(area: shapely.Geometry) -> shapely.Geometry:
    """Return an area that can be compared: outlines drawn by hand cross themselves. What covers nothing is empty."""
    if area.is_valid:
        return area
    return area_in(shapely.make_valid(area)) or shapely.Polygon()


def area_in(geometry: shapely.Geometry) -> shapely.Geometry | None:
    """Return what of a geometry is an area: no lines, no points; ``None`` where nothing is."""
    parts: Sequence[shapely.Geometry] = shapely.get_parts(geometry).tolist()
    # Made valid or cut, a polygon may leave lines and points behind, in a collection of collections.
    flat = [each for part in parts for each in shapely.get_parts(part).tolist()]
    areas = [each for each in flat if isinstance(each, shapely.Polygon) and each.area > 0]
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)
