"""Lesions as they are scored, against the organisers' recipe on whole masks, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops

from napari_metastasis.annotations import Annotation
from napari_metastasis.evaluation import reference_from_annotations, reference_from_mask
from napari_metastasis.evaluation import reference_lesions as module
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.lesions import LesionIndex
from napari_metastasis.settings import DetectionSettings, EvaluationSettings

CHALLENGE = EvaluationSettings()
PIXEL_UM = CHALLENGE.mpp * CHALLENGE.downsample


def recipe(tumour):
    """The label image and the major axes in µm, in one go over the whole mask."""
    if not tumour.any():
        # scipy's distances mean nothing where there is nothing to be distant from.
        return np.zeros(tumour.shape, int), []
    grown = ndimage.distance_transform_edt(~tumour) < CHALLENGE.merge_um / (PIXEL_UM * 2)
    labels = label(ndimage.binary_fill_holes(grown), connectivity=2)
    return labels, [region.axis_major_length * PIXEL_UM for region in regionprops(labels)]


def blobs(seed, shape=(90, 120)):
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for _ in range(int(rng.integers(1, 9))):
        # Rings among them, with and without islands; some reach past the edge.
        distance = np.hypot((y - rng.integers(-4, shape[0] + 4)) * rng.uniform(0.5, 2), x - rng.integers(0, shape[1]))
        radius = rng.uniform(1, 25)
        mask |= (distance < radius) & (distance > radius - rng.uniform(1, 6))
        mask |= distance < rng.uniform(0, 3)
    return mask


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_lesions_are_those_of_the_recipe(seed):
    mask = blobs(seed)
    labels, axes = recipe(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SQUARE", 16)  # so that a small mask has several
        found = reference_from_mask("s", mask, CHALLENGE)
    assert len(found.lesions) == labels.max()
    drawn = np.zeros_like(labels)
    for number, lesion in enumerate(found.lesions, 1):
        drawn[lesion.window.slices][lesion.mask] = number
    np.testing.assert_array_equal(drawn, labels)
    np.testing.assert_allclose([lesion.major_axis_um for lesion in found.lesions], axes, rtol=1e-9)
    assert [lesion.is_target for lesion in found.lesions] == [axis >= CHALLENGE.itc_um for axis in axes]


def test_every_place_is_asked_for_its_pixel():
    mask = blobs(5)
    labels, _ = recipe(mask)
    found = reference_from_mask("s", mask, CHALLENGE)
    rng = np.random.default_rng(0)
    points = rng.uniform(-100, 4000, (500, 2))
    hits = found.lesion_at(points)
    for (x, y), hit in zip(points, hits, strict=True):
        row, column = int(y // 32), int(x // 32)
        on_mask = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
        assert hit == (labels[row, column] - 1 if on_mask else -1)
    assert found.lesion_at(np.empty((0, 2))).shape == (0,)


def test_gaps_under_75_um_are_bridged():
    # Pixels of 7.776 µm; a disc of 37.5 µm is 4.82 pixels, so that each side grows by 4.
    def count(gap):
        mask = np.zeros((30, 60), bool)
        mask[10:15, 5:20] = mask[10:15, 20 + gap : 40 + gap] = True
        return len(reference_from_mask("s", mask, CHALLENGE).lesions)

    assert [count(gap) for gap in (1, 8, 9, 12)] == [1, 1, 2, 2]


def test_size_is_that_of_the_tumour_and_the_major_axis_that_of_the_grown_lesion():
    mask = np.zeros((100, 400), bool)
    mask[50, 20:40] = True
    mask[50, 100:358] = True
    small, large = reference_from_mask("s", mask, CHALLENGE).lesions
    assert small.length_mm == pytest.approx(20 * PIXEL_UM / 1000)
    assert (small.size_class, large.size_class) == ("itc", "macro")
    assert small.major_axis_um > small.length_mm * 1000
    assert not small.is_target
    assert large.is_target
    assert reference_from_mask("s", mask, CHALLENGE).targets == 1


def test_a_lesion_is_as_long_as_a_result_that_marks_the_same():
    y, x = np.mgrid[:60, :80]
    for mask in (np.hypot(y - 30.2, (x - 40.1) / 1.3) < 13.1, np.abs(x + y - 70) < 4):
        frame = HeatmapFrame(ModelFrame(scale=1, mpp=PIXEL_UM, size=Size(80, 60)), patch_px=1, stride_px=1)
        index = LesionIndex(mask.astype(np.float32), frame, DetectionSettings(opening_um=0))
        (found,) = index.at(0.5).lesions
        (lesion,) = reference_from_mask("s", mask, CHALLENGE).lesions
        assert lesion.length_mm == pytest.approx(found.length_mm)


def test_a_normal_slide_has_no_lesions():
    found = reference_from_mask("s", np.zeros((50, 60), bool), CHALLENGE)
    assert not found.is_tumour
    assert found.lesions == ()
    normal = Annotation.of_rings(name="n", group="normal", exterior=np.array([(0, 0), (9000, 0), (9000, 9000)]))
    for outlines in ([], [normal]):
        assert not reference_from_annotations("s", outlines, CHALLENGE).is_tumour


def test_tumour_between_the_pixels_makes_a_tumour_slide_without_lesions():
    speck = Annotation.of_rings(name="n", group="_0", exterior=np.array([(100.0, 100.0), (110, 100), (105, 110)]))
    found = reference_from_annotations("s", [speck], CHALLENGE)
    assert found.is_tumour
    assert found.lesions == ()


def test_outlines_and_their_mask_say_the_same():
    rng = np.random.default_rng(4)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    ring = np.c_[np.cos(angle), np.sin(angle)] * rng.uniform(0.6, 1, (40, 1)) * 1500 + (9000, 700)
    hole = (ring - ring.mean(axis=0)) * 0.7 + ring.mean(axis=0)
    outline = Annotation.of_rings(name="n", group="_0", exterior=ring, holes=(hole,))
    found = reference_from_annotations("s", [outline], CHALLENGE)
    # A pixel is tumour where its first corner is: how the organisers' masks are drawn.
    y, x = np.mgrid[:90, :400] * 32.0
    mask = shapely.contains_xy(shapely.Polygon(ring, [hole]), x, y)
    expected = reference_from_mask("s", mask, CHALLENGE)
    (one,), (other,) = found.lesions, expected.lesions
    assert one.window == other.window
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.length_mm == other.length_mm
