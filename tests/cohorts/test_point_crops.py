"""Crops around points: what lies in them, what is no tissue, and faults of their table."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dotted_crops import SIDE, write_dotted_crops

from napari_metastasis.cohorts.point_crops import open_point_crops
from napari_metastasis.errors import PatchDatasetError


def test_a_crop_holds_all_points_of_its_slide_that_lie_in_it(tmp_path: Path) -> None:
    pictures, table = write_dotted_crops(tmp_path)
    crops = open_point_crops(pictures, table, mpp=0.25)
    assert crops.slides == ("a/one",) * 3 + ("a/two",) + ("b/one",) * 2
    # Of two collections, each with a slide called one.
    assert crops.of_slides(["b/one", "a/two"]).tolist() == [3, 4, 5]
    middle = SIDE / 2
    assert [crops.read(k).xy.tolist() for k in (0, 1, 2)] == [
        [[middle, middle]], [[middle, middle], [middle + 6, middle + 8]], [[middle - 6, middle - 8], [middle, middle]],
    ]  # fmt: skip
    for index in range(len(crops)):
        crop = crops.read(index)
        for x, y in crop.xy.astype(int):
            assert (crop.image[y - 2 : y + 2, x - 2 : x + 2] == (255, 0, 0)).all()
    # Only the fourth reaches past its slide: by 8 of its columns.
    assert [int((~crops.read(k).known).sum()) for k in range(6)] == [0, 0, 0, 8 * SIDE, 0, 0]
    assert not crops.read(3).known[:, :8].any()
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(pictures) as archive:
        archive.extractall(unpacked)
    for other in (open_point_crops(unpacked, table, mpp=0.25), pickle.loads(pickle.dumps(crops))):
        np.testing.assert_array_equal(other.read(4).image, crops.read(4).image)


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("aone30.png", "missing.png", "missing.png"),
        (",30,40,", ",30,,", "line 2"),
        (",30,40,", ",inf,40,", "finite"),
        ("file,", "name,", "none called file"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, was: str, becomes: str, said: str) -> None:
    pictures, table = write_dotted_crops(tmp_path)
    table.write_text(table.read_text("utf-8").replace(was, becomes), encoding="utf-8")
    with pytest.raises(PatchDatasetError, match=said):
        open_point_crops(pictures, table, mpp=0.25)


def test_no_table_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    pictures, table = write_dotted_crops(tmp_path)
    for text in ("", "file,slide,x,y\n"):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(PatchDatasetError, match="expected"):
            open_point_crops(pictures, table, mpp=0.25)
    with pytest.raises(PatchDatasetError, match="No such file"):
        open_point_crops(pictures, tmp_path / "none.csv", mpp=0.25)


@pytest.mark.shared
def test_mitotic_figures_lie_where_their_table_says(shared_data: Path) -> None:
    folder = shared_data / "mitosis"
    crops = open_point_crops(folder / "mitoses.zip", folder / "mitoses.csv", mpp=0.25)
    assert (len(crops), len(set(crops.slides)), crops.side_px) == (2206, 107, 128)
    # Where two crops of a slide overlap, they show the same.
    compared = 0
    for slide in sorted(set(crops.slides)):
        of_slide = crops.of_slides([slide])
        for place, first in enumerate(of_slide):
            for second in of_slide[:place]:
                dx, dy = (crops.xy[second] - crops.xy[first]).astype(int)
                if max(abs(dx), abs(dy)) < 64:
                    one, other = crops.read(first), crops.read(second)
                    there, here = ((slice(max(0, d), min(128, 128 + d)) for d in (dy * s, dx * s)) for s in (1, -1))
                    np.testing.assert_array_equal(one.image[tuple(there)], other.image[tuple(here)])
                    assert len(one.xy) >= 2
                    compared += 1
    assert compared == 32
