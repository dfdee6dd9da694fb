"""Pyramids written tile by tile."""

from __future__ import annotations

import numpy as np
import openslide
import pytest

from napari_metastasis.errors import SettingsError, StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide, write_pyramid


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "deflate", "none"])
def test_reads_back(tmp_path, picture, compression):
    path = tmp_path / "slide.tif"
    write_pyramid(path, picture, mpp=0.243, size=Size(1501, 1103), tile_px=128, compression=compression, quality=95)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.243, rel=1e-6)
        assert [level.size.width for level in slide.levels] == [1501, 751, 376, 188, 94]
        assert all(level.stored for level in slide.levels)
        found = slide.read_level(0, Region.of(slide.size))
        difference = np.abs(found.astype(int) - picture)
        assert difference.mean() < 5 if compression == "jpeg" else difference.max() == 0


def test_levels_are_averages(pyramid, picture):
    with open_slide(pyramid) as slide:
        expected = picture
        for index in (1, 2, 3):
            rows, columns = expected.shape[0] // 2 * 2, expected.shape[1] // 2 * 2
            mean = expected[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, 3).mean(axis=(1, 3))
            found = slide.read_level(index, Region.of(slide.levels[index].size))
            np.testing.assert_allclose(found[: rows // 2, : columns // 2], mean, atol=0.501)
            expected = found


def test_a_callable_is_asked_tile_by_tile_in_order(tmp_path, picture):
    asked = []

    def source(region: Region):
        asked.append(region)
        return picture[region.slices]

    path = tmp_path / "slide.tif"
    write_pyramid(path, source, mpp=0.25, size=Size(300, 200), tile_px=128, compression="lzw")
    assert [(part.x, part.y) for part in asked] == [(0, 0), (128, 0), (256, 0), (0, 128), (128, 128), (256, 128)]
    assert asked[-1] == Region(256, 128, 44, 72)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), picture[:200, :300])


def test_openslide_reads_every_level(pyramid):
    with openslide.OpenSlide(str(pyramid)) as other, open_slide(pyramid) as slide:
        assert other.level_dimensions == tuple((level.size.width, level.size.height) for level in slide.levels)
        assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.243, rel=1e-6)
    with open_slide(pyramid) as one, open_slide(pyramid, backend="openslide") as two:
        region = Region(100, 60, 200, 150)
        for index in range(2):
            np.testing.assert_array_equal(one.read_level(index, region), two.read_level(index, region))


def test_it_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "slide.tif"
    path.write_bytes(b"the slide that was here before")

    def source(region: Region):
        if region.y:
            raise KeyboardInterrupt
        return np.zeros((*region.size.shape, 3), np.uint8)

    with pytest.raises(KeyboardInterrupt):
        write_pyramid(path, source, mpp=0.25, size=Size(300, 300), tile_px=128)
    assert path.read_bytes() == b"the slide that was here before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "options",
    [{"mpp": 0.0}, {"mpp": 900.0}, {"tile_px": 100}, {"tile_px": 8}, {"levels": 0}, {"levels": 99},
     {"compression": "webp"}, {"quality": 101}, {"size": Size(0, 5)}],
)  # fmt: skip
def test_settings_out_of_range(tmp_path, picture, options):
    with pytest.raises(SettingsError, match="expected"):
        write_pyramid(tmp_path / "slide.tif", picture, **({"mpp": 0.25, "size": Size(200, 200)} | options))
    assert not list(tmp_path.iterdir())


def test_a_source_of_the_wrong_shape(tmp_path):
    with pytest.raises(SettingsError, match=r"return RGB"):
        write_pyramid(tmp_path / "slide.tif", lambda _: np.zeros((5, 5), np.uint8), mpp=0.25, size=Size(200, 200))


def test_no_folder(tmp_path, picture):
    with pytest.raises(StorageError, match="folder"):
        write_pyramid(tmp_path / "none" / "slide.tif", picture, mpp=0.25, size=Size(200, 200))
