"""How long lesions are: discs, ellipses and curved shapes of known length, at several pixel sizes and turned."""

from __future__ import annotations

import csv
import json

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.lesions import (
    LesionIndex,
    LesionRow,
    longest_diameter,
    size_class,
    write_lesions_csv,
    write_lesions_geojson,
)
from napari_metastasis.settings import DetectionSettings

#: Points along each side of a cell that are asked whether they lie inside.
FINE = 8


def disc(x, y, length):
    return np.hypot(x, y) <= length / 2


def ellipse(x, y, length):
    return (x / (length / 2)) ** 2 + (y / (length / 4)) ** 2 <= 1


def sickle(x, y, length):
    """Half a ring with round ends: its length is its outer diameter."""
    half = length / 10
    middle = length / 2 - half
    ring = (np.abs(np.hypot(x, y) - middle) <= half) & (y >= 0)
    return ring | (np.hypot(x - middle, y) <= half) | (np.hypot(x + middle, y) <= half)


def frame_over(side_um, mpp, cell_um):
    """Return the frame of a model of 0.972 µm a pixel on a slide that holds a square."""
    model = ModelFrame(scale=0.972 / mpp, mpp=mpp, size=Size(round(side_um / 0.972), round(side_um / 0.972)))
    return HeatmapFrame(model, 96, round(cell_um / 0.972))


def answers(shape, length_um, frame, *, turn, seed):
    """Return the share of each cell that a shape covers, somewhere near the middle of the map."""
    rng = np.random.default_rng(seed)
    rows, columns = frame.cells.shape
    first, step = frame.cell_corner(0, 0), frame.cell_px / FINE
    mpp = frame.model.mpp
    off = rng.uniform(-0.5, 0.5, 2) * frame.cell_um
    x = (first.x + (np.arange(columns * FINE) + 0.5) * step) * mpp - columns * frame.cell_um / 2 - off[0]
    y = (first.y + (np.arange(rows * FINE) + 0.5) * step)[:, None] * mpp - rows * frame.cell_um / 2 - off[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside = shape(along, across, length_um).reshape(rows, FINE, columns, FINE)
    return inside.mean(axis=(1, 3)).astype(np.float32)


def lesion_of_length(shape, length_um, *, mpp, cell_um, turn=0.0, seed=0, opening_um=0.0):
    frame = frame_over(1.3 * length_um + 12 * cell_um, mpp, cell_um)
    values = answers(shape, length_um, frame, turn=turn, seed=seed)
    (lesion,) = LesionIndex(values, frame, DetectionSettings(opening_um=opening_um)).at(0.5).lesions
    return lesion


@pytest.mark.parametrize("mpp", [0.243, 0.25, 0.5])
@pytest.mark.parametrize("turn", [0.0, 0.4, np.pi / 4, 1.3, 2.6])
@pytest.mark.parametrize("shape", [disc, ellipse, sickle])
@pytest.mark.parametrize(("length_mm", "cell_um"), [(0.2, 3.888), (0.2, 7.776), (0.5, 7.776), (2.0, 15.552)])
def test_lengths_are_exact_to_two_percent_whatever_the_shape_the_pixels_and_the_turn(
    mpp, turn, shape, length_mm, cell_um
):
    lesion = lesion_of_length(shape, length_mm * 1000, mpp=mpp, cell_um=cell_um, turn=turn, seed=round(turn * 10))
    assert lesion.length_mm == pytest.approx(length_mm, rel=0.02)
    # The outline that goes into files is as long.
    drawn = longest_diameter(shapely.get_coordinates(lesion.outline_px)) * mpp / 1000
    assert drawn == pytest.approx(length_mm, rel=0.02)


@pytest.mark.parametrize("shape", [disc, ellipse, sickle])
@pytest.mark.parametrize("turn", [0.0, 0.7, 2.0])
def test_maps_of_yes_and_no_alone_are_as_exact_from_fifty_cells_on(shape, turn):
    frame = frame_over(300, 0.25, 3.888)
    values = np.round(answers(shape, 205, frame, turn=turn, seed=4))
    (lesion,) = LesionIndex(values, frame, DetectionSettings(opening_um=0)).at(0.5).lesions
    assert lesion.length_mm == pytest.approx(0.205, rel=0.02)


@pytest.mark.parametrize(("limit", "below", "above"), [(0.2, "itc", "micro"), (2.0, "micro", "macro")])
@pytest.mark.parametrize("cell_um", [3.888, 7.776])
@pytest.mark.parametrize("shape", [disc, ellipse, sickle])
def test_classes_change_at_their_limits(limit, below, above, cell_um, shape):
    for turn in (0.2, 1.1):
        for length, expected in ((0.975 * limit, below), (1.025 * limit, above)):
            found = lesion_of_length(
                shape, 1000 * length, mpp=0.25, cell_um=cell_um * (4 if limit > 1 else 1), turn=turn
            )
            assert size_class(found.length_mm) == expected


@pytest.mark.parametrize(
    ("length_mm", "expected"), [(0.195, "itc"), (0.205, "micro"), (1.95, "micro"), (2.05, "macro")]
)
def test_a_disc_is_classed_by_its_length_as_detections_are_read(length_mm, expected):
    # With the opening that detections are read with, and nuclei estimated.
    cell_um = 7.776 if length_mm < 1 else 15.552
    found = lesion_of_length(disc, 1000 * length_mm, mpp=0.25, cell_um=cell_um, opening_um=31)
    assert found.size_class == expected
    assert found.nuclei == pytest.approx(np.pi * (length_mm / 2) ** 2 * 8000, rel=0.03)


def test_a_long_strand_of_few_cells_is_one_of_isolated_cells_and_says_that_they_are_estimated(tmp_path):
    frame = frame_over(600, 0.25, 3.888)
    values = answers(lambda x, y, length: (np.abs(x) < length / 2) & (np.abs(y) < 8), 400, frame, turn=0.3, seed=1)
    (lesion,) = LesionIndex(values, frame, DetectionSettings(opening_um=0)).at(0.5).lesions
    assert lesion.length_mm == pytest.approx(0.4, rel=0.02)
    assert lesion.nuclei == pytest.approx(0.4 * 0.016 * 8000, rel=0.05)
    assert (lesion.size_class, lesion.size_class_by) == ("itc", "nuclei_estimated")
    assert lesion.class_text == f"Isolated tumour cells: about {lesion.nuclei} nuclei, estimated from the area"
    write_lesions_csv(tmp_path / "lesions.csv", [lesion])
    (row,) = csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines())
    assert (row["nuclei_estimated"], row["size_class_by"]) == (str(lesion.nuclei), "nuclei_estimated")
    write_lesions_geojson(tmp_path / "lesions.geojson", [lesion], slide="s")
    (feature,) = json.loads((tmp_path / "lesions.geojson").read_text())["features"]
    measurements = feature["properties"]["measurements"]
    assert (measurements["Nuclei (estimated)"], measurements["Class by estimated nuclei"]) == (lesion.nuclei, 1)
    (lesion,) = LesionIndex(values, frame, DetectionSettings(opening_um=0, nuclei_per_mm2=0)).at(0.5).lesions
    assert (lesion.nuclei, lesion.size_class, lesion.size_class_by) == (None, "micro", "length")


