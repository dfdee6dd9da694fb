"""Slow second implementations: thresholds one by one, cells one by one, pairs one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import ndimage

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size

EIGHT = np.ones((3, 3), dtype=bool)


def frame_of(rows, columns, *, mpp=0.486, scale=2.0, stride=8, patch=96):
    """Return a frame with exactly so many cells."""
    model = ModelFrame(scale=scale, mpp=mpp, size=Size(columns * stride, rows * stride))
    return HeatmapFrame(model, patch, stride)


def opened_mask(mask, side):
    """Return the union of all squares of ``side`` cells that lie in ``mask``."""
    result = np.zeros_like(mask)
    for row, column in itertools.product(range(mask.shape[0] - side + 1), range(mask.shape[1] - side + 1)):
        square = slice(row, row + side), slice(column, column + side)
        if mask[square].all():
            result[square] = True
    return result


def lesions_at(probabilities, threshold, side):
    """Return the 8-connected components at a threshold as (n,) masks, in scipy's order."""
    mask = np.nan_to_num(probabilities, nan=-1.0) >= np.float32(threshold)
    labels, count = ndimage.label(opened_mask(mask, side), EIGHT)
    return [labels == label for label in range(1, count + 1)]


def opened_surface(probabilities, side):
    """Return the highest value at which each cell survives the opening, value by value."""
    result = np.full(probabilities.shape, -np.inf, dtype=np.float32)
    for value in np.unique(probabilities[~np.isnan(probabilities)]):
        result[opened_mask(np.nan_to_num(probabilities, nan=-1.0) >= value, side)] = value
    return result


def first_top(surface, mask):
    """Return (row, column) of the highest cell in ``mask``, the first of equals."""
    inside = np.where(mask, surface, -np.inf)
    return tuple(int(index) for index in np.unravel_index(np.argmax(inside), surface.shape))


def contour_points(surface, mask, threshold):
    """Return the points (row, column) where the contour of a lesion passes between a cell and its four neighbours."""
    points = []
    for row, column in np.argwhere(mask).tolist():
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            y, x = row + down, column + right
            held = 0 <= y < surface.shape[0] and 0 <= x < surface.shape[1]
            if held and mask[y, x]:
                continue
            beside = float(surface[y, x]) if held else -math.inf
            above = max(float(surface[row, column]) - float(np.float32(threshold)), 1 / 64)
            below = max(float(np.float32(threshold)) - beside, 1 / 64)
            share = 0.5 if math.isinf(below) else above / (above + below)
            points.append((row + down * share, column + right * share))
    return points


def length(surface, mask, threshold):
    """Return the longest distance between any two points of a lesion's contour, in cells."""
    points = np.array(contour_points(surface, mask, threshold))
    return float(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max())


def greedy(points, radius):
    """Return the indices that greedy suppression keeps, over all pairs; points come strongest first."""
    kept = []
    for index, point in enumerate(points):
        if all(math.dist(point, points[other]) >= radius for other in kept):
            kept.append(index)
    return kept


def plateaus(surface):
    """Return (height, first cell, cells) of every regional maximum of a surface, highest first, the first of equals."""
    found = []
    for value in np.unique(surface[np.isfinite(surface)]):
        labels, count = ndimage.label(surface == value, EIGHT)
        for label in range(1, count + 1):
            plateau = labels == label
            around = ndimage.binary_dilation(plateau, EIGHT) & ~plateau
            if not (surface[around] > value).any():
                cells = [tuple(cell) for cell in np.argwhere(plateau).tolist()]
                found.append((float(value), cells[0], cells))
    return sorted(found, key=lambda plateau: (-plateau[0], plateau[1]))


def middle(cells):
    """Return the centroid of cells, or the nearest of them where it lies in none."""
    center = tuple(sum(axis) / len(cells) for axis in zip(*cells, strict=True))
    if tuple(int(np.rint(value)) for value in center) in cells:
        return center
    return min(cells, key=lambda cell: (math.dist(cell, center), cell))


def detections_at(probabilities, threshold, *, floor, side, radius):
    """Return {(row, column): (probability, first cell of the lesion's top)} of all detections.

    For maps whose values lie too far apart to be indistinct.
    """
    surface = opened_surface(probabilities, side)
    surface[surface < np.float32(floor)] = -np.inf
    peaks = [(height, first, cells, middle(cells)) for height, first, cells in plateaus(surface)]
    cell_of = [tuple(int(np.rint(value)) for value in place) for *_, place in peaks]
    kept = greedy(cell_of, radius)
    result = {}
    for mask in lesions_at(probabilities, threshold, side):
        top = first_top(surface, mask)
        own = [index for index, (_, first, _, _) in enumerate(peaks) if mask[first]]
        chosen = [index for index in own if index in kept]
        # The highest peak of a lesion comes first; peaks of one height are sorted by their first cell.
        if own[0] not in kept:
            chosen = [own[0]] + [i for i in chosen if math.dist(cell_of[i], cell_of[own[0]]) >= radius]
        for index in chosen:
            score = max(probabilities[cell] for cell in peaks[index][2])
            result[peaks[index][3]] = (probabilities[mask].max() if index == own[0] else score, top)
    return result
