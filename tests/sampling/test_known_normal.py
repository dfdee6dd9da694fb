"""A slide that is outlined in part gives normal tissue where an outline says so, and none that is to be ignored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from cohort_files import disc_ring, write_slide

from napari_metastasis.annotations import Annotation, AnnotationSet, write_asap_xml
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.geometry import Region
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.crops import UNKNOWN, GridCrop, TileCrop
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import find_locations
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.sampling.slide_index import index_slide, open_indexed
from napari_metastasis.settings import SamplingSettings

SPEC = ModelSpec(name="s", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)
SETTINGS = SamplingSettings(patches_per_epoch=24)
MPP = 0.486
DISC, RADIUS = (420.0, 300.0), 60.0
#: In µm; the first reaches into the disc, which is tumour all the same.
NORMAL, IGNORED = (40.0, 60.0, 400.0, 500.0), (40.0, 60.0, 200.0, 500.0)


def annotated(path, *groups):
    areas = {
        "_0": shapely.Polygon(disc_ring(DISC, RADIUS, MPP)),
        "normal": shapely.box(*(side / MPP for side in NORMAL)),
        "Ignore*": shapely.box(*(side / MPP for side in IGNORED)),
    }
    write_asap_xml(path, AnnotationSet(tuple(Annotation(group, group, areas[group]) for group in groups)))
    return areas


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", disc_um=DISC, radius_um=RADIUS)
    return CohortSlide(name="a", path=folder / "a.tif", split="train", tumour=True, exhaustive=False)


def with_outlines(slide, name, *groups, **changes):
    path = slide.path.parent / f"{name}.xml"
    areas = annotated(path, *groups)
    return replace(slide, annotation=path, **changes), areas


def indexed_as(slide):
    return index_slide(
        slide,
        1,
        lambda opened, reference: find_locations(opened, reference, SPEC, SETTINGS, KnownNormal.of(slide, reference)),
    )


def centres(region, scale):
    """Return the level-0 centres of model pixels."""
    x = (np.arange(region.x, region.right) + 0.5) * scale
    y = (np.arange(region.y, region.bottom) + 0.5) * scale
    return np.meshgrid(x, y)


def slowly(region, scale, tumour, normal, ignored):
    """Return the label of each pixel by shapely; ``None`` for all of the slide."""
    x, y = centres(region, scale)
    labels = np.full(x.shape, UNKNOWN)
    labels[np.ones(x.shape, bool) if normal is None else shapely.contains_xy(normal, x, y)] = 0
    labels[shapely.contains_xy(tumour, x, y)] = 1
    if ignored is not None:
        labels[shapely.contains_xy(ignored, x, y)] = UNKNOWN
    return labels


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize("ignores", [False, True])
def test_pixels_of_tiles_are_labelled_by_the_outlines(slide, exhaustive, ignores):
    groups = ("_0", "normal", *(("Ignore*",) if ignores else ()))
    outlined, areas = with_outlines(slide, f"tiles-{ignores}", *groups, exhaustive=exhaustive)
    indexed = indexed_as(outlined)
    frame = indexed.locations.frame
    normal, ignored = None if exhaustive else areas["normal"], areas["Ignore*"] if ignores else None
    seen = set()
    with open_indexed(outlined) as opened:
        for seed in range(12):
            generator = np.random.default_rng(seed)
            location = indexed.locations.draw(seed % 2, indexed.reference, generator)
            _, labels = TileCrop(192, 0).take(opened, indexed, location, seed % 2, np.random.default_rng(seed + 100))
            # Drawn once more, to know where the tile lies.
            again = np.random.default_rng(seed + 100)
            crop = TileCrop(192, 0)
            left = crop._start(location.x + 48, frame.size.width, again)
            top = crop._start(location.y + 48, frame.size.height, again)
            tile = Region(left, top, 192, 192)
            np.testing.assert_array_equal(labels, slowly(tile, frame.scale, areas["_0"], normal, ignored))
            seen |= set(np.unique(labels).tolist())
    assert seen == ({0, 1} if exhaustive and not ignores else {UNKNOWN, 0, 1})


def test_normal_patches_lie_in_outlines_of_normal_tissue_alone(slide):
    outlined, areas = with_outlines(slide, "patches", "_0", "normal", "Ignore*")
    indexed = indexed_as(outlined)
    shape, scale = indexed.locations.shape, indexed.locations.frame.scale
    assert indexed.locations.gives(0)
    assert indexed.locations.gives(1)
    generator, spread = np.random.default_rng(0), []
    for _ in range(60):
        patch = indexed.locations.draw(0, indexed.reference, generator)
        x, y = centres(shape.label_square(patch), scale)
        assert shapely.contains_xy(areas["normal"], x, y).all()
        assert not shapely.contains_xy(areas["Ignore*"], x, y).any()
        near = centres(shape.label_square(patch, margin_px=shape.margin_px), scale)
        assert not shapely.contains_xy(areas["_0"], *near).any()
        spread.append((x.mean(), y.mean()))
    assert (np.ptp(spread, axis=0) > 150 / MPP * np.array([0.8, 1.5])).all(), "drawn all over the outline"


def test_cells_of_crops_are_normal_where_their_square_lies_in_such_an_outline(slide):
    outlined, areas = with_outlines(slide, "cells", "_0", "normal")
    indexed = indexed_as(outlined)
    shape, frame = indexed.locations.shape, indexed.locations.frame
    crop = GridCrop(SPEC, cells=9, dense_coefficient=1)
    seen = set()
    with open_indexed(outlined) as opened:
        for seed in range(8):
            location = indexed.locations.draw(seed % 2, indexed.reference, np.random.default_rng(seed))
            _, labels = crop.take(opened, indexed, location, seed % 2, np.random.default_rng(seed))
            column, row = np.random.default_rng(seed).integers(crop.cells, size=2).tolist()
            for r, c in np.ndindex(labels.shape):
                patch = location.shifted((c - column) * SPEC.stride_px, (r - row) * SPEC.stride_px)
                x, y = centres(shape.label_square(patch), frame.scale)
                near = centres(shape.label_square(patch, margin_px=shape.margin_px), frame.scale)
                if shapely.contains_xy(areas["_0"], x, y).any():
                    expected = 1
                elif shapely.contains_xy(areas["_0"], *near).any():
                    expected = UNKNOWN
                else:
                    expected = 0 if shapely.contains_xy(areas["normal"], x, y).all() else UNKNOWN
                if labels[r, c] >= UNKNOWN:
                    assert labels[r, c] == expected
                    seen.add(expected)
    assert seen == {UNKNOWN, 0, 1}


def test_tumour_that_is_to_be_ignored_is_no_example_of_tumour(slide):
    outlined, areas = with_outlines(slide, "half", "_0", "normal")
    disc = areas["_0"]
    left, top, right, bottom = disc.bounds
    half = shapely.box(left - 20, top - 20, (left + right) / 2, bottom + 20)
    path = slide.path.parent / "half-ignored.xml"
    named = (("_0", disc), ("normal", areas["normal"]), ("Ignore", half))
    write_asap_xml(path, AnnotationSet(tuple(Annotation(group, group, area) for group, area in named)))
    indexed = indexed_as(replace(outlined, annotation=path))
    shape, frame = indexed.locations.shape, indexed.locations.frame
    generator, crop = np.random.default_rng(0), GridCrop(SPEC, cells=9, dense_coefficient=1)
    tumour = disc.difference(half)
    seen = 0
    with open_indexed(outlined) as opened:
        for seed in range(30):
            patch = indexed.locations.draw(1, indexed.reference, generator)
            assert shapely.contains_xy(tumour, *centres(shape.label_square(patch), frame.scale)).any()
            if seed % 6:
                continue
            _, labels = crop.take(opened, indexed, patch, 1, np.random.default_rng(seed))
            column, row = np.random.default_rng(seed).integers(crop.cells, size=2).tolist()
            for r, c in np.ndindex(labels.shape):
                square = shape.label_square(patch.shifted((c - column) * SPEC.stride_px, (r - row) * SPEC.stride_px))
                expected = shapely.contains_xy(tumour, *centres(square, frame.scale)).any()
                assert (labels[r, c] == 1) == expected or labels[r, c] < UNKNOWN
                seen += expected
    assert seen
    every = path.with_name("all-ignored.xml")
    covered = (("_0", disc), ("normal", areas["normal"]), ("Ignore", disc.buffer(50)))
    write_asap_xml(every, AnnotationSet(tuple(Annotation(group, group, area) for group, area in covered)))
    assert not indexed_as(replace(outlined, annotation=every)).locations.gives(1)


def test_a_cohort_that_is_outlined_in_part_all_over_trains(slide):
    outlined, _ = with_outlines(slide, "alone", "_0", "normal")
    source = SlideBatches([outlined], BatchPlan(SPEC, SETTINGS, 6, 7))
    assert source.counts == (1, 1)
    assert sorted(source.batch(0).labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_outlines_of_normal_tissue_change_nothing_where_all_tumour_is_outlined(slide):
    plain, _ = with_outlines(slide, "plain", "_0", exhaustive=True)
    more, _ = with_outlines(slide, "more", "_0", "normal", exhaustive=True)
    drawn = []
    for one in (plain, more):
        indexed = indexed_as(one)
        generator = np.random.default_rng(3)
        drawn.append([indexed.locations.draw(k % 2, indexed.reference, generator) for k in range(20)])
    assert drawn[0] == drawn[1]
