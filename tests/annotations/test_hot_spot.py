"""The densest area of points, against an exhaustive search."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from napari_metastasis.annotations import hot_spot
from napari_metastasis.settings import HotSpotSettings

MPP = 0.25
CIRCLE = HotSpotSettings()
RECTANGLE = HotSpotSettings(shape="rectangle")


def most_in_a_circle(xy: np.ndarray, radius: float) -> int:
    """Try every circle through two points, and one around each point."""
    centers = list(xy)
    for one, other in combinations(xy, 2):
        middle, way = (one + other) / 2, other - one
        left = radius**2 - way @ way / 4
        if left >= 0 and way.any():
            across = np.array((-way[1], way[0])) / np.linalg.norm(way) * math.sqrt(left)
            centers += [middle + across, middle - across]
    distance = np.linalg.norm(np.array(centers)[:, None] - xy, axis=2)
    return int((distance <= radius * (1 + 1e-9)).sum(axis=1).max())


def most_in_a_rectangle(xy: np.ndarray, width: float, height: float) -> int:
    """Try every left edge with every upper one."""
    counts = [
        ((xy[:, 0] >= x) & (xy[:, 0] <= x + width) & (xy[:, 1] >= y) & (xy[:, 1] <= y + height)).sum()
        for x in xy[:, 0]
        for y in xy[:, 1]
    ]
    return int(max(counts))


def points(seed: int) -> np.ndarray:
    """Draw points over some mm², some in clusters, some in one place, on whole pixels as people set them."""
    rng = np.random.default_rng(seed)
    clusters = rng.uniform(0, 20_000, (4, 2))
    near = clusters[rng.integers(4, size=40)] + rng.normal(0, 2_500, (40, 2))
    xy = np.concatenate([near, rng.uniform(0, 20_000, (30, 2))]).round()
    return np.concatenate([xy, xy[:3]])


@pytest.mark.parametrize("seed", range(12))
def test_no_circle_holds_more(seed: int) -> None:
    xy = points(seed)
    found = hot_spot(xy, mpp=MPP, settings=CIRCLE)
    radius = math.sqrt(2e6 / math.pi) / MPP
    assert found.count == most_in_a_circle(xy, radius)
    center = np.array((found.center.x, found.center.y))
    assert (np.linalg.norm(xy - center, axis=1) <= radius * (1 + 1e-9)).sum() == found.count
    assert found.width == found.height == pytest.approx(2 * radius)
    assert found.per_mm2 == found.count / 2


@pytest.mark.parametrize("seed", range(12))
def test_no_rectangle_holds_more(seed: int) -> None:
    xy = points(seed)
    found = hot_spot(xy, mpp=MPP, settings=RECTANGLE)
    assert found.count == most_in_a_rectangle(xy, found.width, found.height)
    assert found.width * found.height * MPP**2 == pytest.approx(2e6)
    assert found.width / found.height == pytest.approx(4 / 3)


def test_points_on_the_edge_lie_inside() -> None:
    # A circle of radius 5 px through three points; a fourth opposite to one of them.
    small = HotSpotSettings(area_mm2=math.pi)
    xy = np.array([[5.0, 0], [-5, 0], [3, 4], [0, -5], [40, 0]]) + 100
    found = hot_spot(xy, mpp=200.0, settings=small)
    assert found.count == 4
    assert (found.center.x, found.center.y) == pytest.approx((100, 100), abs=1e-6)


def test_few_points() -> None:
    assert hot_spot(np.empty((0, 2)), mpp=MPP, settings=CIRCLE) is None
    for settings in (CIRCLE, RECTANGLE):
        alone = hot_spot(np.array([[7.0, 9.0]]), mpp=MPP, settings=settings)
        assert (alone.count, alone.center.x, alone.center.y) == (1, 7.0, 9.0)
        assert hot_spot(np.array([[7.0, 9.0]] * 3), mpp=MPP, settings=settings).count == 3
