"""False positives on heatmaps, against plain loops over cells and polygons; and the file that keeps them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage

from napari_metastasis.annotations import Annotation, AnnotationSet
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import NoTumour, OutlineReference
from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.sampling.hard_negatives import (
    HardNegative,
    read_hard_negatives,
    strongest_first,
    write_hard_negatives,
)
from napari_metastasis.settings import MiningSettings, SamplingSettings
from napari_metastasis.workflows.train import false_positives as mining
from napari_metastasis.workflows.train.false_positives import find_false_positives

SAMPLING = SamplingSettings(normal_margin_um=3.0)
SLIDE = CohortSlide(name="n", path=Path("n.tif"), tumour=True, annotation=Path("n.xml"))


def heatmap(seed, shape):
    """Smooth hills, some of them saturated, and a part that was not scanned."""
    hills = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5, mode="wrap")
    values = (0.5 + hills / hills.std() / 3).clip(0, 1).astype(np.float32)
    values[: shape[0] // 5, : shape[1] // 3] = np.nan
    return values


def wedges(size_px, seed):
    """A triangle, and a square with a hole."""
    rng = np.random.default_rng(seed)
    scale = np.array(size_px)
    hole = np.array([[0.62, 0.45], [0.8, 0.45], [0.8, 0.75], [0.62, 0.75]]) * scale
    return AnnotationSet(
        (
            Annotation.of_rings(name="a", group="_0", exterior=rng.random((3, 2)) * scale * (0.4, 0.9)),
            Annotation.of_rings(
                name="b",
                group="_0",
                exterior=np.array([[0.55, 0.3], [0.95, 0.35], [0.9, 0.85], [0.5, 0.8]]) * scale,
                holes=(hole,),
            ),
        )
    )


def slowly(probabilities, frame, annotations, settings, sampling, name):
    """Look at every cell's square pixel by pixel, then go down from the strongest."""
    area = shapely.union_all([shapely.Polygon(one.exterior, one.holes) for one in annotations.tumour])
    scale = frame.model.scale
    border = round(frame.patch_px * (1 - sampling.label_share) / 2)
    margin = math.ceil(sampling.normal_margin_um / frame.model.effective_mpp)
    candidates = []
    for row, column in np.ndindex(probabilities.shape):
        if not probabilities[row, column] >= settings.mining_threshold:
            continue
        center = frame.cell_center(column, row)
        left, top = center.x / scale - frame.patch_px / 2, center.y / scale - frame.patch_px / 2
        span = np.arange(border - margin, frame.patch_px - border + margin) + 0.5
        x, y = np.meshgrid((left + span) * scale, (top + span) * scale)
        if not shapely.contains_xy(area, x, y).any():
            candidates.append((-probabilities[row, column], row, column))
    kept = []
    for strength, row, column in sorted(candidates):
        location = frame.cell_center(column, row)
        apart = [math.hypot(location.x - other.x, location.y - other.y) * frame.model.mpp for other in kept]
        if len(kept) < settings.mined_per_slide and all(d >= settings.mined_apart_um - 1e-9 for d in apart):
            kept.append(HardNegative(name, location.x, location.y, float(-strength)))
    return tuple(kept)