def test_what_may_go_on_is_not_said_to_have_few_cells():
    values = {"id": 1, "x": 0.0, "y": 0.0, "probability": 0.9, "area_mm2": 0.01, "length_mm": 0.4, "detections": 1}
    assert LesionRow(**values, map="probability", nuclei=80).size_class == "itc"
    assert LesionRow(**values, map="probability", nuclei=80, cut_by_edge=True).size_class == "micro"


def two_discs(gap_um, cell_um=4.0):
    """Return a map of two discs of 120 µm so far apart, border to border, on a slanted line; and its frame."""
    frame = oracle.frame_of(150, 150, mpp=0.5, scale=1.0, stride=round(cell_um / 0.5))
    y, x = np.mgrid[:150, :150] * cell_um
    way = np.array([np.cos(0.5), np.sin(0.5)]) * (120 + gap_um)
    away = np.minimum(np.hypot(x - 180, y - 180), np.hypot(x - 180 - way[0], y - 180 - way[1]))
    return np.clip(0.5 - (away - 60) / 12, 0, 0.9).astype(np.float32), frame


@pytest.mark.parametrize(("gap_um", "lesions"), [(60.0, 1), (72.0, 1), (80.0, 2)])
def test_foci_within_the_gap_are_one_lesion_of_both_outlines(gap_um, lesions):
    values, frame = two_discs(gap_um)
    apart = LesionIndex(values, frame, DetectionSettings(opening_um=0)).at(0.5)
    found = LesionIndex(values, frame, DetectionSettings(opening_um=0, gap_um=75)).at(0.5)
    assert len(apart.lesions) == 2
    assert len(found.lesions) == lesions
    assert len(np.unique(found.labels)) == lesions + 1
    if lesions == 2:
        assert found.lesions == apart.lesions
        return
    (whole,) = found.lesions
    first, second = apart.lesions
    assert whole.id == first.id
    assert whole.area_mm2 == pytest.approx(first.area_mm2 + second.area_mm2)
    assert whole.length_mm == pytest.approx((240 + gap_um) / 1000, rel=0.02)
    assert {one.wkt for one in whole.outline_px.geoms} == {one.outline_px.wkt for one in apart.lesions}
    assert {(d.x, d.y) for d in found.detections} == {(d.x, d.y) for d in apart.detections}
    assert whole.detections == 2


def test_foci_join_and_part_as_the_threshold_moves_both_ways():
    values, frame = two_discs(70.0)
    index = LesionIndex(values, frame, DetectionSettings(opening_um=0, gap_um=75))
    for threshold, lesions in ((0.5, 1), (0.85, 2), (0.3, 1), (0.85, 2), (0.5, 1)):
        found = index.at(threshold)
        fresh = LesionIndex(values, frame, DetectionSettings(opening_um=0, gap_um=75)).at(threshold)
        assert len(found.lesions) == lesions
        assert found.lesions == fresh.lesions
        np.testing.assert_array_equal(found.labels, fresh.labels)


def test_without_a_gap_and_without_lesions_nothing_is_joined():
    values, frame = two_discs(10.0)
    assert len(LesionIndex(values, frame, DetectionSettings(opening_um=0)).at(0.5).lesions) == 2
    assert LesionIndex(values, frame, DetectionSettings(opening_um=0, gap_um=75)).at(1.0).lesions == ()
