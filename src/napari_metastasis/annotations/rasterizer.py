"""What outlines cover, as a mask and as a geometry, by one rule: a pixel is set where its centre lies inside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.annotations.polygons import Annotation
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Point, Region, Size

__all__ = ["covered", "fill_edges", "rasterize"]


def rasterize(
    annotations: Iterable[Annotation], frame: LevelFrame | ModelFrame | HeatmapFrame, window: Size | Region
) -> NDArray[np.bool_]:
    """Return the mask of all areas together.

    Parameters
    ----------
    annotations
        Areas to draw; each is its exterior less its holes, and the mask is their union.
    frame
        The pixels or heatmap cells to draw on.
    window
        Which of them: a size counted from the slide's corner, or a region, which may reach past the slide.

    Returns
    -------
    mask
        (rows, columns) bool. A pixel whose centre lies exactly on an edge belongs to the area right of or below it, so
        that areas that share an edge share no pixel. An exterior that crosses itself follows the even-odd rule.
    """
    region = Region.of(window) if isinstance(window, Size) else window
    corner, step = _grid(frame)
    origin = np.array([corner.x + region.x * step, corner.y + region.y * step])
    mask = np.zeros(region.size.shape, dtype=bool)
    for annotation in annotations:
        exterior = (annotation.exterior - origin) / step
        part = _bounding(exterior, region.size)
        if part.is_empty:
            continue
        offset = (part.x, part.y)
        area = _fill(exterior - offset, part.size)
        for hole in annotation.holes:
            area &= ~_fill((hole - origin) / step - offset, part.size)
        mask[part.slices] |= area
    return mask


def covered(annotation: Annotation) -> shapely.Geometry:
    """Return an area as a valid geometry in level-0 pixels, to measure and to compare: what :func:`rasterize` draws."""
    if annotation.outline_px.is_valid:
        return annotation.outline_px
    holes = [_covered(hole) for hole in annotation.holes]
    return _covered(annotation.exterior).difference(shapely.union_all(holes))


def _covered(ring: NDArray[np.float64]) -> shapely.Geometry:
    """Return what a ring encloses by the even-odd rule; shapely's own repair has another where edges coincide."""
    faces = shapely.get_parts(shapely.polygonize([shapely.unary_union(shapely.LinearRing(ring))]))
    middles = shapely.get_coordinates(shapely.point_on_surface(faces))
    # The rule of the masks, asked of a pixel whose centre lies in the face.
    odd = [bool(_fill(ring - (middle - 0.5), Size(1, 1))[0, 0]) for middle in middles]
    return shapely.union_all(faces[odd])


def _grid(frame: LevelFrame | ModelFrame | HeatmapFrame) -> tuple[Point, float]:
    """Return the corner of pixel (0, 0) and the side of a pixel, in level-0 pixels."""
    if isinstance(frame, HeatmapFrame):
        return frame.cell_corner(0, 0), frame.cell_px
    return Point(0.0, 0.0), frame.downsample if isinstance(frame, LevelFrame) else frame.scale


def _bounding(ring: NDArray[np.float64], size: Size) -> Region:
    """Return the pixels that ``ring``, in pixels, can touch, cut to ``size``."""
    low = np.floor(ring.min(axis=0)).astype(int)
    high = np.ceil(ring.max(axis=0)).astype(int)
    found = Region(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    return found.intersection(Region.of(size))


def _fill(ring: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """Return the mask of ``ring``, in pixels from the corner of a window of ``size``."""
    return fill_edges(ring, np.roll(ring, -1, axis=0), size)


def fill_edges(start: NDArray[np.float64], end: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """Return the mask of a ring by its edges, of which those that pass above or below the window may be missing.

    Parameters
    ----------
    start, end
        (n, 2) ends of the edges, in pixels from the corner of the window.
    size
        Of the window.

    Notes
    -----
    Every edge toggles, in each row whose centre it crosses, the first pixel whose centre is not left of the crossing;
    a running sum along the row then tells inside (odd) from outside (even). The work is the edges' height in rows plus
    one pass over the window, for any number of corners.
    """
    rows, columns = size.shape
    # Half-open in y: a corner on a row's centre line is counted by exactly one of its two edges.
    first = np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5).astype(np.int64).clip(0, rows)
    stop = np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5).astype(np.int64).clip(0, rows)
    count = stop - first
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    crossing = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
    column = np.ceil(crossing - 0.5).astype(np.int64).clip(0, columns)
    toggles = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    odd: NDArray[np.bool_] = np.cumsum(toggles.reshape(rows, columns + 1)[:, :columns], axis=1) % 2 == 1
    return odd
