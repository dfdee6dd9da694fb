"""Which reader takes a file, and what the user is told where none can."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tifffile

from napari_metastasis.errors import (
    CorruptSlideError,
    FluorescenceError,
    MissingPixelSizeError,
    NotASlideError,
    SettingsError,
)
from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **({"tile": (64, 64), "metadata": None} | options))
    return path


def message(error, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        open_slide(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text, "no remedy"
    return text


def test_no_such_file(tmp_path):
    assert "does not exist" in message(NotASlideError, tmp_path / "none.svs")


def test_a_folder(tmp_path):
    assert "the folder" in message(NotASlideError, tmp_path)


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.svs"
    path.touch()
    assert "is empty" in message(NotASlideError, path)


def test_random_bytes(tmp_path):
    path = tmp_path / "random.svs"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "no reader recognises" in message(NotASlideError, path)
    assert "TIFF file for tifffile" in message(NotASlideError, path, backend="tifffile")
    assert "no reader recognises" in message(NotASlideError, path, backend="openslide")


@pytest.mark.parametrize("magic", [b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])
def test_a_tiff_header_and_nothing_behind(tmp_path, magic, capfd):
    path = tmp_path / "header.tif"
    path.write_bytes(magic + np.random.default_rng(1).bytes(300))
    assert "cop" in message((CorruptSlideError, NotASlideError), path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.999])
def test_truncated(pyramid, tmp_path, share, capfd):
    data = pyramid.read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: int(len(data) * share)])
    message(CorruptSlideError, path)
    assert capfd.readouterr() == ("", "")


def test_missing_pixel_size(make_slide, picture):
    path = make_slide("no-mpp.tif", picture, mpp=None)
    text = message(MissingPixelSizeError, path)
    assert "--mpp" in text
    assert "Set pixel size…" in text
    with open_slide(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_supplied) == (0.25, True)


def test_a_printers_resolution_is_no_pixel_size(tmp_path, picture):
    path = write(tmp_path / "dpi.tif", picture, photometric="rgb", resolution=(300, 300), resolutionunit="INCH")
    message(MissingPixelSizeError, path)


def test_oblong_pixels(tmp_path, picture):
    path = write(
        tmp_path / "oblong.tif", picture, photometric="rgb", resolution=(40000, 20000), resolutionunit="CENTIMETER"
    )
    assert "square pixels" in message(MissingPixelSizeError, path)
    with open_slide(path, mpp=0.3) as slide:
        assert slide.mpp == 0.3


def test_the_caller_is_believed_over_the_file(pyramid):
    with open_slide(pyramid, mpp=0.5) as slide:
        assert slide.mpp == 0.5
    with open_slide(pyramid) as slide:
        assert not slide.mpp_supplied


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), 250])
def test_impossible_pixel_sizes(pyramid, mpp):
    message(SettingsError, pyramid, mpp=mpp)


def test_unknown_backend(pyramid):
    message(SettingsError, pyramid, backend="magic")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_channels_are_fluorescence(tmp_path, dtype):
    pixels = np.zeros((3, 200, 200), dtype)
    path = write(tmp_path / "grey.tif", pixels, photometric="minisblack")
    assert "fluorescence" in message(FluorescenceError, path)


def test_a_dark_ground_is_fluorescence(make_slide):
    pixels = np.zeros((600, 600, 3), np.uint8)
    pixels[::9, ::7, 2] = 200
    assert "dark" in message(FluorescenceError, make_slide("dark.tif", pixels))


def test_a_black_border_is_not(make_slide, picture):
    pixels = np.zeros((1600, 1600, 3), np.uint8)
    pixels[100:900, 100:1100] = picture[:800, :1000]
    with open_slide(make_slide("border.tif", pixels)) as slide:
        assert slide.size.width == 1600


def test_sixteen_bits(tmp_path):
    path = write(tmp_path / "deep.tif", np.full((100, 100, 3), 60000, np.uint16), photometric="rgb")
    assert "8 bits" in message(NotASlideError, path)


def test_ome_tiff(tmp_path, picture):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
        tiff.write(picture, tile=(128, 128), photometric="rgb", subifds=1, metadata=metadata)
        tiff.write(picture[::2, ::2], tile=(128, 128), photometric="rgb", subfiletype=1)
    with open_slide(path) as slide:
        assert slide.format == "OME-TIFF"
        assert slide.mpp == pytest.approx(0.25)
        assert [level.stored for level in slide.levels] == [True, True]
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), picture)


@pytest.mark.shared
class TestRealSlides:
    """The files that scanners wrote."""

    @pytest.fixture
    def slides(self, shared_data):
        return shared_data / "slides"

    def test_aperio(self, slides):
        with open_slide(slides / "CMU-1-Small-Region.svs") as slide:
            assert (slide.format, slide.backend, slide.mpp, slide.objective_power) == (
                "Aperio SVS", "tifffile", 0.499, 20,
            )  # fmt: skip
            assert [level.downsample for level in slide.levels] == [1, 2, 4]
            assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
            assert slide.associated_images["macro"].shape == (431, 1280, 3)

    def test_both_readers_agree(self, slides):
        path = slides / "CMU-1-Small-Region.svs"
        with open_slide(path) as one, open_slide(path, backend="openslide") as other:
            assert (one.mpp, one.size, one.objective_power) == (other.mpp, other.size, other.objective_power)
            region = Region(-30, 700, 900, 500)
            for level in range(len(one.levels)):
                difference = np.abs(one.read_level(level, region).astype(int) - other.read_level(level, region))
                assert difference.max() <= 2
            for name, image in one.associated_images.items():
                assert np.abs(image.astype(int) - other.associated_images[name]).mean() < 1

    def test_the_dicom_copy_shows_the_same(self, slides):
        # Its tiles were compressed anew, with less colour: single pixels differ, the picture does not.
        with (
            open_slide(slides / "CMU-1-Small-Region.svs") as one,
            open_slide(slides / "CMU-1-Small-Region-dicom") as other,
        ):
            assert other.format == "DICOM"
            assert (one.mpp, one.size) == (other.mpp, other.size)
            assert other.name == "CMU-1-Small-Region-dicom"
            level = len(one.levels) - 1
            whole = Region.of(one.levels[level].size)
            difference = np.abs(one.read_level(level, whole).astype(int) - other.read_level(level, whole))
            assert difference.mean() < 2

    def test_jpeg_2000_without_pixel_size(self, slides):
        path = slides / "tcga-cr-7395-01a-01-ts1.svs"
        message(MissingPixelSizeError, path)
        with open_slide(path, 0.25) as slide, open_slide(path, 0.25, backend="openslide") as other:
            assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]
            assert [level.stored for level in slide.levels] == [True, True, False, False]
            region = Region(900, 800, 300, 200)
            difference = np.abs(slide.read_level(0, region).astype(int) - other.read_level(0, region))
            assert difference.max() <= 8
            # 4443 px over 2221: OpenSlide takes 2.0005 for the scale, and shifts by the fraction of a pixel.
            difference = np.abs(slide.read_level(1, region).astype(int) - other.read_level(1, region))
            assert difference.mean() < 5
            whole = other.read_level(1, Region(800, 700, 500, 500))
            np.testing.assert_array_equal(other.read_level(1, region), whole[100:300, 100:400])

    @pytest.mark.parametrize("backend", ["tifffile", "openslide"])
    def test_fluorescence(self, slides, backend):
        assert "fluorescence" in message(FluorescenceError, slides / "test3-DAPI-2.ndpi", backend=backend)

    def test_not_a_slide(self, slides):
        message(NotASlideError, slides / "broken.svs")

    @pytest.mark.parametrize("backend", ["auto", "openslide"])
    def test_truncated(self, slides, tmp_path, backend):
        path = tmp_path / "cut.svs"
        data = (slides / "CMU-1-Small-Region.svs").read_bytes()
        path.write_bytes(data[: len(data) // 2])
        message((CorruptSlideError, NotASlideError) if backend == "openslide" else CorruptSlideError, path,
                backend=backend)  # fmt: skip


def test_tifffile_keeps_quiet(capfd):
    logging.getLogger("tifffile").warning("noise")
    assert capfd.readouterr().err == ""
