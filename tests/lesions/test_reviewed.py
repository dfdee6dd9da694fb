"""Corrections are matched to lesions by overlap, at another threshold and on another grid, and doubts are said."""

from __future__ import annotations

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.lesions import CorrectionCells, LesionIndex, match_corrections
from napari_metastasis.settings import DetectionSettings

#: Cells of the two lobes, which are one lesion at 0.3, and of a lesion apart: rows, then columns.
LEFT, RIGHT, APART = (slice(5, 15), slice(5, 14)), (slice(5, 15), slice(16, 25)), (slice(25, 35), slice(40, 50))


@pytest.fixture(params=[(8, 2.0), (4, 2.0)], ids=["as it was", "on a finer grid"])
def index(request):
    stride, scale = request.param
    values = np.full((40, 60), 0.01, np.float32)
    values[5:15, 5:25] = 0.3
    values[LEFT], values[RIGHT], values[APART] = 0.9, 0.8, 0.95
    finer = 8 // stride
    values = values.repeat(finer, 0).repeat(finer, 1)
    frame = oracle.frame_of(*values.shape, scale=scale, stride=stride)
    settings = DetectionSettings(floor=0.1, opening_um=frame.cell_um, nms_radius_um=3 * frame.cell_um)
    return LesionIndex(values, frame, settings)


def square(part, grown=0.0):
    """Return the area of cells of the coarser grid, in level-0 pixels."""
    # A cell is 16 px wide, and the map begins at the slide's corner.
    rows, columns = part
    return shapely.box(
        columns.start * 16 - grown, rows.start * 16 - grown, columns.stop * 16 + grown, rows.stop * 16 + grown
    )


def review(index, threshold, *said):
    """Return what is said of the lesions, by the part that they lie in."""
    found = index.at(threshold)
    corrections = Corrections.of(
        Correction(key=str(number), label=label, shape_px=shape) for number, (label, shape) in enumerate(said)
    )
    reviewed = match_corrections(found, corrections, CorrectionCells(index.frame))
    finer = index.labels.shape[0] // 40

    def at(part):
        label = int(found.labels[part[0].start * finer + 2, part[1].start * finer + 2])
        one = reviewed.review(label)
        return one.state if one.is_clear else "unclear"

    return {name: at(part) for name, part in (("left", LEFT), ("right", RIGHT), ("apart", APART))}, reviewed


def test_a_lesion_that_nobody_spoke_of_is_pending(index):
    states, reviewed = review(index, 0.5)
    assert set(states.values()) == {"pending"}
    ids = [row.id for row in index.at(0.5).rows]
    assert reviewed.pending(ids) == tuple(ids)


@pytest.mark.parametrize(("label", "state"), [("tumour", "confirmed"), ("normal", "rejected"), ("ignore", "ignored")])
def test_the_lesion_beneath_a_correction_is_what_it_says(index, label, state):
    states, reviewed = review(index, 0.5, (label, square(APART)))
    assert states == {"left": "pending", "right": "pending", "apart": state}
    assert len(reviewed.pending([row.id for row in index.at(0.5).rows])) == 2
    assert reviewed.alone == ()


def test_what_was_confirmed_stays_so_when_the_lesion_grows_and_when_it_parts(index):
    at_half, _ = review(index, 0.2, ("tumour", square(LEFT)))
    assert at_half == {"left": "confirmed", "right": "confirmed", "apart": "pending"}
    parted, _ = review(index, 0.5, ("tumour", square(LEFT).union(square(RIGHT))))
    assert parted["left"] == parted["right"] == "confirmed"


def test_a_small_rejected_part_does_not_take_a_large_lesion_away(index):
    part = slice(5, 15), slice(5, 9)
    states, _ = review(index, 0.2, ("normal", square(part)))
    assert states["left"] == "unclear"


