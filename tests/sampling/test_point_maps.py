"""Maps of probability around points: the paper's figure, every pixel by itself, and tiles cut at borders."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.geometry import ModelFrame, Region, Size
from napari_metastasis.sampling.point_maps import point_map, tile_probabilities
from napari_metastasis.settings import PointMapSettings

#: Pearce 2017, figure 2. Its first and last column are empty although they are no further away than its second and last
#: but one row, which are not: they are drawn as an edge, and stand for nothing here.
FIGURE_2 = """
0    0    0    0    0
0.03 0.04 0.05 0.04 0.03
0.06 0.11 0.14 0.11 0.06
0.11 0.24 0.37 0.24 0.11
0.14 0.37 1.00 0.37 0.14
0.11 0.24 0.37 0.24 0.11
0.06 0.11 0.14 0.11 0.06
0.03 0.04 0.05 0.04 0.03
0    0    0    0    0
"""
#: A slide at the model's own resolution of 1 µm, so that a is per pixel.
UM = ModelFrame(scale=1.0, mpp=1.0, size=Size(400, 300))


def test_the_papers_figure_to_its_two_decimals() -> None:
    figure = np.array([line.split() for line in FIGURE_2.split("\n") if line], dtype=float)
    at = np.array([[2.5, 4.5]])

    def drawn(decay: float) -> np.ndarray:
        settings = PointMapSettings(decay_per_um=decay)
        return point_map(at, UM, Region(0, 0, 5, 9), settings).round(2)

    # No a makes it but 1 for each pixel: 0.995 to 1.001.
    fitting = [a for a in np.arange(0.98, 1.02, 0.001).round(3) if np.allclose(drawn(a), figure, atol=1e-6)]
    assert fitting == [0.995, 0.996, 0.997, 0.998, 0.999, 1.0, 1.001]


def by_every_pixel(xy: np.ndarray, frame: ModelFrame, region: Region, settings: PointMapSettings) -> np.ndarray:
    """Work every pixel out by itself, in µm."""
    found = np.zeros((region.height, region.width))
    for row, column in np.ndindex(found.shape):
        x, y = ((region.x + column + 0.5) * frame.scale, (region.y + row + 0.5) * frame.scale)
        distance_um = min((np.hypot(px - x, py - y) * frame.mpp for px, py in xy), default=np.inf)
        probability = np.exp(-settings.decay_per_um * distance_um)
        found[row, column] = probability if probability >= settings.floor else 0
    return found


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.7])
def test_every_pixel_is_that_of_the_formula(scale: float) -> None:
    rng = np.random.default_rng(3)
    frame = ModelFrame(scale=scale, mpp=0.25, size=Size(200, 200))
    region = Region(20, 30, 60, 50)
    xy = rng.uniform((0, 0), (110 * scale, 110 * scale), (12, 2))
    settings = PointMapSettings(decay_per_um=0.4)
    found = point_map(xy, frame, region, settings)
    np.testing.assert_allclose(found, by_every_pixel(xy, frame, region, settings), atol=1e-6)
    assert found.dtype == np.float32
    assert not point_map(np.empty((0, 2)), frame, region, settings).any()


def test_tiles_are_pieces_of_one_map_and_a_point_at_their_border_counts_in_both() -> None:
    settings = PointMapSettings()
    # 10 px above a border, just left of one, on one, and on a corner of four.
    xy = np.array([[32.0, 54.0], [127.9, 30.0], [192.0, 100.0], [256.0, 128.0]])
    whole = point_map(xy, UM, Region(0, 0, 384, 256), settings)
    tiles = list(Region(0, 0, 384, 256).split(64))
    for tile in tiles:
        np.testing.assert_array_equal(point_map(xy, UM, tile, settings), whole[tile.slices])
    best = tile_probabilities(whole, 64)
    assert best.shape == (4, 6)
    for tile in tiles:
        assert best[tile.y // 64, tile.x // 64] == whole[tile.slices].max()
    # The threshold is chosen afterwards. Near 1 it takes the tiles that touch a point, on both sides of their border.
    touched = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4)]
    assert [tuple(cell) for cell in np.argwhere(best >= 0.8).tolist()] == touched
    # A lower one takes the tile that a cell of 10 px reaches into, too.
    nearest = np.exp(-settings.decay_per_um * np.hypot(10.5, 0.5))
    assert [tuple(cell) for cell in np.argwhere(best >= nearest - 1e-6).tolist()] == sorted([*touched, (1, 0)])


def test_tiles_that_the_edge_cuts_are_kept() -> None:
    best = tile_probabilities(np.arange(35, dtype=np.float32).reshape(5, 7) / 35, 3)
    assert best.shape == (2, 3)
    assert best[1, 2] == np.float32(34 / 35)
    assert best[0, 0] == np.float32(16 / 35)
