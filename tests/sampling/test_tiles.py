"""Tiles: each pixel has the label of the slide under it, wherever a tile lies; boosted ones come by their weight."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cohort_files import write_outline, write_slide

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.geometry import Region
from napari_metastasis.models import SegmenterSpec
from napari_metastasis.sampling.batches import MixedBatches
from napari_metastasis.sampling.boosting import Pool, WeightedCrops, crop_pool, with_boosted
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.crops import ABSENT, UNKNOWN, TileCrop
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import find_locations
from napari_metastasis.sampling.resume import resume_slides, slide_parts, write_slides
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.sampling.slide_index import index_slide, open_indexed
from napari_metastasis.settings import SamplingSettings

SPEC = SegmenterSpec(name="s", encoder="vgg16", decoder="fcn-32s", mpp=0.972, cell_px=4)
DISC, RADIUS = (420.0, 300.0), 60.0


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """An outlined slide, and a normal one."""
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", disc_um=DISC, radius_um=RADIUS)
    write_outline(folder / "a.xml", DISC, RADIUS, 0.486)
    write_slide(folder / "b.tif", seed=1)
    return (
        CohortSlide(name="a", path=folder / "a.tif", annotation=folder / "a.xml", split="train", tumour=True),
        CohortSlide(name="b", path=folder / "b.tif", annotation=None, split="train", tumour=False),
    )


def indexed_as(slide):
    return index_slide(
        slide,
        1,
        lambda opened, reference: find_locations(
            opened, reference, SPEC, SamplingSettings(), KnownNormal.of(slide, reference)
        ),
    )


@pytest.fixture(scope="module")
def indexed(slides):
    return indexed_as(slides[0])


def taken(indexed, crop, seed, label=1):
    """Return an image, its labels, where its tile lies, and the middle of what was drawn."""
    reads = []
    generator = np.random.default_rng(seed)
    with open_indexed(indexed.slide) as slide:

        def spy(frame, region):
            reads.append(region)
            return slide.read(frame, region)

        location = indexed.locations.draw(label, indexed.reference, generator)
        image, labels = crop.take(SimpleNamespace(read=spy), indexed, location, label, generator)
    (window,) = reads
    around = crop.field_px // 2
    tile = Region(window.x + around, window.y + around, crop.tile_px, crop.tile_px)
    return image, labels, tile, (location.x + location.width // 2, location.y + location.height // 2)


def test_every_pixel_has_the_label_of_the_slide_under_it(indexed):
    crop = TileCrop(96, 40)
    places = []
    for seed in range(16):
        image, labels, tile, (x, y) = taken(indexed, crop, seed, label=seed % 2)
        assert image.shape == (136, 136, 3)
        assert image.dtype == np.uint8
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, indexed.reference.over(indexed.locations.frame, tile))
        # Tumour is dark there, in the middle of the image: labels lie where pixels do.
        dark = image[20:-20, 20:-20, 0] < 150
        assert (dark == labels).mean() > 0.97
        assert labels[y - tile.y, x - tile.x] == seed % 2
        places.append((x - tile.x, y - tile.y))
    spread = np.ptp(places, axis=0)
    assert (spread > 48).all(), "what was drawn lies anywhere in the tile"


def test_tiles_lie_on_the_slide_as_far_as_it_is_large_enough(indexed):
    size = indexed.locations.frame.size
    for seed in range(8):
        _, labels, tile, _ = taken(indexed, TileCrop(512, 0), seed, label=seed % 2)
        assert (labels >= 0).all()
        assert 0 <= tile.x <= tile.right <= size.width
        assert 0 <= tile.y <= tile.bottom <= size.height
    image, labels, tile, _ = taken(indexed, TileCrop(768, 32), 1)
    absent = labels == ABSENT
    rows, columns = np.mgrid[tile.y : tile.bottom, tile.x : tile.right]
    outside = (rows < 0) | (columns < 0) | (rows >= size.height) | (columns >= size.width)
    np.testing.assert_array_equal(absent, outside)
    assert absent.sum() == 768 * 768 - size.width * size.height
    assert image.shape == (800, 800, 3)


def test_unlabelled_tissue_is_no_example_of_normal_tissue_unless_asked(slides):
    partly = indexed_as(replace(slides[0], exhaustive=False))
    _, focused, tile, _ = taken(partly, TileCrop(256, 0), 3)
    _, all_of_it, same, _ = taken(partly, TileCrop(256, 0, focusing=False), 3)
    assert tile == same
    np.testing.assert_array_equal(focused, np.where(all_of_it == 0, UNKNOWN, all_of_it))
    assert set(np.unique(focused)) == {UNKNOWN, 1}


def plan(**changes) -> BatchPlan:
    settings = SamplingSettings(patches_per_epoch=24)
    return replace(BatchPlan(SPEC, settings, 6, 7, crop=TileCrop(32, 8)), **changes)


def weighed(slides, weights, first=None) -> Pool:
    weights = np.array(weights, np.float32)
    return Pool(crop_pool(slides, plan()), np.ones_like(weights) if first is None else np.float32(first), weights)


def test_pixels_are_batched_with_their_labels(slides):
    batch = SlideBatches(slides, plan()).batch(0)
    assert batch.images.shape == (6, 40, 40, 3)
    assert batch.labels.shape == batch.targets.shape == (6, 32, 32)
    assert batch.attention.tolist() == [0] * 6


def test_a_pool_gives_the_same_tiles_in_every_round(slides):
    first, again = crop_pool(slides, plan()), crop_pool(slides, plan(seed=99, batch_size=3))
    assert first.fingerprint == again.fingerprint
    for tile in range(3):
        np.testing.assert_array_equal(first.batch(tile).images, again.batch(tile).images)
    assert not np.array_equal(first.batch(0).images, first.batch(1).images)


def test_tiles_of_a_pool_come_as_often_as_their_weights_were_raised(slides):
    pool = weighed(slides, [1, 2, 1, 4, 1], first=[1, 1, 0, 1, 1])
    tiles = [pool.crops.batch(k).images[0] for k in range(5)]
    source = WeightedCrops(pool, 4, 8, seed=5)
    seen = []
    for number in range(40):
        batch = source.batch(number)
        numbers = [next(k for k in range(5) if np.array_equal(tiles[k], image)) for image in batch.images]
        np.testing.assert_array_equal(batch.attention, pool.weights[numbers])
        seen += numbers
    # Raised by 0, 1, 1, 3 and 0 of 5 in all.
    np.testing.assert_allclose(np.bincount(seen, minlength=5) / len(seen), [0, 0.2, 0.2, 0.6, 0], atol=0.1)
    np.testing.assert_array_equal(source.batch(3).images, WeightedCrops(pool, 4, 8, seed=5).batch(3).images)


@pytest.mark.parametrize(
    ("weights", "part"),
    [([2, 1, 1, 1], 1), ([2, 2, 2, 2], 3), ([9, 9, 9, 9], 5), ([1, 1, 1, 1], 0)],
)
def test_the_pool_takes_the_share_of_a_batch_that_its_weights_were_raised_by(slides, weights, part):
    batches = with_boosted(slides, weighed(slides, weights), plan())
    assert batches.batches_per_epoch == 4
    attention = batches.batch(0).attention
    assert len(attention) == 6
    assert int((attention > 0).sum()) == part
    assert isinstance(batches, MixedBatches) == (part > 0)


def test_boosted_batches_are_told_apart_and_go_on_with_their_slides(slides, tmp_path):
    one = with_boosted(slides, weighed(slides, [2, 1, 3]), plan())
    same = with_boosted(slides, weighed(slides, [2, 1, 3]), plan())
    other = with_boosted(slides, weighed(slides, [2, 1, 4]), plan())
    assert one.fingerprint == same.fingerprint != other.fingerprint
    write_slides(tmp_path / "slides.json", {"training": one})
    assert len(list(slide_parts(one))) == 2
    away = tuple(replace(slide, path=tmp_path / slide.path.name) if slide.name == "b" else slide for slide in slides)
    less = weighed(away, [2, 1, 3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlideBatches, "needed", (1,))
        resumed = with_boosted(away, less, plan())
        resume_slides(tmp_path / "slides.json", {"training": resumed})
        assert resumed.fingerprint == one.fingerprint