def test_what_does_not_fit_together_is_said(index):
    states, reviewed = review(index, 0.2, ("tumour", square(LEFT)), ("normal", square(RIGHT)))
    assert states["left"] == states["right"] == "unclear"
    apart, _ = review(index, 0.5, ("tumour", square(LEFT)), ("normal", square(RIGHT)))
    assert (apart["left"], apart["right"]) == ("confirmed", "rejected")
    (lesion,) = {int(index.at(0.2).labels[0 + 6 * (index.labels.shape[0] // 40), 6 * (index.labels.shape[0] // 40)])}
    assert set(reviewed.review(lesion).keys) == {"0", "1"}


def test_a_benign_island_in_a_confirmed_lesion_leaves_it_confirmed(index):
    island = slice(8, 10), slice(8, 10)
    states, _ = review(index, 0.5, ("tumour", square(LEFT)), ("normal", square(island)))
    assert states["left"] == "confirmed"


def test_the_same_place_twice_covers_no_more_than_once(index):
    part = slice(5, 15), slice(5, 8)
    states, _ = review(index, 0.5, ("normal", square(part)), ("normal", square(part)))
    assert states["left"] == "unclear"


def test_a_neighbour_that_barely_touches_says_nothing_and_one_that_overlaps_a_fifth_is_unclear(index):
    rows, columns = APART
    touching = slice(rows.start, rows.stop), slice(columns.stop, columns.stop + 20)
    states, _ = review(index, 0.5, ("tumour", square(touching, grown=7)))
    assert states["apart"] == "pending"
    overlapping = slice(rows.start, rows.stop), slice(columns.stop - 2, columns.stop + 18)
    states, _ = review(index, 0.5, ("tumour", square(overlapping)))
    assert states["apart"] == "unclear"


def test_a_point_speaks_of_the_lesion_that_it_lies_in(index):
    point = square(APART).centroid
    assert review(index, 0.5, ("tumour", point))[0]["apart"] == "confirmed"
    # A point covers too little of a lesion to take it away.
    assert review(index, 0.5, ("normal", point))[0]["apart"] == "unclear"


def test_what_lies_where_no_lesion_is_stands_alone_and_what_is_off_the_slide_harms_nothing(index):
    empty, off = shapely.box(600, 20, 700, 100), shapely.box(-5000, -5000, -4000, -4000)
    states, reviewed = review(index, 0.5, ("tumour", empty), ("normal", off), ("undecided", square(APART)))
    assert reviewed.alone == ("0", "1")
    assert set(states.values()) == {"pending"}


def test_an_area_smaller_than_a_cell_is_found_where_it_lies(index):
    x, y = square(APART).centroid.coords[0]
    assert review(index, 0.5, ("tumour", shapely.box(x, y, x + 1, y + 1)))[0]["apart"] == "confirmed"


def test_cells_are_found_anew_once_an_outline_changes(index):
    cells = CorrectionCells(index.frame)
    first = Correction(key="a", label="tumour", shape_px=square(APART))
    again = Correction(key="a", label="normal", shape_px=first.shape_px)
    assert cells.of(first) is cells.of(again)
    other = Correction(key="a", label="tumour", shape_px=square(LEFT))
    assert len(cells.of(other)) == len(cells.of(first)) * 9 // 10


def test_many_points_at_once_say_what_each_says_alone(index):
    found, cells = index.at(0.2), CorrectionCells(index.frame)
    places = np.random.default_rng(5).uniform(-100, 1100, (300, 2))
    corrections = Corrections.of(
        Correction(key=str(number), label="normal", shape_px=shapely.Point(place))
        for number, place in enumerate(places)
    )
    reviewed = match_corrections(found, corrections, cells)
    under = {one.key: cells.of(one).under(found.labels).tolist() for one in corrections}
    for one in corrections:
        lesions = [label for label in under[one.key] if label]
        assert (one.key in reviewed.alone) == (not lesions)
        assert [label for label in lesions if one.key not in reviewed.review(label).keys] == []
    assert any(under.values())


def test_what_was_found_out_of_a_correction_is_found_out_anew_with_other_lesions(index):
    cells = CorrectionCells(index.frame)
    corrections = Corrections.of([Correction(key="a", label="tumour", shape_px=square(LEFT).union(square(RIGHT)))])
    for threshold, lesions in ((0.2, 1), (0.5, 2), (0.85, 1), (0.2, 1)):
        reviewed = match_corrections(index.at(threshold), corrections, cells)
        fresh = match_corrections(index.at(threshold), corrections, CorrectionCells(index.frame))
        assert reviewed == fresh
        assert len(reviewed.of_lesion) == lesions
    more = CorrectionCells(index.frame).with_cells_of(corrections)
    assert more.lacking(corrections) == ()
    assert match_corrections(index.at(0.5), corrections, more) == match_corrections(index.at(0.5), corrections, cells)


def told(reviewed):
    # Of equals, which comes first depends on which was said first.
    return {
        lesion: (one.state, one.is_clear, set(one.keys), set(one.about)) for lesion, one in reviewed.of_lesion.items()
    }


def test_what_follows_change_by_change_is_what_is_found_at_once(index):
    found, cells, generator = index.at(0.2), CorrectionCells(index.frame), np.random.default_rng(8)
    corrections = Corrections()
    for step in range(60):
        key, label = str(generator.integers(12)), str(generator.choice(["tumour", "normal", "ignore", "undecided"]))
        x, y = generator.uniform(0, 900), generator.uniform(0, 600)
        shape = shapely.Point(x, y) if step % 4 == 0 else shapely.box(x, y, x + 160, y + 120)
        corrections = (
            corrections.without(key)
            if step % 7 == 6
            else corrections.with_(Correction(key=key, label=label, shape_px=shape))
        )
        followed = match_corrections(found, corrections, cells)
        fresh = match_corrections(found, corrections, CorrectionCells(index.frame))
        assert followed.alone == fresh.alone
        assert told(followed) == told(fresh)
        assert followed.decided == sum(one.state != "pending" for one in fresh.of_lesion.values())
