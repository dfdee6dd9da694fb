"""What a person says of a lesion becomes one correction, and what is said last holds where it is said."""

from __future__ import annotations

import math

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.lesions import CorrectionCells, LesionIndex, decide, doubt, match_corrections
from napari_metastasis.settings import DetectionSettings

LEFT, RIGHT = (slice(5, 15), slice(5, 14)), (slice(5, 15), slice(16, 25))


@pytest.fixture
def index():
    values = np.full((40, 60), 0.01, np.float32)
    values[5:15, 5:25] = 0.3
    values[LEFT], values[RIGHT] = 0.9, 0.8
    frame = oracle.frame_of(40, 60, scale=2.0, stride=8)
    return LesionIndex(values, frame, DetectionSettings(floor=0.1, opening_um=16, nms_radius_um=48))


class Slide:
    """A slide at a threshold, and what is said of it."""

    def __init__(self, index):
        self.index, self.corrections, self.cells = index, Corrections(), CorrectionCells(index.frame)
        self.look(0.5)

    def look(self, threshold):
        self.found = self.index.at(threshold)
        return match_corrections(self.found, self.corrections, self.cells)

    def lesion(self, part):
        return int(self.found.labels[part[0].start + 2, part[1].start + 2])

    def say(self, part, label, **more):
        reviewed, lesion = self.look(self.found.threshold), self.lesion(part)
        review = reviewed.review(lesion)
        made = decide(self.found, lesion, review, self.corrections, label, model="m", reviewer="A", **more)
        self.corrections = made.corrections
        return self.look(self.found.threshold).review(lesion)

    def draw(self, key, label, shape):
        self.corrections = self.corrections.with_(Correction(key=key, label=label, shape_px=shape))


@pytest.fixture
def slide(index):
    return Slide(index)


@pytest.mark.parametrize(("label", "state"), [("tumour", "confirmed"), ("normal", "rejected"), ("ignore", "ignored")])
def test_one_correction_speaks_of_a_lesion_however_often_it_is_decided(slide, label, state):
    first = slide.say(LEFT, "tumour", comment="at the sinus")
    assert first.state == "confirmed"
    assert slide.say(LEFT, label).state == state
    (said,) = slide.corrections
    assert (said.comment, said.reviewer, said.found.map, said.found.threshold) == (
        "at the sinus",
        "A",
        "probability",
        0.5,
    )
    assert said.found.probability == pytest.approx(0.9)
    assert not said.is_redrawn
    assert slide.say(LEFT, "undecided").state == "pending"
    assert [one.state for one in slide.corrections] == ["pending"]


def test_a_decision_on_a_lesion_that_joins_others_takes_the_place_of_those_on_its_parts(slide):
    slide.say(LEFT, "tumour")
    slide.say(RIGHT, "normal")
    assert not slide.look(0.2).review(slide.lesion(LEFT)).is_clear
    assert slide.say(LEFT, "normal").state == "rejected"
    (said,) = slide.corrections
    assert said.found.threshold == 0.2
    assert slide.say(LEFT, "tumour").state == "confirmed"


def test_what_a_person_redrew_stays_as_it_was_drawn(slide):
    slide.say(LEFT, "tumour")
    (said,) = slide.corrections
    smaller = said.shape_px.buffer(-8)
    slide.draw(said.key, "tumour", smaller)
    slide.corrections = Corrections.of([Correction(key="r", label="tumour", shape_px=smaller, found=said.found)])
    assert slide.say(LEFT, "tumour").state == "confirmed"
    # Corners lie on a grid.
    assert slide.corrections["r"].shape_px.equals_exact(smaller, 0.01)
    assert slide.say(LEFT, "normal").state == "rejected"
    # All that is shown there is taken away.
    assert slide.corrections["r"].shape_px.area >= said.shape_px.area * 0.99


def test_what_is_said_last_is_cut_out_of_what_else_was_said_there(slide):
    lesion = slide.found.lesion(slide.lesion(LEFT)).outline_px
    region = shapely.box(0, 0, 900, 600)
    slide.draw("region", "normal", region)
    slide.draw("point", "ignore", lesion.centroid)
    slide.draw("away", "normal", shapely.Point(800, 500))
    assert slide.say(LEFT, "tumour").state == "confirmed"
    assert slide.corrections["region"].shape_px.area == pytest.approx(region.area - lesion.area)
    assert "point" not in slide.corrections
    assert "away" in slide.corrections
    assert len(slide.corrections) == 3


def test_the_doubt_is_least_at_the_threshold_and_even_on_both_sides_of_it():
    assert doubt(0.5, 0.5) == 0
    assert doubt(0.4, 0.5) == pytest.approx(doubt(0.6, 0.5))
    assert doubt(0.2, 0.2) < doubt(0.3, 0.2) < doubt(0.9, 0.2) < doubt(1.0, 0.2) < math.inf
    assert doubt(None, 0.5) == math.inf
