"""Zeiss CZI: scenes and pyramids on one canvas, what is refused, and damage that ends the library."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
from czi_files import JPEG_XR, PLAIN, ZSTD, Tile, czi_bytes, halved, metadata, tiles_of, write_czi
from drawn import draw_picture
from pylibCZIrw import czi

from napari_metastasis.errors import (
    CorruptSlideError,
    FluorescenceError,
    MissingDependencyError,
    MissingPixelSizeError,
    NotASlideError,
    SlideError,
)
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide

MPP = 0.25
#: Where the two scenes lie in the file: before its origin, and at no whole pixel of the coarser levels.
ONE, OTHER = (-130, 71), (1501, 903)
#: The other's corner on the canvas, which begins at the first.
SHIFT = (OTHER[0] - ONE[0], OTHER[1] - ONE[1])
LARGE, SMALL = draw_picture(Size(1280, 768), 1), draw_picture(Size(512, 256), 2)


def scene(picture, corner, number, *, compressions=(PLAIN, PLAIN, PLAIN)):
    return [
        tile
        for level, compression in enumerate(compressions)
        for tile in tiles_of(
            halved(picture, level), 256, corner=corner, downsample=2**level, scene=number, compression=compression
        )
    ]


def two_scenes(**options):
    return [*scene(LARGE, ONE, 0, **options), *scene(SMALL, OTHER, 1, **options)]


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    """Return a file as scanners write it; its levels are compressed in three ways."""
    label, macro, thumbnail = LARGE[:90, :200], LARGE[:120, :300], LARGE[:64, :64]
    return write_czi(
        tmp_path_factory.mktemp("czi") / "node.czi",
        two_scenes(compressions=(JPEG_XR, ZSTD, PLAIN)),
        attachments={
            "Label": ("CZI", czi_bytes([Tile(label, 0, 0)])),
            "SlidePreview": ("CZI", czi_bytes([Tile(macro, 5, 5, compression=JPEG_XR)])),
            "Thumbnail": ("JPG", imagecodecs.jpeg_encode(thumbnail, level=95)),
            "EventList": ("CZEVL", b"nothing to see"),
        },
    )


def refused(error, path, *words, **options) -> str:
    with pytest.raises(error) as caught:
        open_slide(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text, "no remedy"
    for word in words:
        assert word in text
    return text


def test_scenes_lie_on_one_canvas_on_every_level(slide_file):
    with open_slide(slide_file) as slide:
        assert (slide.format, slide.backend, slide.notes, slide.bounds) == ("Zeiss CZI", "pylibczirw", (), None)
        assert (slide.mpp, slide.objective_power) == (pytest.approx(MPP), 20)
        assert slide.size == Size(SHIFT[0] + 512, SHIFT[1] + 256)
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert all(level.stored for level in slide.levels)
        for number, level in enumerate(slide.levels):
            pixels = slide.read_level(number, Region.of(level.size))
            first, other = halved(LARGE, number), halved(SMALL, number)
            np.testing.assert_array_equal(pixels[: first.shape[0], : first.shape[1]], first)
            x, y = (int(side / level.downsample) for side in SHIFT)
            # A scene that begins between two pixels of a level lies on one of them.
            assert any(
                (pixels[y + down :, x + across :][2:-2, 2:-2][:50, :50] == other[2:-2, 2:-2][:50, :50]).mean() > 0.95
                for down in (0, 1)
                for across in (0, 1)
            )
            assert (pixels[first.shape[0] + 1 :, : x - 1] == 255).all(), "what was not scanned is white"
            strips = [
                slide.read_level(number, Region(0, top, level.size.width, min(37, level.size.height - top)))
                for top in range(0, level.size.height, 37)
            ]
            np.testing.assert_array_equal(np.vstack(strips), pixels)


def test_coarse_tiles_over_what_was_not_scanned_are_white_there(tmp_path):
    """A writer's pyramid spans both scenes, and is black between them."""
    black = np.zeros((1024, 2048, 3), np.uint8)
    black[:768, :1280] = LARGE
    tiles = [*tiles_of(LARGE, 256, scene=0), *tiles_of(SMALL, 256, corner=(1536, 768), scene=1)]
    black[768:, 1536:] = SMALL
    tiles += tiles_of(halved(black), 512, downsample=2)
    with open_slide(write_czi(tmp_path / "spanning.czi", tiles)) as slide:
        coarse = slide.read_level(1, Region.of(slide.levels[1].size))
    expected = np.full_like(coarse, 255)
    expected[:384, :640], expected[384:, 768:] = halved(LARGE), halved(SMALL)
    np.testing.assert_array_equal(coarse, expected)


