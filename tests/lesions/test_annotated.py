"""Found, drawn and read outlines stand in one table."""

from __future__ import annotations

import lesion_oracle as oracle
import numpy as np
import pytest
import shapely

from napari_metastasis.annotations import Annotation, read_geojson
from napari_metastasis.lesions import (
    LesionIndex,
    annotations_of,
    lesion_of,
    write_lesions_csv,
    write_lesions_geojson,
)
from napari_metastasis.settings import DetectionSettings

MPP = 0.5


@pytest.fixture(scope="module")
def found():
    values = np.zeros((60, 80), dtype=np.float32)
    values[5:30, 5:40] = 0.9
    values[10:20, 10:20] = 0
    # Touches the first at a corner alone: one lesion.
    values[30:40, 40:50] = 0.8
    values[50:53, 70:73] = 0.7
    return LesionIndex(values, oracle.frame_of(60, 80, mpp=MPP), DetectionSettings(opening_um=0)).at(0.5)


def test_a_found_lesion_becomes_what_its_file_is_read_as(tmp_path, found):
    write_lesions_geojson(tmp_path / "a.geojson", found.lesions, slide="s")
    read = list(read_geojson(tmp_path / "a.geojson"))
    made = [annotation for lesion in found.lesions for annotation in annotations_of(lesion)]
    assert len(made) == 2
    assert made == read
    assert all(annotation.is_tumour for annotation in made)


def test_an_outline_measures_what_the_lesion_did(found):
    small = found.lesions[-1]
    (annotation,) = annotations_of(small)
    back = lesion_of(annotation.outline_px, number=7, mpp=MPP)
    assert (back.id, back.size_class, back.outline_px) == (7, small.size_class, small.outline_px)
    # Three cells by three of 0.7, whose contour at 0.5 lies 0.3 of a cell from the centres: cells count whole.
    assert back.area_mm2 == pytest.approx(small.area_mm2, rel=0.3)
    assert back.length_mm == pytest.approx(small.length_mm, rel=0.01)
    assert small.outline_px.contains(shapely.Point(back.x, back.y))
    assert (back.probability, back.map, back.detections) == (None, None, 0)


def test_the_area_of_what_crosses_itself_goes_by_the_even_odd_rule():
    # A pentagram, whose middle is outside, drawn with a cut-out that reaches past it.
    angle = np.arange(5) * 4 * np.pi / 5
    star = np.column_stack((np.sin(angle), -np.cos(angle))) * 1000
    whole = lesion_of(Annotation.of_rings("star", "_0", star).outline_px, number=1, mpp=MPP)
    inner = np.cos(2 * np.pi / 5) / np.cos(np.pi / 5) * 1000
    points_px2 = 5 * np.sin(np.pi / 5) * 1000 * inner - 2.5 * inner**2 * np.sin(2 * np.pi / 5)
    assert whole.area_mm2 == pytest.approx(points_px2 * (MPP / 1000) ** 2)
    assert whole.size_class == "micro"
    half = Annotation.of_rings("star", "_0", star, [[(0, -2000), (5000, -2000), (5000, 2000), (0, 2000)]])
    assert lesion_of(half.outline_px, number=1, mpp=MPP).area_mm2 == pytest.approx(whole.area_mm2 / 2)
    nothing = lesion_of(Annotation.of_rings("a", "_0", [(1, 1), (3, 1), (5, 1)]).outline_px, number=1, mpp=MPP)
    assert (nothing.area_mm2, nothing.y, nothing.length_mm) == (0, 1, pytest.approx(4 * MPP / 1000))


def test_found_and_drawn_ones_are_written_together(tmp_path, found):
    drawn = lesion_of(Annotation.of_rings("mine", "_0", [(0, 0), (800, 0), (0, 600)]).outline_px, number=9, mpp=MPP)
    write_lesions_csv(tmp_path / "a.csv", [found.rows[0], drawn])
    *_, last = (tmp_path / "a.csv").read_text().splitlines()
    assert last.startswith("9,")
    assert last.endswith(",,0.060000,0.5000,micro,0,0,480,length,,,,,,,,,,")
    write_lesions_geojson(tmp_path / "a.geojson", [drawn], slide="s")
    assert "Probability" not in (tmp_path / "a.geojson").read_text()
