"""The index at every threshold against labelling from scratch, in any order of slider moves."""

from __future__ import annotations

import pickle
import threading

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_fields import field, fields

from napari_metastasis.errors import ModelError, RegionError, SettingsError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.lesions import Lesion, LesionIndex, labelling, size_class, surface
from napari_metastasis.settings import DetectionSettings

FLOOR = 0.1


def options(frame, *, side=2, radius=3.0, floor=FLOOR):
    return DetectionSettings(floor=floor, opening_um=side * frame.cell_um, nms_radius_um=radius * frame.cell_um)


def build(values, *, side=2, radius=3.0, floor=FLOOR):
    frame = oracle.frame_of(*values.shape)
    return LesionIndex(values, frame, options(frame, side=side, radius=radius, floor=floor))


def thresholds(values):
    """Return a strategy for thresholds, values of the map among them, where >= differs from >."""
    present = [float(value) for value in np.unique(values[values >= FLOOR])] or [0.5]
    return st.lists(st.one_of(st.floats(FLOOR, 1), st.sampled_from(present)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(values=fields(), side=st.integers(1, 3), data=st.data())
def test_labels_and_lesions_equal_the_oracle_after_any_moves(values, side, data):
    index = build(values, side=side)
    height = oracle.opened_surface(values, side)
    slide, cell_mm = index.frame.model.mpp / 1000, index.frame.cell_um / 1000
    previous = index.labels.copy()
    for threshold in data.draw(thresholds(values)):
        found = index.at(threshold)
        masks = oracle.lesions_at(values, threshold, side)
        touched = np.zeros(values.shape, dtype=bool)
        for region in found.changed:
            touched[region.slices] = True
        assert not (found.labels != previous)[~touched].any()
        previous = found.labels.copy()
        lesions = {lesion.id: lesion for lesion in found.lesions}
        assert len(lesions) == len(found.lesions) == len(masks)
        assert np.count_nonzero(found.labels) == sum(np.count_nonzero(mask) for mask in masks)
        for mask in masks:
            (label,) = np.unique(found.labels[mask])
            lesion = lesions[int(label)]
            assert lesion.probability == values[mask].max()
            assert lesion.area_mm2 == pytest.approx(mask.sum() * cell_mm**2)
            assert lesion.length_mm == pytest.approx(oracle.length(height, mask, threshold) * cell_mm, rel=1e-5)
            assert lesion.size_class == size_class(lesion.length_mm, lesion.nuclei)
            assert lesion.detections == np.count_nonzero(found.detections.lesion == label) >= 1
            assert lesion.outline_px.is_valid
            # The contour passes at most a cell from the squares of the cells.
            rim = lesion.outline_px.length * slide * cell_mm + 4 * cell_mm**2
            assert lesion.outline_px.area * slide**2 == pytest.approx(lesion.area_mm2, abs=rim)


@settings(max_examples=60, deadline=None)
@given(values=fields(), side=st.integers(1, 3), data=st.data())
def test_a_lesion_keeps_the_id_of_its_highest_peak(values, side, data):
    index = build(values, side=side)
    height = oracle.opened_surface(values, side)
    named = {}
    for threshold in data.draw(thresholds(values)):
        labels = index.at(threshold).labels
        for mask in oracle.lesions_at(values, threshold, side):
            top = oracle.first_top(height, mask)
            assert named.setdefault(top, labels[top]) == labels[top]
    assert len(set(named.values())) == len(named)


@settings(max_examples=60, deadline=None)
@given(
    values=fields(kinds=("smooth steps", "white steps")),
    side=st.integers(1, 3),
    radius=st.sampled_from([0.0, 1.0, 1.5, 3.0, 6.5]),
    data=st.data(),
)
def test_detections_equal_the_oracle(values, side, radius, data):
    index = build(values, side=side, radius=radius)
    for threshold in data.draw(thresholds(values)):
        found = index.at(threshold)
        expected = oracle.detections_at(values, threshold, floor=FLOOR, side=side, radius=radius)
        got = {}
        for detection in found.detections:
            cell = index.frame.cell_at(type(index.frame.cell_center(0, 0))(detection.x, detection.y))
            got[round(cell.y, 6), round(cell.x, 6)] = (detection.probability, detection.lesion)
        labels = found.labels
        assert got == {
            (round(row, 6), round(column, 6)): (pytest.approx(probability), labels[top])
            for (row, column), (probability, top) in expected.items()
        }


@settings(max_examples=60, deadline=None)
@given(values=fields(), side=st.integers(1, 3), data=st.data())
def test_every_lesion_has_its_maximum_and_every_detection_lies_in_its_lesion(values, side, data):
    index = build(values, side=side)
    for threshold in data.draw(thresholds(values)):
        found = index.at(threshold)
        detections = found.detections
        assert (np.diff(detections.probability) <= 0).all()
        assert (detections.probability >= np.float32(threshold)).all()
        assert set(detections.lesion.tolist()) == set(np.unique(found.labels).tolist()) - {0}
        first = index.frame.cell_center(0, 0)
        columns = np.rint((detections.x - first.x) / index.frame.cell_px).astype(int)
        rows = np.rint((detections.y - first.y) / index.frame.cell_px).astype(int)
        assert (found.labels[rows, columns] == detections.lesion).all()
        for lesion in found.lesions:
            own = detections.lesion == lesion.id
            assert detections.probability[own].max() == np.float32(lesion.probability)
            strongest = int(np.flatnonzero(own)[0])
            assert (lesion.x, lesion.y) == (detections.x[strongest], detections.y[strongest])


def test_what_was_found_stays_while_the_slider_moves_on():
    values = field(3, 60, 80, "smooth", missing=True)
    index = build(values)
    early = index.at(0.45)
    expected = index.at(0.45)
    expected_lesions = [(lesion.id, lesion.length_mm, lesion.outline_px.wkt) for lesion in expected.lesions]
    for threshold in (0.9, 0.1, 0.6):
        index.at(threshold)
    assert [(lesion.id, lesion.length_mm, lesion.outline_px.wkt) for lesion in early.lesions] == expected_lesions


def test_lesions_are_plain_values_that_travel_without_their_index():
    values = field(3, 400, 500, "smooth", missing=True)
    index = LesionIndex(values, oracle.frame_of(400, 500), DetectionSettings(), map="refined")
    found = index.at(0.55)
    assert len(found.lesions) > 10
    sent = pickle.dumps(found.lesions)
    assert pickle.loads(sent) == found.lesions
    assert pickle.loads(pickle.dumps(found.rows)) == found.rows
    # Two float64 a corner, and some text: the map alone holds 800 kB, the index several times as much.
    corners = sum(shapely.get_num_coordinates(lesion.outline_px) for lesion in found.lesions)
    assert len(sent) < 16 * corners + 400 * len(found.lesions)
    assert {lesion.map for lesion in found.lesions} == {"refined"}
    for row, lesion in zip(found.rows, found.lesions, strict=True):
        assert isinstance(lesion, Lesion)
        assert not isinstance(row, Lesion)
        assert (row.id, row.size_class, row.length_mm) == (lesion.id, lesion.size_class, lesion.length_mm)
        assert found.lesion(row.id) == lesion


def test_a_threshold_below_the_floor_lowers_the_floor():
    values = field(3, 60, 80, "smooth", missing=True)
    frame = oracle.frame_of(60, 80)
    index = LesionIndex(values, frame, DetectionSettings(threshold=0.05, floor=0.1))
    assert index.settings.floor == 0.05
    assert index.settings.threshold == 0.05
    lower = LesionIndex(values, frame, DetectionSettings(threshold=0.05, floor=0.05))
    assert index.at(0.05).lesions == lower.at(0.05).lesions
    assert LesionIndex(values, frame, DetectionSettings(threshold=0.3, floor=0.1)).settings.floor == 0.1


@settings(max_examples=50, deadline=None)
@given(values=fields(max_side=30), data=st.data())
def test_renaming_within_a_rectangle_says_the_same(values, data):
    one, other = build(values), build(values)
    for threshold in data.draw(thresholds(values)):
        with pytest.MonkeyPatch.context() as patch:
            expected = one.at(threshold).labels.copy()
            patch.setattr(labelling, "_MANY", 0)
            patch.setattr(labelling, "_BLOCK", 4)
            previous = other.labels.copy()
            found = other.at(threshold)
        np.testing.assert_array_equal(found.labels, expected)
        touched = np.zeros(values.shape, dtype=bool)
        for region in found.changed:
            touched[region.slices] = True
        assert not (found.labels != previous)[~touched].any()


@pytest.mark.parametrize("tile", [3, 8, 17])
def test_where_a_tile_ends_changes_nothing(monkeypatch, tile):
    values = field(5, 50, 41, "smooth saturated", missing=True)
    whole = build(values, side=3)
    monkeypatch.setattr(surface, "_TILE", tile)
    tiled = build(values, side=3)
    for threshold in (0.3, 0.1, 0.7, 0.5):
        one, other = whole.at(threshold), tiled.at(threshold)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert list(one.detections) == list(other.detections)
        assert [lesion.length_mm for lesion in one.lesions] == [lesion.length_mm for lesion in other.lesions]


def test_nothing_scanned_and_nothing_found():
    blank = build(np.full((5, 7), np.nan, dtype=np.float32))
    found = blank.at(0.5)
    assert np.isnan(found.slide_score)
    assert (len(found.detections), found.lesions, found.changed) == (0, (), ())
    low = build(np.full((5, 7), 0.05, dtype=np.float32)).at(0.5)
    assert low.slide_score == pytest.approx(0.05)
    assert (len(low.detections), low.lesions) == (0, ())
    with pytest.raises(KeyError, match="id of a lesion"):
        low.lesion(1)


def test_the_slide_score_is_the_highest_cell_even_where_the_opening_removes_it():
    values = np.zeros((9, 9), dtype=np.float32)
    values[4, 4] = 0.97
    found = build(values, side=2).at(0.5)
    assert found.slide_score == np.float32(0.97)
    assert found.lesions == ()


def test_a_lesion_scores_its_highest_cell_before_opening():
    values = np.zeros((9, 9), dtype=np.float32)
    values[3:6, 3:6] = 0.8
    values[5, 5] = 0.97
    (lesion,) = build(values, side=2).at(0.5).lesions
    assert lesion.probability == pytest.approx(0.97)


def test_the_map_is_neither_changed_nor_kept():
    values = field(1, 20, 20, "smooth", missing=True)
    before = values.copy()
    index = build(values)
    first = index.at(0.4).labels.copy()
    np.testing.assert_array_equal(values, before)
    values[:] = 0
    index.at(0.9)
    np.testing.assert_array_equal(index.at(0.4).labels, first)


def test_threads_may_share_an_index():
    values = field(2, 80, 80, "smooth", missing=False)
    index = build(values)
    expected = {t: [(d.x, d.y, d.lesion) for d in index.at(t).detections] for t in (0.2, 0.4, 0.6, 0.8)}
    wrong = []

    def work(shift):
        for step in range(40):
            threshold = (0.2, 0.4, 0.6, 0.8)[(step * 3 + shift) % 4]
            if [(d.x, d.y, d.lesion) for d in index.at(threshold).detections] != expected[threshold]:
                wrong.append(threshold)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_wrong_input_is_refused_with_its_remedy():
    frame = oracle.frame_of(4, 5)
    chosen = options(frame)
    with pytest.raises(RegionError, match=r"4 rows and 5 columns, got an array of shape \(5, 4\); pass the frame"):
        LesionIndex(np.zeros((5, 4), dtype=np.float32), frame, chosen)
    for wrong in (np.inf, 1.5, -0.5):
        values = np.zeros((4, 5), dtype=np.float32)
        values[1, 1] = wrong
        with pytest.raises(ModelError, match=r"between 0 and 1, got .*; pass the network"):
            LesionIndex(values, frame, chosen)
    index = LesionIndex(np.zeros((4, 5), dtype=np.float32), frame, chosen)
    for wrong in (0.05, 1.01, np.nan):
        with pytest.raises(SettingsError, match=r"between the floor 0.1 and 1, got .*; choose"):
            index.at(wrong)


@pytest.mark.parametrize("slide_mpp", [0.243, 0.25, 0.486, 0.5, 0.972])
@pytest.mark.parametrize("radius_um", [24.0, 60.0, 400.0])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_a_disc_is_found_within_half_a_cell_at_every_pixel_size(slide_mpp, radius_um, noise):
    slide = Size(round(3000 / slide_mpp), round(2600 / slide_mpp))
    downsamples = (1.0, 2.0, 4.0, 8.0)
    model = ModelFrame.fit(slide=slide, mpp=slide_mpp, model_mpp=0.972, downsamples=downsamples)
    frame = HeatmapFrame(model, 96, 8)
    center = (1503.7 / slide_mpp, 1211.3 / slide_mpp)
    rows, columns = frame.cells.shape
    first = frame.cell_center(0, 0)
    x = first.x + np.arange(columns) * frame.cell_px
    y = (first.y + np.arange(rows) * frame.cell_px)[:, None]
    # What a network answers that looks at one patch: saturated inside, a ramp of a third of the patch at the border.
    away_um = np.hypot(x - center[0], y - center[1]) * slide_mpp
    values = np.clip(0.5 - (away_um - radius_um) / 30, 0.0, 1.0)
    values -= np.random.default_rng(1).random(values.shape) * noise
    found = LesionIndex(np.clip(values, 0, 1).astype(np.float32), frame, DetectionSettings()).at(0.5)
    strongest = found.detections[0]
    assert abs(strongest.x - center[0]) <= frame.cell_px / 2
    assert abs(strongest.y - center[1]) <= frame.cell_px / 2
    (lesion,) = found.lesions
    assert abs(lesion.outline_px.centroid.x - center[0]) <= frame.cell_px / 2
    assert abs(lesion.outline_px.centroid.y - center[1]) <= frame.cell_px / 2
    assert lesion.length_mm == pytest.approx(2 * radius_um / 1000, abs=3 * frame.cell_um / 1000)
