"""Contours: smooth lines where the interpolated probability is the threshold, in their place on the slide."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_fields import fields
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import find_contours

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.lesions import ContourLines, LesionIndex, contour_lines
from napari_metastasis.settings import DetectionSettings


def frame_of(rows: int, columns: int, *, mpp: float = 0.25, stride_px: int = 8) -> HeatmapFrame:
    scale = 0.972 / mpp
    return HeatmapFrame(
        ModelFrame(scale=scale, mpp=mpp, size=Size(columns * stride_px, rows * stride_px)), 96, stride_px
    )


def drawn(probabilities: np.ndarray, threshold: float, *, opening_um: float = 0.0) -> ContourLines:
    """Return all contours of a map, drawn at once with a border of nothing."""
    rows, columns = probabilities.shape
    frame = frame_of(rows, columns)
    index = LesionIndex(probabilities, frame, DetectionSettings(threshold=threshold, opening_um=opening_um))
    labels = np.pad(index.at(threshold).labels, 1)
    values = np.pad(probabilities, 1, constant_values=np.nan)
    return contour_lines(labels, values, threshold, cells=Region(-1, -1, columns + 2, rows + 2), frame=frame)


def in_cells(lines: ContourLines, frame: HeatmapFrame) -> np.ndarray:
    """Return the ends of lines as (row, column) in cells."""
    origin = frame.cell_center(0, 0)
    return ((lines.ends - (origin.x, origin.y)) / frame.cell_px)[..., ::-1]


def strokes(ends: np.ndarray) -> list[tuple[tuple[float, ...], ...]]:
    """Return lines as comparable values, whichever end comes first."""
    return sorted(tuple(sorted(map(tuple, line))) for line in ends.round(4).tolist())


@pytest.mark.parametrize("mpp", [0.243, 0.25, 0.486, 0.5, 0.972])
def test_the_contour_of_a_disc_lies_where_the_disc_lies(mpp):
    rows, columns = 60, 70
    frame = frame_of(rows, columns, mpp=mpp)
    y, x = np.mgrid[:rows, :columns]
    center, radius = (31.3, 27.6), 14.2
    blurred = np.clip(0.5 + (radius - np.hypot(y - center[0], x - center[1])) / 4, 0, 1).astype(np.float32)
    labels = (blurred >= 0.5).astype(np.int32)
    lines = contour_lines(labels, blurred, 0.5, cells=Region(0, 0, columns, rows), frame=frame)
    middles, lengths = lines.ends.mean(axis=1), np.hypot(*(lines.ends[:, 1] - lines.ends[:, 0]).T)
    centroid = np.average(middles, axis=0, weights=lengths)
    expected = frame.cell_center(center[1], center[0])
    assert np.hypot(*(centroid - (expected.x, expected.y))) < 0.05 * frame.cell_px
    radii = np.hypot(*(lines.ends.reshape(-1, 2) - (expected.x, expected.y)).T)
    np.testing.assert_allclose(radii, radius * frame.cell_px, atol=0.1 * frame.cell_px)


@given(fields(kinds=("white", "smooth", "smooth saturated")), st.floats(0.2, 0.9))
@settings(max_examples=60, deadline=None)
def test_a_whole_map_has_the_contours_that_scikit_image_finds(probabilities, threshold):
    answered = np.nan_to_num(probabilities, nan=0.0).astype(np.float32)
    # What lies at the very threshold is inside here, and outside there.
    answered[np.abs(answered - threshold) < 1 / 60] = 0.0
    lines = drawn(answered, threshold)
    # The map ends as if it were answered by nothing; with zeros around, both see the same.
    frame = frame_of(*answered.shape)
    bordered = np.pad(answered, 2)
    labels = np.pad((answered >= np.float32(threshold)).astype(np.int32), 2)
    whole = contour_lines(
        labels, bordered, threshold, cells=Region(-2, -2, bordered.shape[1], bordered.shape[0]), frame=frame
    )
    found = [
        np.stack((ring[:-1], ring[1:]), axis=1)
        for ring in find_contours(bordered.astype(float), float(np.float32(threshold)), fully_connected="high")
    ]
    expected = np.concatenate(found) - 2 if found else np.zeros((0, 2, 2))
    np.testing.assert_allclose(
        np.array(strokes(in_cells(whole, frame))).reshape(-1), np.array(strokes(expected)).reshape(-1), atol=2e-3
    )
    assert len(lines) == len(whole)


@given(fields(), st.sampled_from([0.0, 31.0]), st.floats(0.2, 0.9))
@settings(max_examples=60, deadline=None)
def test_every_lesion_is_gone_round_by_closed_lines_within_a_cell_of_it(probabilities, opening_um, threshold):
    rows, columns = probabilities.shape
    frame = frame_of(rows, columns)
    index = LesionIndex(probabilities, frame, DetectionSettings(threshold=threshold, opening_um=opening_um))
    found = index.at(threshold)
    lines = drawn(probabilities, threshold, opening_um=opening_um)
    assert set(lines.lesion.tolist()) == {row.id for row in found.rows}
    ends = in_cells(lines, frame)
    # Closed: an even number of lines meets in every end.
    meeting = Counter((round(y, 6), round(x, 6)) for y, x in ends.reshape(-1, 2).tolist())
    assert all(count % 2 == 0 for count in meeting.values())
    # Only around the lesion's own cells: never through what the opening took away, or past a whole cell.
    for lesion, line in zip(lines.lesion.tolist(), ends, strict=True):
        own = np.argwhere(found.labels == lesion)
        for end in line:
            assert np.abs(own - end).max(axis=1).min() < 1


def test_a_hole_has_a_contour_of_its_own():
    probabilities = np.full((12, 12), 0.9, np.float32)
    probabilities[4:8, 4:8] = 0.1
    ends = in_cells(drawn(probabilities, 0.5), frame_of(12, 12))
    distance = np.abs(ends.reshape(-1, 2) - 5.5).max(axis=1)
    assert set(np.round(distance, 2)) == {2.0, 6.0} or (distance.min() < 2.1 and distance.max() > 5.9)
    assert not ((distance > 2.6) & (distance < 5.4)).any()


def test_the_line_lies_on_the_edge_of_what_was_scanned():
    probabilities = np.full((10, 10), 0.95, np.float32)
    probabilities[:, 5:] = np.nan
    ends = in_cells(drawn(probabilities, 0.6), frame_of(10, 10)).reshape(-1, 2)
    assert ends[:, 1].max() == pytest.approx(4.5)
    assert ends.min() == pytest.approx(-0.5)


def test_cells_that_the_opening_took_away_have_no_line():
    probabilities = np.zeros((20, 30), np.float32)
    probabilities[4:14, 4:14] = 0.9
    probabilities[8, 14:25] = 0.9  # one cell thin: no lesion
    ends = in_cells(drawn(probabilities, 0.5, opening_um=31.0), frame_of(20, 30)).reshape(-1, 2)
    assert ends[:, 1].max() <= 13.5 + 1e-6


def test_parts_that_share_their_cells_join():
    rng = np.random.default_rng(5)
    probabilities = rng.random((40, 50)).astype(np.float32)
    frame = frame_of(40, 50)
    labels = (probabilities >= 0.5).astype(np.int32)

    def part(cells: Region) -> ContourLines:
        return contour_lines(labels[cells.slices], probabilities[cells.slices], 0.5, cells=cells, frame=frame)

    whole = part(Region(0, 0, 50, 40))
    split = [part(Region(0, 0, 21, 40)), part(Region(20, 0, 30, 40))]
    assert strokes(whole.ends) == strokes(np.concatenate([one.ends for one in split]))


def test_lines_follow_each_other_with_the_lesion_to_their_right():
    rng = np.random.default_rng(4)
    probabilities = rng.random((30, 30)).astype(np.float32)
    lines = drawn(probabilities, 0.6)
    assert (lines.following >= 0).all()
    np.testing.assert_allclose(lines.ends[:, 1], lines.ends[lines.following, 0])
    np.testing.assert_array_equal(lines.lesion, lines.lesion[lines.following])
    disc = np.zeros((30, 30), np.float32)
    disc[4:20, 6:24] = 0.9
    disc[8:14, 9:20] = 0.1
    lines = drawn(disc, 0.6)
    begin, end = lines.ends[:, 0], lines.ends[:, 1]
    # Shoelace: clockwise on the screen around the lesion, the other way round in its hole.
    area = (begin[:, 0] * end[:, 1] - begin[:, 1] * end[:, 0]) / 2 / frame_of(30, 30).cell_px ** 2
    _, ring = connected_components(coo_array((np.ones(len(lines)), (np.arange(len(lines)), lines.following))))
    hole, whole = sorted(np.bincount(ring, area))
    assert hole == pytest.approx(-6 * 11, rel=0.2)
    assert whole == pytest.approx(16 * 18, rel=0.1)


def test_simplified_lines_stay_near_and_closed_and_lose_no_lesion():
    rng = np.random.default_rng(9)
    probabilities = np.zeros((200, 200), np.float32)
    for row, column in rng.integers(5, 195, (60, 2)):
        probabilities[row : row + 2, column : column + 2] = 0.9
    y, x = np.mgrid[:200, :200]
    probabilities[np.hypot(y - 100, x - 100) < 40] = 0.8
    lines = drawn(probabilities, 0.5)
    for cells in (0.1, 1.0, 3.0):
        tolerance = cells * frame_of(200, 200).cell_px
        fewer = lines.simplified(tolerance)
        assert set(fewer.lesion.tolist()) == set(lines.lesion.tolist())
        begin, end = fewer.ends[:, 0], fewer.ends[:, 1]
        for lesion in set(lines.lesion.tolist()):
            own = fewer.lesion == lesion
            left = shapely.union_all([shapely.LineString(line) for line in fewer.ends[own]])
            every = shapely.points(lines.ends[lines.lesion == lesion, 0])
            assert shapely.distance(left, every).max() <= tolerance + 1e-9
        ring = fewer.following >= 0
        np.testing.assert_array_equal(end[ring], begin[fewer.following[ring]])
    assert len(fewer) < len(lines) / 5
    assert len(ContourLines.none().simplified(1.0)) == 0


def test_simplified_parts_still_join():
    probabilities = np.zeros((60, 60), np.float32)
    y, x = np.mgrid[:60, :60]
    probabilities[np.hypot(y - 30, x - 30) < 22] = 0.8
    frame, labels = frame_of(60, 60), (probabilities > 0).astype(np.int32)
    ends = []
    for cells in (Region(0, 0, 31, 60), Region(30, 0, 30, 60)):
        part = contour_lines(labels[cells.slices], probabilities[cells.slices], 0.5, cells=cells, frame=frame)
        assert np.count_nonzero(part.following < 0) == 1
        ends.append(part.simplified(100.0).ends.reshape(-1, 2))
    joined = {tuple(end) for end in ends[0].round(6).tolist()} & {tuple(end) for end in ends[1].round(6).tolist()}
    assert len(joined) == 2


def test_chosen_and_joined_lines_know_what_follows():
    probabilities = np.zeros((40, 40), np.float32)
    probabilities[3:8, 3:8] = probabilities[20:30, 20:30] = 0.9
    lines = drawn(probabilities, 0.5)
    one, other = (lines.chosen(lines.lesion == lesion) for lesion in (1, 2))
    for part in (one, other, ContourLines.joined([one, other])):
        np.testing.assert_allclose(part.ends[:, 1], part.ends[part.following, 0])
    assert strokes(ContourLines.joined([other, one]).ends) == strokes(lines.ends)
    cut = one.chosen(np.arange(len(one)) != one.following[0])
    assert np.count_nonzero(cut.following < 0) == 1
    assert len(ContourLines.joined([])) == 0


def test_lesions_of_a_few_pixels_are_dots_and_larger_ones_stay_as_they_are():
    square = np.array([[(0, 0), (4, 0)], [(4, 0), (4, 4)], [(4, 4), (0, 4)], [(0, 4), (0, 0)]], dtype=float)
    ring = np.array([1, 2, 3, 0])
    lines = ContourLines.joined(
        [ContourLines(square + offset, np.full(4, number, np.int32), ring) for number, offset in ((7, 0.0), (9, 100.0))]
        + [ContourLines(square * 20 + 300, np.full(4, 8, np.int32), ring)]
    )
    dotted = lines.dotted(10.0)
    assert sorted(dotted.lesion.tolist()) == [7, 8, 8, 8, 8, 9]
    for number, middle in ((7, 2.0), (9, 102.0)):
        (dot,) = dotted.ends[dotted.lesion == number]
        np.testing.assert_array_equal(dot, np.full((2, 2), middle))
    assert dotted.is_dot.tolist() == (dotted.lesion != 8).tolist()
    np.testing.assert_array_equal(dotted.ends[dotted.lesion == 8], lines.ends[lines.lesion == 8])
    again = dotted.simplified(1.0)
    np.testing.assert_array_equal(again.ends[again.is_dot], dotted.ends[dotted.is_dot])


def test_a_small_lesion_in_two_parts_is_a_dot_only_where_both_are_there():
    probabilities = np.zeros((24, 40), np.float32)
    probabilities[8:12, 18:22] = 0.9
    frame, labels = frame_of(24, 40), (probabilities > 0).astype(np.int32)
    parts = [
        contour_lines(labels[cells.slices], probabilities[cells.slices], 0.5, cells=cells, frame=frame)
        for cells in (Region(0, 0, 21, 24), Region(20, 0, 20, 24))
    ]
    for part in parts:
        assert len(part)
        assert not part.dotted(1e6).is_dot.any()
    (dot,) = ContourLines.joined(parts).dotted(1e6, parts=True).ends
    middle = frame.cell_center(19.5, 9.5)
    np.testing.assert_allclose(dot, [(middle.x, middle.y)] * 2)


def test_lines_are_put_in_the_order_in_which_they_go_round():
    rng = np.random.default_rng(5)
    turn = np.linspace(0, 2 * np.pi, 9)
    ring = np.column_stack((np.cos(turn), np.sin(turn))).round(6)
    ends = np.concatenate([np.stack((one[:-1], one[1:]), axis=1) for one in (ring, ring[:5] + 5)])
    following = np.array([*range(1, 8), 0, 9, 10, 11, -1])
    shuffled = rng.permutation(12)
    back = np.argsort(shuffled)
    moved = np.where(following < 0, -1, back[following])[shuffled]
    lines = ContourLines(ends[shuffled], np.ones(12, np.int32), moved)
    order = lines.chained()
    assert sorted(order.tolist()) == list(range(12))
    found = lines.ends[order]
    goes_on = (found[1:, 0] == found[:-1, 1]).all(axis=1)
    assert np.count_nonzero(~goes_on) == 1
    # The open one from its beginning, the ring from anywhere.
    assert found[0, 0].tolist() == (ring[0] + 5).tolist()
