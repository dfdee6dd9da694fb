"""Crops of corrected places: which, how many of each, and what their cells are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import shapely
from dark_model import dark_model
from disc_slide import DISC_CENTER, DISC_RADIUS, MPP, write_disc_slide

from napari_metastasis.annotations import Annotation, AnnotationSet
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import OutlineReference
from napari_metastasis.errors import TrainingError
from napari_metastasis.sampling.places import CorrectedSlide, Place, PlaceCrops

DISC = shapely.Point(DISC_CENTER.x, DISC_CENTER.y).buffer(DISC_RADIUS)
PINK = shapely.box(520, 320, 840, 980)
#: Too thin for a point that is drawn.
THREAD = shapely.box(600, 400, 600.01, 900)


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> CorrectedSlide:
    path = write_disc_slide(tmp_path_factory.mktemp("slides") / "node.tif")
    drawn = (Annotation("disc", "tumor", DISC), Annotation("pink", "normal", PINK))
    return CorrectedSlide(
        CohortSlide(name="node", path=path, mpp=MPP, exhaustive=False), "f" * 64, OutlineReference(AnnotationSet(drawn))
    )


@pytest.fixture
def crops(slide: CorrectedSlide):
    places = (Place("disc", 0, 1, DISC), Place("pink", 0, 0, PINK), Place("thread", 0, 0, THREAD))
    made = PlaceCrops((slide,), places, dark_model().spec, cells=5, count=16, batch_size=5, seed=1)
    yield made
    made.close()


def test_each_class_has_half_and_each_place_of_it_as_many(crops) -> None:
    assert Counter(crops.order) == {0: 8, 1: 4, 2: 4}
    only = replace(crops, places=crops.places[1:])
    assert Counter(only.order) == {0: 8, 1: 8}
    with pytest.raises(TrainingError, match="expected corrected places, got none"):
        replace(crops, places=())


def test_cells_are_labelled_where_the_tissue_is_what_was_said(crops) -> None:
    spec = crops.spec
    seen = Counter()
    for number in range(crops.batches_per_epoch):
        batch = crops.batch(number)
        for image, labels in zip(batch.images, batch.labels, strict=True):
            for (row, column), label in np.ndenumerate(labels):
                # The middle pixels of the cell's patch: dark where there is tumour.
                corner = (
                    spec.patch_px // 2 - 2 + row * spec.stride_px,
                    spec.patch_px // 2 - 2 + column * spec.stride_px,
                )
                middle = image[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4].mean()
                seen[label] += 1
                if label == 0:
                    assert middle > 150
                elif label == 1:
                    assert middle < 150
                elif middle < 90:
                    raise AssertionError("what is dark was said to be tumour")
    assert seen[0] > 100
    assert seen[1] > 100


def test_every_crop_shows_its_place(crops) -> None:
    crops = replace(crops, count=12, batch_size=12)
    labels = crops.batch(0).labels
    for number, own in zip(crops.order, labels, strict=True):
        assert (own == crops.places[number].label).any()


def test_batches_follow_from_their_number_and_begin_again(crops) -> None:
    last = crops.batch(3)
    np.testing.assert_array_equal(last.images[1:], crops.batch(0).images[:4])
    np.testing.assert_array_equal(crops.batch(4).images, crops.batch(0).images)
    other = replace(crops, seed=2)
    assert not np.array_equal(other.batch(0).images, crops.batch(0).images)
    moved = replace(crops, places=(Place("disc", 0, 1, DISC.buffer(-1)), *crops.places[1:]))
    assert len({one.fingerprint for one in (crops, other, moved)}) == 3