def test_a_level_of_only_one_scene_is_none(tmp_path):
    tiles = [*scene(LARGE, ONE, 0), *tiles_of(SMALL, 256, corner=OTHER, scene=1)]
    with open_slide(write_czi(tmp_path / "lacking.czi", tiles)) as slide:
        assert [level.downsample for level in slide.levels if level.stored] == [1]
        level = slide.levels[1]
        pixels = slide.read_level(1, Region(*(side // 2 + 4 for side in SHIFT), 100, 50))
    assert level.downsample == 2
    # Between the pixels of the level: each is the mean of four that lie there.
    assert np.abs(pixels.astype(int) - halved(SMALL)[4:54, 4:104]).mean() < 25
    assert (pixels < 255).any()


def test_levels_in_steps_of_three(tmp_path):
    picture = draw_picture(Size(1152, 756), 3)
    tiles = [*tiles_of(picture, 252), *tiles_of(halved(picture, 1, 3), 252, downsample=3)]
    with open_slide(write_czi(tmp_path / "thirds.czi", tiles)) as slide:
        assert [level.downsample for level in slide.levels if level.stored] == [1, 3]
        number = next(index for index, level in enumerate(slide.levels) if level.downsample == 3)
        np.testing.assert_array_equal(
            slide.read_level(number, Region(7, 9, 300, 200)), halved(picture, 1, 3)[9:209, 7:307]
        )


def test_images_beside_the_slide(slide_file):
    with open_slide(slide_file) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        np.testing.assert_array_equal(slide.associated_images["label"], LARGE[:90, :200])
        np.testing.assert_array_equal(slide.associated_images["macro"], LARGE[:120, :300])
        assert np.abs(slide.associated_images["thumbnail"].astype(int) - LARGE[:64, :64]).mean() < 8


def test_openslide_sees_the_same_where_it_can(tmp_path):
    path = write_czi(tmp_path / "plain.czi", two_scenes(compressions=(ZSTD, PLAIN, PLAIN)))
    with open_slide(path) as one, open_slide(path, backend="openslide") as other:
        assert (one.mpp, one.size, one.objective_power) == (other.mpp, other.size, other.objective_power)
        whole = Region.of(one.size)
        np.testing.assert_array_equal(one.read_level(0, whole), other.read_level(0, whole))


def test_what_zeiss_own_library_writes(tmp_path, picture):
    path = tmp_path / "zeiss.czi"
    with czi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=1") as file:
        for y in range(0, picture.shape[0], 400):
            for x in range(0, picture.shape[1], 400):
                bgr = np.ascontiguousarray(picture[y : y + 400, x : x + 400, ::-1])
                file.write(bgr, location=(x + 40, y - 900), scene=0)
        file.write_metadata(scale_x=0.5e-6, scale_y=0.5e-6)
    with open_slide(path) as slide:
        assert (slide.mpp, slide.objective_power) == (pytest.approx(0.5), None)
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), picture)


def test_many_threads_and_another_process(slide_file):
    with open_slide(slide_file) as slide:
        again = pickle.dumps(slide)

        def is_right(seed):
            x, y = (int(side) for side in np.random.default_rng(seed).integers(0, 600, 2))
            return np.array_equal(slide.read_level(0, Region(x, y, 200, 90)), LARGE[y : y + 90, x : x + 200])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_right, range(60)))
        slide.forget()
        assert is_right(3)
    with pickle.loads(again) as other:
        np.testing.assert_array_equal(other.read_level(0, Region(0, 0, 300, 200)), LARGE[:200, :300])
    with pytest.raises(SlideError, match="closed"):
        slide.read_level(0, Region(0, 0, 9, 9))


def gray(dtype, channel=0):
    return Tile(np.full((200, 300), 90, dtype), 0, 0, more={"C": channel})


@pytest.mark.parametrize(
    ("tiles", "error", "words"),
    [
        ([gray(np.uint16), gray(np.uint16, 1)], FluorescenceError, ("fluorescence", "2 channel(s) of Gray16")),
        ([gray(np.uint8)], FluorescenceError, ("1 channel(s) of Gray8",)),
        ([Tile(LARGE.astype(np.uint16) * 256, 0, 0)], NotASlideError, ("8 bits", "Bgr48")),
        ([Tile(LARGE, 0, 0, more={"T": at}) for at in range(3)], NotASlideError, ("3 time points",)),
        ([Tile(LARGE, 0, 0, more={"R": at}) for at in range(2)], NotASlideError, ("2 rotations",)),
        ([Tile(halved(LARGE), 0, 0, 2)], CorruptSlideError, ("full resolution",)),
    ],
)
def test_what_is_no_slide(tmp_path, tiles, error, words):
    refused(error, write_czi(tmp_path / "other.czi", tiles), *words)


