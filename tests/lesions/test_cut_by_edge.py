"""Which lesions are cut by the edge of what was scanned, at every threshold, against labelling twice from scratch."""

from __future__ import annotations

import lesion_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_fields import fields
from scipy import ndimage

from napari_metastasis.errors import RegionError
from napari_metastasis.lesions import LesionIndex, LesionRow, surface
from napari_metastasis.settings import DetectionSettings

FLOOR = 0.1


def index_of(values, unanswered, *, side=1):
    frame = oracle.frame_of(*values.shape)
    options = DetectionSettings(floor=FLOOR, opening_um=side * frame.cell_um)
    return LesionIndex(values, frame, options, unanswered=unanswered)


def cut_lesions(values, unanswered, threshold, side):
    """Return whether each lesion touches tissue without an answer, or grows once that is taken for tumour."""
    answered = np.nan_to_num(values, nan=-1.0) >= np.float32(threshold)
    grown, _ = ndimage.label(oracle.opened_mask(answered | unanswered, side), oracle.EIGHT)
    beside = ndimage.binary_dilation(unanswered, oracle.EIGHT)
    found = []
    for mask in oracle.lesions_at(values, threshold, side):
        (label,) = np.unique(grown[mask])
        found.append((mask, bool((beside & mask).any() or (unanswered & (grown == label)).any())))
    return found


@settings(max_examples=150, deadline=None)
@given(values=fields(), side=st.integers(1, 4), seed=st.integers(0, 99), data=st.data())
def test_lesions_are_cut_as_the_oracle_says_at_any_threshold(values, side, seed, data):
    unanswered = np.isnan(values) & (np.random.default_rng(seed).random(values.shape) < 0.8)
    index = index_of(values, unanswered, side=side)
    present = [float(value) for value in np.unique(values[values >= FLOOR])] or [0.5]
    for threshold in data.draw(st.lists(st.sampled_from(present), min_size=1, max_size=6)):
        found = index.at(threshold)
        rows = {row.id: row for row in found.rows}
        for mask, cut in cut_lesions(values, unanswered, threshold, side):
            (label,) = np.unique(found.labels[mask])
            assert rows[int(label)].cut_by_edge == cut


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("turn", range(4))
def test_half_a_lesion_at_the_edge_of_the_scan_is_cut_and_one_at_glass_or_the_border_is_not(side, turn):
    values = np.full((40, 40), 0.02, np.float32)
    values[8:20, 10:30] = 0.9  # goes on below row 20
    values[0:5, 0:5] = 0.9  # at the slide's corner
    values[8:14, 34:40] = 0.9  # at its border
    values[14:19, 0:6] = 0.9  # at glass
    values[20:] = np.nan
    tissue = np.ones(values.shape, bool)
    tissue[:, :9] = False
    unanswered = tissue & np.isnan(values)
    values, unanswered = np.rot90(values, turn).copy(), np.rot90(unanswered, turn).copy()
    rows = index_of(values, unanswered, side=side).at(0.5).rows
    assert [row.cut_by_edge for row in sorted(rows, key=lambda row: row.area_mm2)] == [False, False, False, True]
    assert not any(row.cut_by_edge for row in index_of(values, None, side=side).at(0.5).rows)


def test_cells_that_the_opening_takes_away_do_not_hide_that_a_lesion_goes_on():
    """No square fits into the two columns between the lesion and the edge, but one would once more is scanned."""
    values = np.full((30, 30), 0.02, np.float32)
    values[10:14, 10:14] = 0.9
    values[14:18, 14:16] = 0.9
    values[:, 16:] = np.nan
    unanswered = np.isnan(values)
    (row,) = index_of(values, unanswered, side=4).at(0.5).rows
    assert row.cut_by_edge
    values[17, 15] = 0.02
    (row,) = index_of(values, unanswered, side=4).at(0.5).rows
    assert not row.cut_by_edge


def test_the_edge_is_found_across_the_tiles_that_the_map_is_worked_in(monkeypatch):
    monkeypatch.setattr(surface, "_TILE", 7)
    rng = np.random.default_rng(3)
    values = ndimage.gaussian_filter(rng.random((60, 60)), 1.5)
    values = ((values - values.min()) / np.ptp(values)).astype(np.float32)
    values[25:, 30:] = np.nan
    unanswered = np.isnan(values)
    for side in (1, 3):
        found = index_of(values, unanswered, side=side).at(0.6)
        rows = {row.id: row for row in found.rows}
        expected = cut_lesions(values, unanswered, 0.6, side)
        assert 0 < sum(cut for _, cut in expected) < len(expected)
        assert [rows[int(found.labels[mask].max())].cut_by_edge for mask, _ in expected] == [cut for _, cut in expected]


def test_unanswered_cells_of_another_map_are_refused():
    values = np.full((4, 5), 0.5, np.float32)
    with pytest.raises(RegionError, match="expected a heatmap of 4 rows and 5 columns, got an array of shape"):
        index_of(values, np.zeros((5, 4), bool))


@pytest.mark.parametrize(
    ("length_mm", "cut", "text", "short"),
    [
        (0.1, False, "Isolated tumour cells", "ITC"),
        (0.1, True, "ITC or larger, cut by the scanned area", "ITC or larger"),
        (0.5, False, "Micro-metastasis", "Micro"),
        (0.5, True, "Micro or larger, cut by the scanned area", "Micro or larger"),
        (2.5, False, "Macro-metastasis", "Macro"),
        (2.5, True, "Macro-metastasis, cut by the scanned area", "Macro"),
    ],
)
def test_the_class_of_a_cut_lesion_is_the_smallest_that_it_can_be(length_mm, cut, text, short):
    row = LesionRow(
        id=1, x=0, y=0, probability=1, area_mm2=1, length_mm=length_mm, detections=1, map=None, cut_by_edge=cut
    )
    assert (row.class_text, row.class_short) == (text, short)