@pytest.mark.parametrize("window_px", [20, 1024])
@pytest.mark.parametrize(("scale", "mpp", "apart_um"), [(1.0, 0.972, 0.0), (2.0, 0.486, 9.0), (3.7, 0.25, 23.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_false_positives_are_those_of_plain_loops(monkeypatch, seed, scale, mpp, apart_um, window_px):
    monkeypatch.setattr(mining, "_WINDOW_PX", window_px)
    frame = HeatmapFrame(model=ModelFrame(scale, mpp, Size(150, 117)), patch_px=12, stride_px=4)
    annotations = wedges((150 * scale, 117 * scale), seed)
    probabilities = heatmap(seed, frame.cells.shape)
    settings = MiningSettings(mining_threshold=0.6, mined_apart_um=apart_um)
    found = find_false_positives(
        probabilities, frame, OutlineReference(annotations), settings, SAMPLING, replace(SLIDE, name="a"), patch_px=12
    )
    expected = slowly(probabilities, frame, annotations, settings, SAMPLING, "a")
    assert 10 < len(expected) < 500
    assert found == expected
    fewer = replace(settings, mined_per_slide=7)
    assert (
        find_false_positives(
            probabilities, frame, OutlineReference(annotations), fewer, SAMPLING, replace(SLIDE, name="a"), patch_px=12
        )
        == expected[:7]
    )


FRAME = HeatmapFrame(model=ModelFrame(1.0, 0.972, Size(160, 96)), patch_px=12, stride_px=4)


def found_in(probabilities, *, shows_normal=True, **settings):
    return find_false_positives(
        np.asarray(probabilities, dtype=np.float32),
        FRAME,
        NoTumour(),
        MiningSettings(**settings),
        SAMPLING,
        replace(SLIDE, exhaustive=shows_normal),
        patch_px=12,
    )


def test_nothing_is_mined_where_normal_is_not_known_nothing_was_scanned_or_nothing_fires():
    values = np.full(FRAME.cells.shape, 0.9)
    assert found_in(values)
    assert found_in(values, shows_normal=False) == ()
    assert found_in(np.full(FRAME.cells.shape, np.nan)) == ()
    assert found_in(np.full(FRAME.cells.shape, 0.49)) == ()


def test_on_a_slide_outlined_in_part_they_are_mined_in_outlines_of_normal_tissue_alone():
    normal = Annotation("n", "normal", shapely.box(20, 20, 120, 80))
    ignored = Annotation("i", "ignore", shapely.box(60, 20, 80, 80))
    values = np.full(FRAME.cells.shape, 0.9, np.float32)
    settings = MiningSettings(mining_threshold=0.5, mined_apart_um=0.0, mined_per_slide=10_000)
    slide = replace(SLIDE, exhaustive=False)
    reference = OutlineReference(AnnotationSet((normal, ignored)))
    found = find_false_positives(values, FRAME, reference, settings, SAMPLING, slide, patch_px=12)
    border = round(12 * (1 - SAMPLING.label_share) / 2)
    half = 6 - border
    expected = set()
    for row, column in np.ndindex(values.shape):
        x, y = FRAME.cell_center(column, row).x, FRAME.cell_center(column, row).y
        square = shapely.box(x - half, y - half, x + half, y + half)
        if normal.outline_px.covers(square) and not square.intersection(ignored.outline_px).area:
            expected.add((x, y))
    assert {(one.x, one.y) for one in found} == expected
    assert len(expected) > 50


def test_the_threshold_itself_counts_and_equals_come_in_reading_order():
    values = np.zeros(FRAME.cells.shape)
    values[3, 5] = values[3, 30] = values[17, 2] = 0.5
    values[20, 20] = np.nextafter(np.float32(0.5), np.float32(0))
    locations = [FRAME.cell_center(column, row) for row, column in ((3, 5), (3, 30), (17, 2))]
    assert found_in(values) == tuple(HardNegative("n", one.x, one.y, 0.5) for one in locations)


def test_the_weaker_of_two_neighbours_goes():
    values = np.zeros(FRAME.cells.shape)
    values[5, 5], values[5, 8], values[5, 11] = 0.8, 0.9, 0.7
    # Three cells of 3.888 µm are 11.66 µm.
    assert [one.probability for one in found_in(values, mined_apart_um=11.7)] == [pytest.approx(0.9)]
    assert len(found_in(values, mined_apart_um=11.6)) == 3


MINED = (
    HardNegative("normal_001", 1234.5, 77.25, float(np.float32(0.987))),
    HardNegative('odd, "name" µ', 1 / 3, 8.1e5, 1.0),
    HardNegative("normal_001", -3.0, 2.0, float(np.float32(1 / 3))),
)


@pytest.mark.parametrize("mined", [MINED, ()])
def test_what_was_mined_reads_back_the_very_same(tmp_path, mined):
    path = tmp_path / "hard_negatives.csv"
    write_hard_negatives(path, mined)
    assert read_hard_negatives(path) == mined
    assert path.read_bytes().startswith(b"slide,x,y,probability\n")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"slide,x,y\na,1,2\n", 1),
        (b"\x89PNG\xff\xfe", 1),
        (b"slide,x,y,probability\na,1,2,0.5\nb,1,2\n", 3),
        (b"slide,x,y,probability\na,1,two,0.5\n", 2),
        (b"slide,x,y,probability\na,1,2,nan\n", 2),
        (b"slide,x,y,probability\na,1,2,1.5\n", 2),
        (b"slide,x,y,probability\na,inf,2,0.5\n", 2),
        (b"slide,x,y,probability\n,1,2,0.5\n", 2),
        (b'slide,x,y,probability\n"a,1,2,0.5\n', 1),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, line):
    path = tmp_path / "hard_negatives.csv"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=rf"expected slide,x,y,probability in line {line} of .*; move") as caught:
        read_hard_negatives(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"none.csv, got none to read \(No such file or directory\); check the path"):
        read_hard_negatives(tmp_path / "none.csv")


def test_the_strongest_come_first_over_all_slides():
    assert [one.probability for one in strongest_first(MINED[::-1])] == sorted(
        (one.probability for one in MINED), reverse=True
    )
    equal = (HardNegative("b", 1, 1, 0.5), HardNegative("a", 9, 2, 0.5), HardNegative("a", 1, 2, 0.5))
    assert strongest_first(equal) == (equal[2], equal[1], equal[0])
