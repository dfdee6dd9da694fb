"""Crops of slides with points: they show what was set where it was set, and other tissue."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.point_crops import join_crops
from napari_metastasis.cohorts.point_slides import crops_of_slides
from napari_metastasis.errors import CohortError
from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

MITOSES, MIMIC = [(400, 500), (700, 620)], (600, 200)


@pytest.fixture
def slide(tmp_path: Path) -> CohortSlide:
    pixels = np.full((1024, 1024, 3), 245, np.uint8)
    pixels[100:900, 100:900] = np.random.default_rng(1).integers([207, 132, 182], [224, 149, 199], (800, 800, 3))
    for x, y in (*MITOSES, MIMIC):
        pixels[y - 8 : y + 8, x - 8 : x + 8] = (30, 10, 60)
    write_pyramid(tmp_path / "s.tif", pixels, mpp=0.25, size=Size(1024, 1024), compression="deflate")
    rows = [*(f"{x},{y},Mitosis" for x, y in MITOSES), "{},{},mimic".format(*MIMIC)]
    (tmp_path / "s.csv").write_text("\n".join(["x,y,class", *rows]) + "\n", encoding="utf-8")
    return CohortSlide(name="s", path=tmp_path / "s.tif", annotation=tmp_path / "s.csv")


def test_nothing_is_known_around_what_nobody_reviewed(
    slide: CohortSlide, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ("400,500,Mitosis,confirmed", "440,500,Mitosis,pending", "900,900,Mitosis,unknown")
    (tmp_path / "s.csv").write_text("\n".join(["x,y,class,review", *rows]) + "\n", encoding="utf-8")
    crops = crops_of_slides([slide], mpp=0.5, side_px=64, classes=["mitosis"], others=8, seed=4)
    assert len(crops) == 1 + 8
    assert f"{tmp_path / 's.csv'}: left out 2 mitoses that nobody reviewed" in caplog.text
    crop = crops.read(0)
    assert [tuple(xy) for xy in crop.xy] == [(32, 32)]
    # Twenty pixels to the right of the middle; 7.5 µm are 15 of them.
    rows_, columns = np.mgrid[:64, :64] + 0.5
    np.testing.assert_array_equal(crop.known, np.hypot(rows_ - 32, columns - 52) > 15)
    together = join_crops([crops])
    np.testing.assert_array_equal(together.read(0).known, crop.known)
    crops.pictures.close()


def test_crops_show_points_where_they_were_set_and_no_point_where_none_is(slide: CohortSlide) -> None:
    crops = crops_of_slides([slide], mpp=0.5, side_px=64, classes=["mitosis"], others=32, seed=4)
    assert len(crops) == 3 + 32
    pickled = pickle.loads(pickle.dumps(crops))
    for index in range(len(crops)):
        crop = crops.read(index)
        np.testing.assert_array_equal(pickled.read(index).image, crop.image)
        dark = crop.image.max(axis=2) < 90
        assert crop.known.all()
        for x, y in crop.xy:
            if 4 < x < 60 and 4 < y < 60:
                assert dark[int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4].all()
        if index < 2:
            assert [tuple(np.rint(xy)) for xy in crop.xy] == [(32, 32)]
        elif index == 2:
            # What was taken for a mitosis lies in the middle, and is none.
            assert dark[30:34, 30:34].all()
            assert len(crop.xy) == 0
    for each in (crops, pickled):
        each.pictures.close()
    with pytest.raises(CohortError, match=r"got Mitosis, mimic; name theirs with --point-classes"):
        crops_of_slides([slide], mpp=0.5, side_px=64, classes=["nothing"], others=32, seed=4)