def test_the_middle_of_a_stack_and_the_channel_in_colour_are_read(tmp_path):
    planes = [LARGE, LARGE[::-1], LARGE[:, ::-1]]
    tiles = [Tile(plane, 0, 0, more={"Z": at, "C": 1}) for at, plane in enumerate(planes)]
    tiles += [Tile(plane[..., 0], 0, 0, more={"Z": at, "C": 0}) for at, plane in enumerate(planes)]
    with open_slide(write_czi(tmp_path / "stack.czi", tiles)) as slide:
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), planes[1])
        assert len(slide.notes) == 2
        for note, word in zip(slide.notes, ("one focal plane in stack.czi, got 3", "one channel"), strict=True):
            assert word in note


@pytest.mark.parametrize(
    "xml", [metadata(mpp=None), metadata(mpp=0), metadata(mpp=-1), metadata(mpp=4000), "<no", "plain"]
)
def test_metadata_without_a_pixel_size(tmp_path, xml):
    path = write_czi(tmp_path / "unsized.czi", [Tile(LARGE, 0, 0)], xml=xml)
    refused(MissingPixelSizeError, path, "--mpp")
    with open_slide(path, 0.25) as slide:
        assert slide.mpp_supplied


@pytest.mark.parametrize("share", [0.001, 0.02, 0.4, 0.9, 0.999])
def test_cut_off(slide_file, tmp_path, share, capfd):
    path = tmp_path / "cut.czi"
    path.write_bytes(slide_file.read_bytes()[: int(slide_file.stat().st_size * share)])
    refused((CorruptSlideError, NotASlideError), path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("at", [31, 30, 17, 14, 2])
def test_a_damaged_tile(tmp_path, capfd, at):
    """What a subblock says of itself is believed by the library, which may look for it far outside of the memory."""
    tiles = scene(LARGE, (0, 0), 0)
    data = bytearray(czi_bytes(tiles, xml=metadata(tiles)))
    data[data.index(b"ZISRAWSUBBLOCK") + 32 + 16 + at] = 255
    path = tmp_path / "damaged.czi"
    path.write_bytes(data)
    with open_slide(path) as slide:
        with suppress(CorruptSlideError):
            slide.read_level(0, Region(0, 0, 200, 200))
        # The others are read all the same.
        np.testing.assert_array_equal(slide.read_level(0, Region(700, 300, 300, 200)), LARGE[300:500, 700:1000])
    assert capfd.readouterr() == ("", "")


def test_a_size_that_openslide_divides_by(tmp_path):
    """The specification lets what is stored as it is state no stored size; OpenSlide then ends its process."""
    data = bytearray(czi_bytes(tiles := [Tile(LARGE, 0, 0, scene=0)], xml=metadata(tiles)))
    for letter in (b"X\0\0\0", b"Y\0\0\0"):
        at = data.find(letter)
        while at >= 0:
            data[at + 16 : at + 20] = bytes(4)
            at = data.find(letter, at + 1)
    path = tmp_path / "unstated.czi"
    path.write_bytes(data)
    for backend in ("openslide", "pylibczirw"):
        with suppress(CorruptSlideError), open_slide(path, backend=backend) as slide:
            np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), LARGE)


def test_without_the_library(slide_file, tmp_path, monkeypatch):
    plain = write_czi(tmp_path / "plain.czi", two_scenes())
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    refused(MissingDependencyError, slide_file, "pip install 'napari-metastasis[formats]'", "Zeiss CZI")
    refused(MissingDependencyError, slide_file, "[formats]", backend="pylibczirw")
    # OpenSlide knows the format, but not its usual compression.
    with open_slide(plain) as slide:
        assert slide.backend == "openslide"
        np.testing.assert_array_equal(slide.read_level(0, Region(0, 0, 300, 200)), LARGE[:200, :300])


def test_another_file_is_not_taken(pyramid):
    refused(NotASlideError, pyramid, "a Zeiss CZI file for pylibczirw", backend="pylibczirw")
