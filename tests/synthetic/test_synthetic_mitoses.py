"""Synthetic mitoses lie where their points say, look as they should, and leave everything else as it was."""

from __future__ import annotations

import pickle
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest

from napari_metastasis.cohorts.patches import open_named_patches
from napari_metastasis.cohorts.point_crops import PointCrop, PointCrops
from napari_metastasis.sampling.point_batches import PointBatches
from napari_metastasis.sampling.point_mosaics import PointMosaics
from napari_metastasis.settings import PointMapSettings
from napari_metastasis.slides.stains import TARGET, concentrations, optical_density
from napari_metastasis.synthetic import LOOKALIKES, MITOSES, FigurePainter, _figures, draw_lookalike, draw_mitosis

SIDE, MPP = 128, 0.25
MAPS = PointMapSettings(decay_per_um=0.4)


def tissue(seed: int) -> np.ndarray:
    """Return pink cytoplasm with paler and denser places, (SIDE, SIDE, 3) uint8."""
    rng = np.random.default_rng(seed)
    amounts = np.stack([rng.uniform(0.1, 0.3, (SIDE, SIDE)), rng.uniform(0.5, 0.8, (SIDE, SIDE))], axis=-1)
    return (255 * np.exp(-amounts @ TARGET.array.T)).astype(np.uint8)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> PointCrops:
    """Return crops of a slide on which nobody set a point."""
    folder, names = tmp_path_factory.mktemp("crops"), [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(imagecodecs.png_encode(tissue(number)))
    xy = np.zeros((len(names), 2))
    return PointCrops(open_named_patches(folder, names), ("one",) * 12, xy, MPP, SIDE, {"one": np.empty((0, 2))})


def mosaics(crops: PointCrops, painter: FigurePainter | None, shrink: int = 1) -> PointMosaics:
    return PointMosaics(crops, np.arange(len(crops)), shrink, 2, 0, 40, MAPS, 7, 1.0, 6.0, painter)


def added(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the red density that was added, where it is as much as only chromatin has."""
    more = optical_density(after)[..., 0] - optical_density(before)[..., 0]
    return np.where(more > 0.45, more, 0)


@pytest.mark.parametrize("shrink", [1, 2])
def test_a_point_lies_at_the_centroid_of_the_chromatin_wherever_it_is_drawn(
    crops: PointCrops, shrink: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One a crop, so that the oracle need not know what belongs to which.
    monkeypatch.setattr(_figures, "_MOST", 1)
    real, drawn = mosaics(crops, None, shrink), mosaics(crops, FigurePainter(1.0, 0.0, 6.0), shrink)
    cell, reach, seen = drawn.cell_px, 8 / drawn.mpp, 0
    for number in range(9):
        before, after = real.mosaic(number), drawn.mosaic(number)
        assert len(before.xy) == 0
        assert len(after.xy) == 4
        more = added(after.image, before.image)
        for x, y in after.xy:
            assert after.probability[int(y), int(x)] > 0.85
            corner = np.array([x, y]) // cell * cell
            column, row = corner.astype(int)
            # Where the edge of the crop does not cut it.
            if min(x - column, y - row) < reach or max(x - column, y - row) > cell - reach:
                continue
            density = more[row : row + cell, column : column + cell]
            yx = np.argwhere(density > 0) + 0.5
            centroid = np.average(yx, axis=0, weights=density[density > 0])[::-1] + corner
            assert np.hypot(*(centroid - (x, y))) * drawn.mpp < 1
            seen += 1
    assert seen >= 8
    labels = PointBatches(drawn, 1, 1).batch(0).labels[0]
    assert sorted(map(tuple, np.argwhere(labels == 1))) == sorted(
        (int(y), int(x)) for x, y in drawn.mosaic(0).xy.tolist()
    )


def test_the_same_seed_draws_the_same_bytes_and_none_are_drawn_where_nobody_asks(crops: PointCrops) -> None:
    painter = FigurePainter(0.7, 0.7, 6.0)
    source, plain = mosaics(crops, painter), mosaics(crops, None)
    again, nothing = pickle.loads(pickle.dumps(source)), mosaics(crops, FigurePainter(0.0, 0.0, 6.0))
    for number in (2, 0):
        one = source.mosaic(number)
        assert one.image.tobytes() == again.mosaic(number).image.tobytes() != plain.mosaic(number).image.tobytes()
        assert one.xy.tobytes() == again.mosaic(number).xy.tobytes()
        assert nothing.mosaic(number).image.tobytes() == plain.mosaic(number).image.tobytes()
    told = [
        mosaics(crops, each) for each in (None, painter, replace(painter, mitoses=0.6), replace(painter, clear_um=5))
    ]
    assert len({PointBatches(each, 1, 2).fingerprint for each in told}) == 4


def test_look_alikes_are_dark_and_give_no_point(crops: PointCrops) -> None:
    real, drawn = mosaics(crops, None), mosaics(crops, FigurePainter(0.0, 1.0, 6.0))
    for number in range(3):
        before, after = real.mosaic(number), drawn.mosaic(number)
        assert len(after.xy) == 0
        assert not after.probability.any()
        assert added(after.image, before.image).any()
        assert (PointBatches(drawn, 1, 1).batch(number).labels <= 0).all()


def test_nothing_is_drawn_near_a_point_where_nothing_is_known_or_on_glass(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[int, int]] = []

    monkeypatch.setattr(_figures, "paint_figure", lambda *told: places.append(told[3:5]))
    image, known = tissue(3), np.ones((SIDE, SIDE), bool)
    known[:, :20] = False
    image[80:] = 245
    whole = PointCrop(image, known, np.array([[70.0, 30.0], [SIDE + 4.0, 60.0]]))
    painter, unknown = FigurePainter(1.0, 1.0, 6.0), np.argwhere(~known)
    for seed in range(40):
        first = len(places)
        found = painter.painted(whole, MPP, np.random.default_rng(seed))
        for row, column in places[first:]:
            assert np.hypot(*(whole.xy - (column + 0.5, row + 0.5)).T).min() * MPP >= 6.0
            assert np.hypot(*(unknown - (row, column)).T).min() * MPP >= 6.0
            around = image[max(0, row - 20) : row + 20, max(0, column - 20) : column + 20]
            assert (around < 240).mean() > 0.6
            others = [each for each in places[first:] if each != (row, column)]
            assert all(np.hypot(row - r, column - c) * MPP > 12.0 for r, c in others)
        # The points of the mitoses come behind those that were there; the crop itself stays.
        np.testing.assert_array_equal(found.xy[:2], whole.xy)
        assert {(y - 0.5, x - 0.5) for x, y in found.xy[2:].tolist()} <= set(places[first:])
        assert found.known is known
    assert len(places) > 40
    nowhere = replace(whole, known=np.zeros_like(known))
    assert painter.painted(nowhere, MPP, np.random.default_rng(0)) is nowhere


@pytest.mark.parametrize("kind", [*MITOSES, *LOOKALIKES])
def test_figures_have_the_size_of_real_ones(kind: str) -> None:
    rng, draw = np.random.default_rng(5), draw_mitosis if kind in MITOSES else draw_lookalike
    long, short = [], []
    for _ in range(12):
        figure = draw(rng, MPP, kind)
        weight = np.where(figure.chromatin > 0.3 * figure.chromatin.max(), figure.chromatin, 0)
        yx = np.argwhere(weight > 0)
        middle = np.average(yx, axis=0, weights=weight[weight > 0])
        if kind in MITOSES:
            assert np.abs(middle - len(weight) // 2).max() * MPP < 0.6
        spread = np.linalg.eigvalsh(np.cov(yx.T, aweights=weight[weight > 0]))
        # The length of an even bar of that spread.
        short.append(np.sqrt(12 * spread[0]) * MPP)
        long.append(np.sqrt(12 * spread[1]) * MPP)
        assert 0 <= figure.cell.min() <= figure.cell.max() <= 1
        # It ends before what it is drawn on.
        assert not weight[[0, -1]].any()
        assert not weight[:, [0, -1]].any()
    if kind == "plate":
        assert 6.5 < np.mean(long) < 12
        assert 2 < np.mean(short) < 4.5
    if kind == "pair":
        assert 8 < np.mean(long) < 22
    assert 1.5 < min(long) <= max(long) < 24


def test_dyes_that_cannot_be_told_are_the_published_reference_s_and_the_rest_of_the_picture_stays() -> None:
    one_dye = np.full((SIDE, SIDE, 3), (230, 150, 200), np.uint8)
    palette = _figures.Palette.of(one_dye, np.ones((SIDE, SIDE), bool), MPP)
    assert palette.stains == TARGET
    image = one_dye.copy()
    figure = draw_mitosis(np.random.default_rng(1), MPP, "plate")
    # Over an edge of the picture: what lies outside is cut.
    _figures.paint_figure(image, figure, palette, 2, SIDE - 3, MPP, np.random.default_rng(2))
    assert (image[:60, 70:] != one_dye[:60, 70:]).any()
    assert (image[60:] == one_dye[60:]).all()
    assert (image[:, :70] == one_dye[:, :70]).all()
    assert concentrations(image, TARGET)[..., 0].max() > 1.2
