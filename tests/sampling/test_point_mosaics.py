"""Mosaics of crops: points lie where the dots lie, whatever is shifted, mirrored, turned and shrunk."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from dotted_crops import SIDE, write_dotted_crops
from scipy import ndimage

from napari_metastasis.cohorts.point_crops import PointCrops, open_point_crops
from napari_metastasis.errors import TrainingError
from napari_metastasis.geometry import SYMMETRIES
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.sampling.point_mosaics import PointMosaics, emptied_crop, shifted_crop
from napari_metastasis.settings import PointMapSettings

#: So fast that a point outside a crop says nothing inside it: the oracle below does not know of it.
MAPS = PointMapSettings(decay_per_um=8.0)


@pytest.fixture
def crops(tmp_path: Path) -> PointCrops:
    return open_point_crops(*write_dotted_crops(tmp_path), mpp=0.25)


def mosaics(crops: PointCrops, **changes) -> PointMosaics:
    how = {"shrink": 1, "cells": 2, "margin_px": 10, "shift_px": 10, "maps": MAPS, "seed": 4}
    return PointMosaics(crops, np.arange(len(crops)), **{**how, **changes})


def dots(image: np.ndarray) -> np.ndarray:
    """Return the middles of the red dots, as (x, y) from the corner."""
    red = image[..., 0].astype(float)
    labels, count = ndimage.label(red > 0)
    yx = np.array(ndimage.center_of_mass(red, labels, range(1, count + 1))).reshape(-1, 2)
    return yx[:, ::-1] + 0.5


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_points_move_as_pixels_do(symmetry) -> None:
    rng = np.random.default_rng(5)
    image = np.zeros((9, 9))
    row, column = rng.integers(0, 9, 2)
    image[row, column] = 1
    moved = symmetry.move(np.array([[column + 0.5, row + 0.5]]), 9.0)
    (found,) = np.argwhere(symmetry.apply(image))
    assert moved.tolist() == [[found[1] + 0.5, found[0] + 0.5]]


@pytest.mark.parametrize("shift", [(0, 0), (10, -7), (-14, 15), (15, 15)])
def test_what_is_shifted_in_shows_the_crop_s_mirror_image_and_its_points(crops: PointCrops, shift) -> None:
    for index in range(len(crops)):
        crop = crops.read(index)
        shifted = shifted_crop(crop, *shift)
        # Pixel by pixel.
        for row, column in np.ndindex(SIDE, SIDE):
            y, x = (row + shift[1], column + shift[0])
            y, x = (-1 - at if at < 0 else 2 * SIDE - 1 - at if at >= SIDE else at for at in (y, x))
            assert (shifted.image[row, column] == crop.image[y, x]).all()
            assert shifted.known[row, column] == crop.known[y, x]
        inside = shifted.xy[((shifted.xy > 2) & (shifted.xy < SIDE - 2)).all(axis=1)]
        whole = dots(shifted.image)
        for x, y in inside:
            assert np.abs(whole - (x, y)).sum(axis=1).min() < 1e-6


@pytest.mark.parametrize(("shrink", "cells"), [(1, 2), (2, 2), (1, 1), (2, 3)])
def test_points_lie_where_the_dots_lie_and_maps_are_highest_there(crops: PointCrops, shrink: int, cells: int) -> None:
    source = mosaics(crops, shrink=shrink, cells=cells, shift_px=6)
    side, margin = cells * SIDE // shrink, 10
    seen: list[int] = []
    for number in range(len(source)):
        one = source.mosaic(number)
        middle = one.image[margin:-margin, margin:-margin]
        assert middle.shape == (side, side, 3)
        np.testing.assert_array_equal(one.image, np.pad(middle, ((10, 10), (10, 10), (0, 0)), mode="symmetric"))
        here = one.crops[one.crops >= 0]
        seen += here.tolist()
        # Where no crop lies, all is white, and nothing known.
        empty = np.kron(one.crops < 0, np.ones((SIDE // shrink,) * 2, bool))
        assert (middle[empty] == 255).all()
        assert not one.known[empty].any()
        middle[empty] = 0
        found = dots(middle)
        assert len(found) == len(one.xy) >= len(here)
        np.testing.assert_allclose(sorted(found.tolist()), sorted(one.xy.tolist()), atol=1e-6)
        # π by every pixel, from the points of its own crop.
        own = SIDE // shrink
        for row, column in np.ndindex(side, side):
            cell = np.array([column // own, row // own])
            near = one.xy[(one.xy // own == cell).all(axis=1)]
            away = np.linalg.norm(near - (column + 0.5, row + 0.5), axis=1).min(initial=np.inf) * source.mpp
            expected = near_by if (near_by := np.exp(-8 * away)) >= MAPS.floor else 0
            assert one.probability[row, column] == pytest.approx(expected, abs=1e-6)
        assert one.known.mean() < 1 if 3 in here or len(here) < cells**2 else one.known.all()
    assert sorted(seen) == list(range(len(crops)))


def test_a_mosaic_is_told_by_its_number_alone_and_no_epoch_is_like_another(crops: PointCrops) -> None:
    source = mosaics(crops)
    again = pickle.loads(pickle.dumps(source))
    for number in (3, 0, 1):
        np.testing.assert_array_equal(source.mosaic(number).image, again.mosaic(number).image)
        np.testing.assert_array_equal(source.mosaic(number).xy, again.mosaic(number).xy)
    images = [source.mosaic(number).image for number in range(2 * len(source))]
    images.append(mosaics(crops, seed=5).mosaic(0).image)
    assert len({image.tobytes() for image in images}) == len(images)
    for wrong in ({"shrink": 3}, {"shift_px": 16}, {"shrink": 0}):
        with pytest.raises(TrainingError, match="expected crops of 32 px"):
            mosaics(crops, **wrong)
    with pytest.raises(TrainingError, match="at least one crop"):
        PointMosaics(crops, np.arange(0), 1, 2, 10, 10, MAPS, 4)


def test_a_strip_without_any_point_fills_a_crop_and_shows_no_dot(crops: PointCrops) -> None:
    for index in range(len(crops)):
        crop = crops.read(index)
        for seed in range(8):
            strip = emptied_crop(crop, 4.0, np.random.default_rng(seed))
            assert strip.image.shape == crop.image.shape
            assert len(strip.xy) == 0
            assert not (strip.image[..., 0][strip.known] > 0).any()
            # Nothing but pixels of the crop.
            assert set(map(bytes, strip.image.reshape(-1, 3))) <= set(map(bytes, crop.image.reshape(-1, 3)))
    # Where every edge is too near to a point, nothing is known.
    assert not emptied_crop(crops.read(0), 15.0, np.random.default_rng(0)).known.any()
    shown = mosaics(crops, empty_share=0.99, clear_um=1.0, cells=1)
    assert sum(len(shown.mosaic(number).xy) for number in range(len(shown))) == 0


def test_runs_of_earlier_versions_are_repeated_byte_by_byte(crops: PointCrops) -> None:
    source = mosaics(crops, empty_share=0.5, clear_um=1.0)
    drawn = [array for number in range(4) for array in (source.mosaic(number).image, source.mosaic(number).xy)]
    told = hashlib.sha256(b"".join(array.tobytes() for array in drawn)).hexdigest()
    # As they were before anything could be drawn into strips.
    assert told == "a8b48fe85d2d2d0268ecc37d76b9157da143bfaa2f4b2ebe9bf2a8ac134f089d"
    assert PointBatches(source, 1, 2).fingerprint == "8ec99d77463535d125e52010ad24956e35e5ac1f27cbc42fc878337cddf2dd6f"
