"""What people say of mitoses: matched one to one, counted, and written to the files of a result."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Corrections, add_points, read_points
from napari_metastasis.cohorts.point_reference import point_reference
from napari_metastasis.errors import AnnotationError
from napari_metastasis.lesions import (
    decide_mitosis,
    found_mitoses,
    new_mitoses,
    read_listed_mitoses,
    write_mitoses_csv,
    write_mitoses_geojson,
)
from napari_metastasis.lesions.mitosis_review import review_points
from napari_metastasis.settings import HotSpotSettings
from napari_metastasis.workflows.review import read_from

#: 7.5 µm are 30 px; a circle of 0.02 mm² has a radius of 319 px.
MPP, SPOT = 0.25, HotSpotSettings(area_mm2=0.02)
XY = np.array([[1000.0, 1000], [1020, 1000], [1200, 1000], [5000, 5000], [5050, 5000]])
PROBABILITY = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)


def found(corrections=None):
    return mitoses(XY, PROBABILITY).reviewed(Corrections() if corrections is None else corrections)


def mitoses(xy, probability):
    return found_mitoses(xy, probability, threshold=0.4, mpp=MPP, searched_mm2=2.0, tissue_mm2=4.0, settings=SPOT)


def said(*points, label="mitosis", to=None):
    return add_points(Corrections() if to is None else to, points, label, reviewer="Dr. B")[0]


def test_what_is_rejected_leaves_the_count_and_what_is_added_joins_it():
    plain = found()
    assert (plain.count, plain.per_mm2, plain.spot.count, plain.text) == (5, 2.5, 3, "5 mitoses, 2.5 per mm²")
    assert plain.review_text == ""
    corrections = said((1002.0, 1000), (1201.0, 1000), label="not-mitosis")
    corrections = said((5010.0, 5000), (5100.0, 5100), (5100.0, 5000), to=corrections)
    reviewed = found(corrections)
    states = [one.told for one in reviewed.reviews]
    assert states == ["rejected", "pending", "rejected", "confirmed", "pending", "added", "added"]
    # The densest area is another one now: two that a model found there, and two that it did not.
    assert (reviewed.count, reviewed.per_mm2, reviewed.spot.count) == (5, 2.5, 4)
    assert reviewed.in_spot.tolist() == [False, False, False, True, True, True, True]
    assert reviewed.of_model == 5
    assert np.isnan(reviewed.probability[5:]).all()
    assert reviewed.review_text == "1 confirmed; 2 rejected, not counted; 2 added; 2 pending"
    told = reviewed.to_json()
    assert [told[name] for name in ("count", "found", "reviewed", "confirmed", "rejected", "added")] == [
        5,
        5,
        5,
        1,
        2,
        2,
    ]
    # What was said is forgotten where something else is said.
    assert reviewed.own.to_json() == plain.to_json()
    unread = reviewed.unread()
    assert (len(unread), unread.count) == (5, 5)
    assert unread.review_text == "what people said of them cannot be read"


@pytest.mark.parametrize(
    ("place", "is_new"),
    [
        ((3000.0, 3000), True),
        ((1204.0, 1000), True),  # confirms what the model found
        ((2020.0, 2000), False),  # half a mitosis away from an added one
        ((5052.0, 5000), True),  # on one that was rejected, and says otherwise
        ((4999.0, 5000), False),  # nearer to a confirmed one than the point that confirmed it
        ((2040.0, 2000), True),
    ],
)
def test_a_mitosis_that_is_known_is_not_added_again(place, is_new):
    known = said((2000.0, 2000), (5004.0, 5000))
    known, _ = decide_mitosis(found(known), 4, known, "not-mitosis", model="mitosis-a", reviewer="Dr. B")
    more, (key,) = add_points(known, place, reviewer="Dr. B")
    assert [one.key for one in new_mitoses(found(), known, [more[key]])] == [key] * is_new
    assert found(more).count == found(known).count + (is_new and place[0] != 1204)


def test_what_was_said_of_one_never_goes_over_to_its_neighbour():
    # As many as possible would be matched if the first were about the second.
    reviews = review_points(XY[:2], said((1000.0, 1000), (985.0, 1000), label="not-mitosis"), mpp=MPP).of_found
    assert [one.state for one in reviews] == ["rejected", "pending"]


@pytest.mark.parametrize("label", ["mitosis", "not-mitosis"])
def test_a_decision_stays_with_its_own_point_at_every_threshold(label):
    # A surer one, 5 µm away, and a person's dot on the decided one.
    xy, probability = np.array([[1000.0, 1000], [1020, 1000]]), np.array([0.9, 0.6], np.float32)
    both = mitoses(xy, probability)
    corrections, key = decide_mitosis(both.own, 1, Corrections(), label, model="m", reviewer="A")
    low = both.reviewed(corrections)
    assert [one.keys for one in low.reviews] == [(), (key,)]
    high = mitoses(xy[:1], probability[:1]).reviewed(corrections)
    assert high.reviews[0].told == "pending"
    assert high.count == low.count == (2 if label == "mitosis" else 1)
    # What is dragged is still about the point that was found.
    moved = corrections.with_(replace(corrections[key], shape_px=shapely.Point(1001, 1000)))
    assert [one.keys for one in both.reviewed(moved).reviews] == [(), (key,)]
    # Its own is surer than any that lies nearer to where it was moved, or that another person set: the oracle.
    other = said((1020.0, 1000), to=corrections)
    assert both.reviewed(other).reviews[1].keys == (key,)


@pytest.mark.parametrize(("away_px", "holds"), [(12.0, True), (12.5, False)])
def test_a_decision_holds_for_another_models_point_within_three_micrometres(away_px, holds):
    corrections, _ = decide_mitosis(found(), 3, Corrections(), "not-mitosis", model="a", reviewer="A")
    moved = mitoses(np.add(XY[3:4], (away_px, 0)), PROBABILITY[:1]).reviewed(corrections)
    assert moved.count == (not holds)
    # Two who say the same of one say nothing of its neighbour, 5 µm away.
    twice = said((1000.0, 1000), (1001.0, 1000), label="not-mitosis")
    assert [one.told for one in found(twice).reviews[:2]] == ["rejected", "pending"]


def test_a_mitosis_that_several_set_counts_once():
    corrections, key = decide_mitosis(found(), 3, Corrections(), "mitosis", model="a", reviewer="A")
    # Dots of another person, and of the same: on a confirmed one, and two on one that no model finds.
    dots = said((5004.0, 5000), (9000.0, 9000), (9030.0, 9000), (9031.0, 9031), to=corrections)
    reviewed = found(dots)
    assert reviewed.reviews[3].keys == (key,)
    assert reviewed.xy[5:].tolist() == [[9000, 9000], [9031, 9031]]
    assert reviewed.count == 7
    # Also where the model finds it no more; which was said first does not matter.
    gone = mitoses(XY[:3], PROBABILITY[:3]).reviewed(Corrections.of(reversed(list(dots))))
    assert gone.count == 3 + 3
    assert sum(one.keys == (key,) for one in gone.reviews) == 1
    # Beside what was rejected, an added one is meant.
    rejected, _ = decide_mitosis(found(), 3, Corrections(), "not-mitosis", model="a", reviewer="A")
    assert found(said((5016.0, 5000), to=rejected)).count == 5


def test_at_the_radius_counts_past_it_does_not():
    near = found(said((970.0, 1000), label="not-mitosis"))
    assert near.reviews[0].state == "rejected"
    assert found(said((969.9, 1000), label="not-mitosis")).count == 5


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_those_of_a_slow_search(seed):
    generator = np.random.default_rng(seed)
    xy, places = generator.uniform(0, 200, (30, 2)), generator.uniform(0, 200, (25, 2))
    reviews = review_points(xy, said(*places.tolist(), label="not-mitosis"), mpp=MPP)
    keys = [one.keys for one in reviews.of_found]
    corrections = said(*places.tolist(), label="not-mitosis")
    apart = np.linalg.norm(xy[:, None] - corrections.mitoses_px[None], axis=2)
    expected = set()
    # What lies on a point, within 3 µm, is about that one alone.
    on_it = apart.min(axis=0) <= 12
    apart[:, on_it] = np.where(apart[:, on_it] == apart[:, on_it].min(axis=0), apart[:, on_it], np.inf)
    while apart.min() <= 30:
        row, column = np.unravel_index(apart.argmin(), apart.shape)
        expected.add(int(row))
        apart[row], apart[:, column] = np.inf, np.inf
    assert {row for row, key in enumerate(keys) if key} == expected
    # One to one.
    assert len({key for key in keys if key}) == len(expected)


def test_a_decision_holds_at_other_thresholds_and_counts_once():
    corrections, key = decide_mitosis(found(), 3, Corrections(), "mitosis", model="mitosis-a", reviewer="Dr. B")
    assert found(corrections).reviews[3].keys == (key,)
    # Where the model does not find it any more, it counts as it was.
    kept = mitoses(XY[:2], PROBABILITY[:2]).reviewed(corrections)
    assert (kept.count, kept.reviews[2].state) == (3, "confirmed")
    assert kept.probability[2] == PROBABILITY[3]
    assert kept.xy[2].tolist() == XY[3].tolist()
    # Another model finds it a little away, and somebody decides on that again: it is one mitosis.
    moved = mitoses(XY[3:4] + 8, PROBABILITY[:1])
    both, other = decide_mitosis(moved, 0, corrections, "mitosis", model="mitosis-b", reviewer="Dr. C")
    assert other != key
    assert moved.reviewed(both).count == 1
    # What was said is changed where it was said, and taken back.
    reviewed = found(corrections)
    changed, same = decide_mitosis(reviewed, 3, corrections, "not-mitosis", model="", reviewer="Dr. C")
    assert same == key
    assert found(changed).count == 4
    assert decide_mitosis(found(changed), 3, changed, None, model="", reviewer="")[0] == Corrections()
    own = said((9.0, 9))
    assert not decide_mitosis(found(own), 5, own, None, model="", reviewer="")[0]


def test_files_say_what_people_said_and_keep_what_the_model_found(tmp_path):
    corrections = said((1000.0, 1000), label="not-mitosis")
    reviewed = found(said((9.0, 9), to=corrections))
    path = tmp_path / "mitoses.csv"
    write_mitoses_csv(path, reviewed)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["class"], row["review"], row["reviewer"]) for row in (rows[0], rows[1], rows[5])] == [
        ("1", "Not a mitosis", "rejected", "Dr. B"),
        ("2", "Mitosis", "pending", ""),
        ("P1", "Mitosis", "added", "Dr. B"),
    ]
    assert (rows[0]["in_hot_spot"], rows[5]["probability"]) == ("0", "")
    # What nobody reviewed is no point that a person set.
    points = read_points(path)
    assert (points.classes, len(points.unreviewed)) == (("Not a mitosis", "Mitosis"), 4)
    assert len(points.mitoses) + len(points.unreviewed) == reviewed.count == 5
    listed = read_listed_mitoses(path)
    np.testing.assert_array_equal(listed.xy, XY)
    np.testing.assert_array_equal(listed.probability, PROBABILITY)
    assert (listed.beside_xy.tolist(), listed.looked_at.tolist()) == ([[9.0, 9.0]], [True])
    write_mitoses_geojson(tmp_path / "mitoses.geojson", reviewed, slide="a")
    again = read_points(tmp_path / "mitoses.geojson")
    assert again.classes == points.classes
    np.testing.assert_allclose(again.unreviewed, points.unreviewed, atol=0.01)
    for name in ("mitoses.csv", "mitoses.geojson"):
        imported = read_from(tmp_path / name, bounds=None, reviewer="Dr. C")
        assert sorted(one.label for one in imported.corrections) == ["mitosis", "not-mitosis"]
        assert imported.omitted["mitoses that nobody reviewed"] == 4
        # Whoever imports what was exported counts nothing twice.
        assert found(imported.corrections.with_(*corrections, *said((9.0, 9)))).count == reviewed.count
    write_mitoses_csv(path, found().unread())
    assert len(read_points(path)) == 0
    with pytest.raises(AnnotationError, match=r"got 5 mitoses that nobody reviewed in .*; review them first"):
        point_reference(read_points(path), path=path)
    assert "left out 4 mitoses that nobody reviewed" in point_reference(points, path=path).doubts
    assert "NaN" not in json.dumps(json.loads((tmp_path / "mitoses.geojson").read_text()))
