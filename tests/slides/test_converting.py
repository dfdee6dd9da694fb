"""Conversions: the same pixels, mpp and images beside the slide; killed, they go on and end with the same bytes."""

from __future__ import annotations

import errno
import hashlib
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from drawn import draw_picture

from napari_metastasis.errors import SettingsError, StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import PyramidSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.slides import pieces as pieces_module
from napari_metastasis.slides.converting import convert_slide, unfinished_folder
from slides.conftest import MPP

#: Small tiles: 1,501 x 1,103 px are 12 pieces of 384 px and 6 levels, two of which no piece holds.
SMALL = PyramidSettings(tile_px=48)
LOSSLESS = PyramidSettings(tile_px=48, compression="deflate")
OUTPUTS = ["a.ome.zarr", "a.ome.zarr.zip", "a.ome.tif"]


def hash_of(path: Path) -> str:
    """Return a hash of a file, or of a folder with the names in it."""
    digest = hashlib.sha256()
    for one in [path] if path.is_file() else sorted(path.rglob("*")):
        if one.is_file():
            digest.update(one.relative_to(path.parent).as_posix().encode() + one.read_bytes())
    return digest.hexdigest()


def level_pixels(slide, level):
    return slide.read_level(level, Region.of(slide.levels[level].size))


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_level_is_kept_pixel_by_pixel(pyramid, tmp_path, name):
    with open_slide(pyramid) as slide:
        made = convert_slide(slide, tmp_path / name, LOSSLESS)
        assert made is not None
        with open_slide(tmp_path / name) as again:
            assert again.mpp == pytest.approx(slide.mpp, rel=1e-9)
            assert again.size == slide.size
            # Those of the slide, and halves of the last one down to a tile.
            assert sum(level.stored for level in again.levels) == made.levels == 6
            for level in range(sum(level.stored for level in slide.levels)):
                np.testing.assert_array_equal(level_pixels(again, level), level_pixels(slide, level))
    assert not unfinished_folder(tmp_path / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def halved(pixels):
    """Average two by two in whole numbers; the last row and column count twice where they are odd ones."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    return ((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2] + 2) >> 2).astype(np.uint8)


def test_what_the_slide_lacks_is_averaged_as_of_the_whole(single_level, tmp_path):
    """The oracle halves the whole picture at once."""
    with open_slide(single_level) as slide:
        convert_slide(slide, tmp_path / "a.ome.zarr", SMALL)
        expected = level_pixels(slide, 0)
    with open_slide(tmp_path / "a.ome.zarr") as again:
        for level in range(6):
            np.testing.assert_array_equal(level_pixels(again, level), expected)
            expected = halved(expected)


@pytest.mark.parametrize("size", [Size(1, 1), Size(48, 48), Size(385, 49), Size(769, 384)])
def test_slides_of_every_size(tmp_path, size):
    pixels = draw_picture(size)
    write_pyramid(tmp_path / "a.tif", pixels, mpp=MPP, size=size, tile_px=48, compression="deflate", levels=1)
    with open_slide(tmp_path / "a.tif") as slide:
        for name in OUTPUTS:
            convert_slide(slide, tmp_path / name, LOSSLESS)
            with open_slide(tmp_path / name) as again:
                np.testing.assert_array_equal(level_pixels(again, 0), pixels)


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
@pytest.mark.parametrize(("width", "steps"), [(801, (1, 2, 4)), (627, (1, 4)), (641, (1, 4))])
def test_a_scanners_cut_levels_are_kept_and_the_others_are_half_of_what_lies_below(tmp_path, width, steps, name):
    """Many cut the last row and column of a level that is odd."""
    pixels = draw_picture(Size(width, 603))
    given = {step: pixels[: 603 // step * step : step, : width // step * step : step] for step in steps}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for step, level in given.items():
            tiff.write(
                np.ascontiguousarray(level), tile=(64, 64), photometric="rgb", compression="zlib", metadata=None,
                resolution=(40000 / step,) * 2, resolutionunit=3,
            )  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide:
        convert_slide(slide, tmp_path / name, replace(SMALL, tile_px=16, compression="deflate"))
    with tifffile.TiffFile(tmp_path / name) if name.endswith("tif") else nullcontext() as tiff:
        if tiff is None:
            group = zarr.open_group(tmp_path / name, mode="r")
            written = [np.moveaxis(group[key][:], 0, 2) for key in sorted(group.array_keys(), key=int)]
        else:
            written = [level.asarray() for level in tiff.series[0].levels]
    assert len(written) == 7
    for number, level in enumerate(written):
        np.testing.assert_array_equal(level, given.get(2**number, halved(written[max(0, number - 1)])))


def test_other_programs_read_the_ome_zarr(pyramid, picture, tmp_path):
    with open_slide(pyramid) as slide:
        convert_slide(slide, tmp_path / "a.ome.zarr", SMALL)
    from ome_zarr_models.v05 import Image

    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    (scales,) = Image.from_zarr(group).attributes.ome.multiscales
    assert [axis.name for axis in scales.axes] == ["c", "y", "x"]
    np.testing.assert_array_equal(np.moveaxis(group["0"][:], 0, 2), picture)
    for level, dataset in enumerate(scales.datasets):
        scale, shift = dataset.coordinateTransformations
        assert scale.scale == pytest.approx([1, MPP * 2**level, MPP * 2**level])
        # The centre of a pixel is the centre of those below it.
        assert shift.translation == pytest.approx([0, *[MPP * (2**level - 1) / 2] * 2])


def test_other_programs_read_the_ome_tiff(pyramid, picture, tmp_path):
    with open_slide(pyramid) as slide:
        convert_slide(slide, tmp_path / "a.ome.tif", LOSSLESS)
    with warnings.catch_warnings(), tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        warnings.simplefilter("error")
        (series,) = tiff.series
        assert tiff.is_ome
        assert series.axes == "YXS"
        assert [level.shape[:2] for level in series.levels][:3] == [(1103, 1501), (552, 751), (276, 376)]
        np.testing.assert_array_equal(series.asarray(), picture)
        about = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (about["PhysicalSizeX"], about["PhysicalSizeXUnit"]) == (MPP, "µm")


class TestImagesBeside:
    @pytest.fixture
    def scanned(self, tmp_path):
        """An SVS with a label, a macro image and a magnification."""
        about = f"Aperio Image Library\r\n801x603 |AppMag = 20|MPP = {MPP}"
        pages = {"macro": draw_picture(Size(120, 90), seed=1), "label": draw_picture(Size(60, 70), seed=2)}
        with tifffile.TiffWriter(tmp_path / "in.svs") as tiff:
            slide, plain = draw_picture(Size(801, 603)), {"photometric": "rgb", "metadata": None}
            tiff.write(slide, tile=(64, 64), description=about, **plain)
            tiff.write(np.ascontiguousarray(slide[::2, ::2]), tile=(64, 64), subfiletype=1, **plain)
            for number, (name, page) in enumerate(pages.items()):
                kind, text = 9 - 8 * number, f"Aperio Image Library\r\n{name} 1x1"
                tiff.write(page, description=text, subfiletype=kind, **plain)
        return tmp_path / "in.svs", pages

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_the_macro_image_is_kept_and_the_label_only_if_asked_for(self, scanned, tmp_path, name):
        path, pages = scanned
        with open_slide(path) as slide:
            made = convert_slide(slide, tmp_path / name, SMALL)
            assert any("the image of the label is left out" in note for note in made.notes)
            assert any("macro image is kept" in note for note in made.notes)
            with open_slide(tmp_path / name) as again:
                assert set(again.associated_images) == {"macro", "thumbnail"}
                np.testing.assert_array_equal(again.associated_images["macro"], pages["macro"])
                assert again.objective_power == 20
            convert_slide(slide, tmp_path / name, SMALL, with_label=True, overwrite=True)
            with open_slide(tmp_path / name) as again:
                assert set(again.associated_images) == {"label", "macro", "thumbnail"}
                np.testing.assert_array_equal(again.associated_images["label"], pages["label"])


class TestGoingOn:
    @pytest.mark.parametrize("name", OUTPUTS)
    def test_what_is_stopped_goes_on_and_ends_with_the_same_bytes(self, pyramid, tmp_path, name):
        (tmp_path / "whole").mkdir()
        with open_slide(pyramid) as slide:
            convert_slide(slide, tmp_path / "whole" / name, SMALL)
            for after in (1, 5, 9):
                asked = iter(range(100))
                stopped = convert_slide(slide, tmp_path / name, SMALL, should_stop=lambda: next(asked) >= after)  # noqa: B023
                assert stopped is None
                assert not (tmp_path / name).exists()
            seen = []
            made = convert_slide(slide, tmp_path / name, SMALL, progress=lambda *both: seen.append(both))
        assert made.went_on == 9
        assert seen[-1] == (1501 * 1103, 1501 * 1103)
        assert hash_of(tmp_path / name) == hash_of(tmp_path / "whole" / name)

    def test_a_piece_with_a_damaged_tile_is_made_again(self, pyramid, tmp_path):
        output = tmp_path / "a.ome.zarr"
        asked = iter(range(100))
        with open_slide(pyramid) as slide:
            convert_slide(slide, output, SMALL, should_stop=lambda: next(asked) >= 6)
            finished = unfinished_folder(output)
            (finished / "slide" / "0" / "c" / "0" / "0" / "0").write_bytes(b"")
            (finished / "finished" / "0-1.npz").write_bytes(b"nothing")
            assert convert_slide(slide, output, SMALL).went_on == 4
            np.testing.assert_array_equal(level_pixels(open_slide(output), 0), level_pixels(slide, 0))

    def test_a_full_disk_is_told_and_leaves_what_is_finished(self, pyramid, tmp_path, monkeypatch):
        output, written = tmp_path / "a.ome.zarr", []
        whole = Path.write_bytes

        def full(path, data):
            written.append(path)
            if len(written) > 300:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(path, data)

        with open_slide(pyramid) as slide:
            monkeypatch.setattr(Path, "write_bytes", full)
            with pytest.raises(StorageError, match="got a full disk") as failed:
                convert_slide(slide, output, SMALL)
            assert "\n" not in str(failed.value)
            assert not output.exists()
            monkeypatch.undo()
            assert convert_slide(slide, output, SMALL).went_on > 0

    def test_another_job_does_not_go_on_with_it(self, pyramid, single_level, tmp_path):
        output, stop = tmp_path / "a.ome.zarr", iter([False, True])
        with open_slide(pyramid) as slide:
            convert_slide(slide, output, SMALL, should_stop=lambda: next(stop))
            with pytest.raises(StorageError, match="same settings"):
                convert_slide(slide, output, PyramidSettings(tile_px=64))
        with open_slide(single_level) as slide, pytest.raises(StorageError, match="delete that folder"):
            convert_slide(slide, output, SMALL)

    def test_two_at_once_do_not_write_to_one(self, pyramid, tmp_path):
        output = tmp_path / "a.ome.zarr"

        def meanwhile() -> bool:
            with open_slide(pyramid) as other, pytest.raises(StorageError, match="another conversion at work"):
                convert_slide(other, output, SMALL)
            return False

        with open_slide(pyramid) as slide:
            assert convert_slide(slide, output, SMALL, should_stop=meanwhile) is not None


class TestOutputs:
    @pytest.mark.parametrize("name", OUTPUTS)
    def test_nothing_is_replaced_unless_asked(self, pyramid, single_level, tmp_path, name):
        with open_slide(pyramid) as slide:
            convert_slide(slide, tmp_path / name, SMALL)
        before = hash_of(tmp_path / name)
        with open_slide(single_level) as slide:
            with pytest.raises(StorageError, match="--overwrite"):
                convert_slide(slide, tmp_path / name, SMALL)
            assert hash_of(tmp_path / name) == before
            convert_slide(slide, tmp_path / name, SMALL, overwrite=True)
        assert hash_of(tmp_path / name) != before
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["a.svs", "a", ".zarr", "a.zip", "a.jpg"])
    def test_a_name_that_tells_no_format_is_refused(self, pyramid, tmp_path, name):
        with open_slide(pyramid) as slide, pytest.raises(SettingsError, match=r"ends in \.ome\.zarr"):
            convert_slide(slide, tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_not_there_is_told(self, pyramid, tmp_path):
        with open_slide(pyramid) as slide, pytest.raises(StorageError, match="expected a folder"):
            convert_slide(slide, tmp_path / "none" / "a.ome.zarr")

    def test_compression_of_a_tiff_is_lossy_only_as_asked(self, pyramid, tmp_path):
        with open_slide(pyramid) as slide:
            convert_slide(slide, tmp_path / "a.ome.tif", PyramidSettings(tile_px=48, quality=90))
            with open_slide(tmp_path / "a.ome.tif") as again:
                difference = np.abs(level_pixels(again, 0).astype(int) - level_pixels(slide, 0))
        # A picture of noise: worse than any slide.
        assert 0 < difference.mean() < 6


def test_memory_holds_one_piece(single_level, tmp_path, monkeypatch):
    """Nothing as large as the slide is ever asked for."""
    asked = []
    with open_slide(single_level) as slide:
        read = slide.read_level
        monkeypatch.setattr(slide, "read_level", lambda level, region: asked.append(region) or read(level, region))
        convert_slide(slide, tmp_path / "a.ome.zarr", SMALL)
    assert max(region.size.area for region in asked) <= 48**2
    assert pieces_module.PyramidPieces(tmp_path, tmp_path, (Size(9, 9),), frozenset({0}), 48, bytes).regions == [
        Region(0, 0, 9, 9)
    ]
