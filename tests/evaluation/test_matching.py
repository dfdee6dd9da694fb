"""What detections hit, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cohorts import detections

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation import SlideReference, match_slide, reference_from_mask
from napari_metastasis.settings import EvaluationSettings


@pytest.fixture(scope="module")
def reference():
    """A micro-metastasis at x 640..1600, y 640..1280, and isolated cells at x 3200..3264, in level-0 pixels."""
    mask = np.zeros((80, 140), bool)
    mask[20:40, 20:50] = True
    mask[20:22, 100:102] = True
    found = reference_from_mask("s", mask, EvaluationSettings(), extent=(140 * 32, 80 * 32))
    assert [lesion.is_target for lesion in found.lesions] == [True, False]
    return found


def test_a_lesion_keeps_its_strongest_hit_and_the_others_are_free(reference):
    result = match_slide(detections((0.4, 700, 700), (0.9, 1000, 900), (0.6, 1500, 1200)), reference)
    assert result.hits == (0.9,)
    assert result.repeated == 2
    assert len(result.false_positives) == 0
    assert result.score == 0.9


def test_a_detection_on_isolated_cells_is_neither_hit_nor_false(reference):
    result = match_slide(detections((0.8, 3210, 650)), reference)
    assert result.hits == ()
    assert result.targets == 1
    assert result.on_itc == 1
    assert len(result.false_positives) == 0
    assert [lesion.is_found for lesion in result.lesions] == [False, True]
    assert result.score == 0.8


def test_within_half_the_merging_distance_is_a_hit_and_past_it_is_false(reference):
    # Grown by 4 pixels of 32 px to the left of x = 640.
    result = match_slide(detections((0.7, 640 - 4 * 32, 900), (0.5, 640 - 4 * 32 - 1, 900)), reference)
    assert result.hits == (0.7,)
    assert result.false_positives.tolist() == [0.5]


def test_a_slide_without_detections_misses_everything(reference):
    result = match_slide(detections(), reference)
    assert result.hits == ()
    assert result.score == 0
    assert result.is_tumour
    assert [lesion.probability for lesion in result.lesions] == [None, None]


def test_on_a_normal_slide_everything_is_false():
    normal = SlideReference(slide="s", is_tumour=False, downsample=32)
    result = match_slide(detections((0.3, 5, 5), (0.2, 1e6, -40)), normal)
    assert result.false_positives.tolist() == [0.3, 0.2]
    assert not result.is_tumour


def test_what_does_not_belong_together_is_refused(reference):
    with pytest.raises(EvaluationError, match="of one slide, got other and s; pair"):
        match_slide(detections(slide="other"), reference)
    with pytest.raises(EvaluationError, match=r"4480 x 2560 px, got one at \(4480, 3\); check"):
        match_slide(detections((0.5, 4480, 3)), reference)
    with pytest.raises(EvaluationError, match=r"got one at \(2, -1\); check"):
        match_slide(detections((0.5, 2, -1)), reference)
