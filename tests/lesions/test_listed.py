"""What people said of lesions, as files list it: by outlines alone, nothing lost and nothing counted twice."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Correction, Corrections, Finding, read_geojson
from napari_metastasis.geometry import Region, Size
from napari_metastasis.lesions import (
    CorrectionCells,
    LesionIndex,
    annotations_of,
    lesion_of,
    list_lesions,
    listed,
    listed_rows,
    match_corrections,
    review_counts,
    review_text,
    unread_lesions,
    write_lesions_csv,
    write_lesions_geojson,
)
from napari_metastasis.lesions.texts import counted_text
from napari_metastasis.settings import DetectionSettings

MPP = 0.486
SIZE = Size(960, 640)
AT = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def index():
    """Two lobes, which are one lesion at 0.2, and a lesion apart."""
    values = np.full((40, 60), 0.01, np.float32)
    values[5:15, 5:25] = 0.3
    values[5:15, 5:14], values[5:15, 16:25], values[25:35, 40:50] = 0.9, 0.8, 0.95
    frame = oracle.frame_of(*values.shape)
    settings = DetectionSettings(floor=0.1, opening_um=frame.cell_um, nms_radius_um=3 * frame.cell_um)
    return LesionIndex(values, frame, settings)


@pytest.fixture
def lesions(index):
    return index.at(0.5).lesions


def finding(lesion):
    return Finding(
        model="m", map="probability", threshold=0.5, probability=lesion.probability, outline_px=lesion.outline_px
    )


def said(*corrections, **how):
    made = [
        Correction(key=f"k{number}", label=label, shape_px=shape, found=found, reviewer="A", at=AT)
        for number, (label, shape, found) in enumerate(corrections, 1)
    ]
    return Corrections.of(replace(one, **how) for one in made)


def listing(lesions, corrections):
    return list_lesions(lesions, corrections, size=SIZE, mpp=MPP)


def of(lesions, corrections):
    """Return what is listed by number: state, whether it counts, and as what it does."""
    found = listing(lesions, corrections)
    return {
        one.number: (one.review.state, one.counts, one.review.counted_as) for one in (*found.found, *found.drawn)
    }, found


def apart(lesions):
    return max(lesions, key=lambda one: one.x)


def test_shares_by_outlines_are_those_by_the_cells_of_the_map(index):
    generator = np.random.default_rng(3)
    places, radii = generator.uniform((0, 0), (960, 640), (150, 2)), generator.uniform(90, 200, 150)
    labels = generator.choice(["tumour", "normal", "ignore", "undecided"], 150)
    circles = [shapely.Point(*place).buffer(radius) for place, radius in zip(places, radii, strict=True)]
    for threshold in (0.2, 0.5, 0.7):
        found, many = index.at(threshold), 0
        for label, circle in zip(labels.tolist(), circles, strict=True):
            corrections = said((label, circle, None))
            exact = match_corrections(found, corrections, CorrectionCells(index.frame))
            fast = listed._matched(found.lesions, corrections, CorrectionCells(listed.grid_of_outlines(SIZE, MPP)))
            shares = [
                {one.lesion: (one.of_correction, one.of_lesion) for one in each.overlaps.get("k1", ())}
                for each in (exact, fast)
            ]
            for lesion in {*shares[0], *shares[1]}:
                a, b = (each.get(lesion, (0.0, 0.0)) for each in shares)
                np.testing.assert_allclose(a, b, atol=0.12)
                many += 1
                if exact.review(lesion).state != fast.review(lesion).state:
                    # Only at a limit: half of either.
                    assert min(abs(max(a) - 0.5), abs(a[1] - 0.5)) < 0.12
        assert many > 30


def test_what_nobody_spoke_of_is_pending_and_counts(lesions):
    states, found = of(lesions, Corrections())
    assert set(states.values()) == {("pending", True, ())}
    assert (found.drawn, review_text(found.found)) == ((), "")
    # Of the first that has none, and of one that only a neighbour was said of.
    states, _ = of(lesions, said(("tumour", shapely.box(900, 20, 940, 60), None)))
    assert states == {**dict.fromkeys(states, ("pending", True, ())), "P1": ("added", True, ())}


def test_a_rejected_finding_stays_in_the_list_and_counts_no_more(lesions):
    one = apart(lesions)
    states, found = of(lesions, said(("normal", one.outline_px, finding(one))))
    assert states[one.number] == ("rejected", False, ())
    assert len(found.found) == len(lesions)
    before = listed.verdict("s", lesions, whole=True, why="")
    after = listed.verdict("s", found.found, whole=True, why="")
    assert before.verdict == after.verdict
    away = listed.verdict("s", [one for one in found.found if one.review.state == "rejected"], whole=True, why="")
    assert (away.verdict, away.text) == ("negative", "negative (1 rejected, not counted)")
    assert review_text(found.found) == "1 rejected, 2 pending"


def test_an_outline_that_a_person_drew_counts_in_place_of_what_it_covers(lesions):
    one = apart(lesions)
    wider = one.outline_px.buffer(60)
    states, found = of(lesions, said(("tumour", wider, finding(one))))
    assert states[one.number] == ("confirmed", False, (-1,))
    assert states["P1"] == ("confirmed", True, ())
    (drawn,) = found.drawn
    assert drawn.review.is_redrawn
    assert drawn.review.found.outline_px.equals(finding(one).outline_px), "the model's own is kept"
    assert drawn.length_mm > one.length_mm
    assert review_counts((*found.found, *found.drawn))["confirmed"] == 1
    # What was drawn without a finding, too; and one outline over both lobes counts once.
    both = shapely.union_all([each.outline_px for each in lesions if each is not one]).convex_hull
    states, found = of(lesions, said(("tumour", both, None)))
    assert [state for number, state in states.items() if number != one.number] == [
        ("confirmed", False, (-1,)),
        ("confirmed", False, (-1,)),
        ("added", True, ()),
    ]
    assert review_text((*found.found, *found.drawn)) == "1 added, 1 pending"


def test_a_small_outline_within_a_larger_lesion_is_a_part_of_it(index):
    lesions = index.at(0.2).lesions
    one = max(lesions, key=lambda each: each.area_mm2)
    small = shapely.box(100, 100, 150, 150)
    states, _ = of(lesions, said(("tumour", small, None)))
    assert states[one.number] == ("confirmed", True, ())
    assert states["P1"] == ("added", False, (one.id,))
    # Where somebody took the lesion away, the part stands alone.
    states, _ = of(lesions, said(("tumour", small, None), ("normal", one.outline_px, finding(one))))
    assert states["P1"] == ("added", True, ())
    assert states[one.number][:2] == ("pending", True)


def test_what_was_confirmed_counts_as_it_was_once_no_lesion_shows_it(index):
    one = apart(index.at(0.5).lesions)
    corrections = said(("tumour", one.outline_px, finding(one)))
    states, _ = of(index.at(0.5).lesions, corrections)
    assert states[one.number] == ("confirmed", True, ())
    assert "P1" not in states, "the lesion itself stands for it"
    states, found = of(index.at(0.97).lesions, corrections)
    assert states == {"P1": ("confirmed", True, ())}
    assert found.drawn[0].length_mm == pytest.approx(one.length_mm, rel=0.05)
    gone = listing(index.at(0.97).lesions, said(("normal", one.outline_px, finding(one))))
    assert gone.not_shown == {"rejected": 1}
    # A region that was called normal without a finding never was one.
    assert not listing(index.at(0.97).lesions, said(("normal", one.outline_px, None))).not_shown


def test_a_point_alone_is_no_measure(lesions):
    states, found = of(
        lesions, said(("tumour", shapely.Point(900, 40), None), ("tumour", shapely.Point(700, 460), None))
    )
    assert states["P1"] == ("added", True, ())
    assert "P2" not in states, "it confirms the lesion that it lies in"
    assert states[apart(lesions).number] == ("confirmed", True, ())
    (point,) = found.drawn
    verdict = listed.verdict("s", [point], whole=True, why="")
    assert (verdict.verdict, verdict.settled) == ("itc", False)
    assert verdict.text == "at least itc (1 marked by a point, of unknown size; 1 added)"
    assert point.class_text == "Marked by a point: size not known"


def test_two_people_who_draw_one_lesion_found_one(index):
    box, inner, beside = shapely.box(600, 20, 760, 140), shapely.box(620, 40, 700, 100), shapely.box(755, 20, 900, 140)
    corrections = said(*(("tumour", shape, None) for shape in (inner, box, box, beside, shapely.Point(640, 60))))
    states, found = of(index.at(0.97).lesions, corrections)
    assert states == {
        "P1": ("added", False, (-2,)),
        "P2": ("added", True, ()),
        "P3": ("added", False, (-2,)),
        "P4": ("added", True, ()),
        "P5": ("added", False, (-2,)),
    }
    assert review_counts(found.drawn)["added"] == 2


def test_numbers_of_outlines_stay_at_every_threshold(index):
    empty = [shapely.box(900, 20 + 40 * place, 930, 50 + 40 * place) for place in range(3)]
    corrections = said(*(("normal" if place == 0 else "tumour", box, None) for place, box in enumerate(empty)))
    for threshold in (0.2, 0.5, 0.97):
        assert [one.number for one in listing(index.at(threshold).lesions, corrections).drawn] == ["P2", "P3"]


def test_a_window_counts_what_files_list(index):
    generator = np.random.default_rng(7)
    lesions = index.at(0.2).lesions
    for round_ in range(40):
        made = []
        for place, radius in zip(
            generator.uniform((0, 0), (960, 640), (6, 2)), generator.uniform(5, 220, 6), strict=True
        ):
            one = lesions[int(generator.integers(len(lesions)))]
            circle = shapely.Point(*place).buffer(radius)
            made.append(
                (
                    (str(generator.choice(["tumour", "normal", "ignore"])), circle, None),
                    ("tumour", circle, finding(one)),
                    (str(generator.choice(["tumour", "normal"])), one.outline_px, finding(one)),
                    ("tumour", shapely.Point(*place), None),
                )[int(generator.integers(4))]
            )
        corrections = said(*made)
        slow = listing(lesions, corrections)
        cells = CorrectionCells(listed.grid_of_outlines(SIZE, MPP))
        reviewed = listed._matched(lesions, corrections, cells)
        fast = listed_rows(
            index.at(0.2).rows,
            corrections,
            reviewed,
            cells,
            lambda areas: [lesion_of(one.shape_px, number=-999, mpp=MPP) for one in areas],
        )
        expected = [(one.id, one.counts, one.size_class) for one in (*slow.found, *slow.drawn)]
        assert [(one.id, one.counts, one.size_class) for one in fast] == expected, round_
        assert listed.changed_text(fast) == listed.changed_text((*slow.found, *slow.drawn))


def test_what_counts_is_told_by_size_with_what_was_changed(lesions):
    one = apart(lesions)
    assert counted_text(lesions).endswith("clusters of isolated tumour cells")
    every = [
        *listing(lesions, said(("normal", one.outline_px, finding(one)))).found,
        *listing((), said(("tumour", shapely.Point(9, 9), None))).drawn,
    ]
    assert counted_text(every) == (
        "2 clusters of isolated tumour cells, 1 point of unknown size; 1 rejected, not counted; 1 added"
    )
    assert counted_text(every[:0]) == "Nothing at this probability"
    assert counted_text([each for each in every if not each.counts]) == "Nothing that counts; 1 rejected, not counted"
    cut = [replace(each, cut_by_edge=True) for each in every]
    assert "2 cut by the scanned area, may be larger; 1 rejected" in counted_text(cut[:-1])


def test_what_cannot_be_read_takes_nothing_away(lesions):
    found = unread_lesions(lesions)
    assert {one.review.told for one in found.found} == {"unknown"}
    assert listed.verdict("s", found.found, whole=True, why="").review == (
        "what people said of the findings cannot be read"
    )
    assert all(one.counts for one in found.found)


def test_parts_are_measured_together():
    boxes = [shapely.box(0, 0, 30, 40), shapely.box(300, 0, 330, 40)]
    both = lesion_of(shapely.MultiPolygon(boxes), number=1, mpp=2.0)
    assert both.area_mm2 == pytest.approx(2 * 30 * 40 * 4e-6)
    assert both.length_mm == pytest.approx(np.hypot(330, 40) * 2e-3)


def test_files_say_who_said_what_and_other_programs_do_not_count_what_was_taken_away(lesions, tmp_path):
    one, *others = sorted(lesions, key=lambda each: -each.x)
    corrections = said(
        ("normal", one.outline_px, finding(one)),
        ("tumour", others[0].outline_px.buffer(40), finding(others[0])),
        ("ignore", others[1].outline_px, finding(others[1])),
        ("tumour", shapely.Point(900, 40), None),
        comment="=1+1",
        reviewer="Dr. Ä",
    )
    found = listing(lesions, corrections)
    every, bounds = (*found.found, *found.drawn), Region(100, 50, 800, 500)
    write_lesions_csv(tmp_path / "a.csv", every)
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines())}
    rejected, redrawn, own = rows[one.number], rows[others[0].number], rows["P2"]
    assert (rejected["review"], rejected["counted"], rejected["reviewer"]) == ("rejected", "0", "Dr. Ä")
    assert rejected["comment"] == "'=1+1", "no formula for a spreadsheet"
    assert datetime.fromisoformat(rejected["reviewed_at"]) == AT
    assert (redrawn["counted"], redrawn["counted_as"], own["counted"], own["counted_as"]) == ("0", "P2", "1", "")
    assert (own["found_by"], own["found_from"], own["found_probability"]) == ("m", "0.5", redrawn["probability"])
    write_lesions_geojson(tmp_path / "a.geojson", every, slide="s", bounds=bounds)
    features = json.loads((tmp_path / "a.geojson").read_text("utf-8"))["features"]
    by_id = {feature["id"]: feature for feature in features}
    assert by_id["k2"]["properties"]["review"]["found"]["geometry"]["type"] == "Polygon"
    assert by_id["k4"]["geometry"] == {"type": "Point", "coordinates": [800.0, -10.0]}
    back = read_geojson(tmp_path / "a.geojson", shift=(100, 50))
    assert [each.name for each in back.normal] == [f"Lesion {one.number}: rejected"]
    assert [each.name for each in back.ignored] == [f"Lesion {others[1].number}: ignored"]
    assert {each.name for each in back.tumour} == {
        f"Lesion {others[0].number}: confirmed",
        "Lesion P2: confirmed, outline redrawn",
    }
    plain = read_geojson(_written(tmp_path, found.found))
    assert plain.annotations == tuple(each for lesion in found.found for each in annotations_of(lesion))


def _written(folder, lesions):
    write_lesions_geojson(folder / "b.geojson", lesions, slide="s")
    return folder / "b.geojson"
