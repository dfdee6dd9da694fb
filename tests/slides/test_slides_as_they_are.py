"""Files that do not say rightly what they hold: read rightly with a note, or refused in one line."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import uniform_filter

from napari_metastasis.errors import FluorescenceError, NotASlideError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.levels import shrinks_alike
from napari_metastasis.slides.tiff_tiles import TiffTiles

MPP = 0.5
RESOLUTION = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
PLAIN = {
    "photometric": "rgb",
    "tile": (64, 64),
    "compression": "deflate",
    "planarconfig": "contig",
    "metadata": None,
} | RESOLUTION


def shrunk(pixels, factor):
    rows, columns = (side // factor * factor for side in pixels.shape[:2])
    blocks = pixels[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def write(path, *pages, **options):
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            pixels, own = page if isinstance(page, tuple) else (page, {})
            tiff.write(pixels, **(PLAIN | options | own))
    return path


def opened(path, **options):
    with open_slide(path, **options) as slide:
        return slide.read_level(0, Region.of(slide.size)), slide


def stored(slide):
    return [level.size.width for level in slide.levels if level.stored]


# Samples


def test_rgb_that_is_said_to_be_gray_is_read_as_rgb_with_a_note(tmp_path, picture):
    for layout in ({}, {"tile": None, "rowsperstrip": 50}):
        pixels, slide = opened(write(tmp_path / "slide.tif", picture, photometric="minisblack", **layout))
        np.testing.assert_array_equal(pixels, picture)
        assert "said to be gray" in slide.notes[0]


def test_fluorescence_in_three_gray_samples_stays_fluorescence(tmp_path, picture):
    dark = (255 - picture) // 4
    with pytest.raises(FluorescenceError, match="dark"):
        open_slide(write(tmp_path / "dark.tif", dark, photometric="minisblack"))


@pytest.mark.parametrize("kind", ["unspecified", None])
def test_a_fourth_sample_that_is_no_alpha_is_left_out(tmp_path, picture, kind):
    four = np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)])
    options = {} if kind is None else {"extrasamples": [kind]}
    path = write(tmp_path / "four.tif", four, **options)
    if kind is None:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages[0].tags["ExtraSamples"].overwrite(0)
    pixels, slide = opened(path)
    np.testing.assert_array_equal(pixels, picture)
    assert "fourth one" in slide.notes[0]


def test_a_slide_that_is_transparent_everywhere_is_refused(tmp_path, picture):
    four = np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)])
    with pytest.raises(NotASlideError, match="all of which is said to be transparent; export"):
        open_slide(write(tmp_path / "four.tif", four, extrasamples=["unassalpha"]))
    # Glass that nobody scanned is white in its colours, too.
    four[..., :3] = 255
    pixels, _ = opened(write(tmp_path / "glass.tif", four, extrasamples=["unassalpha"]))
    assert (pixels == 255).all()


@pytest.mark.parametrize("photometric", ["miniswhite", "icclab"])
def test_samples_that_no_reader_shows_in_their_colours_are_refused(tmp_path, picture, photometric):
    """OpenSlide would take the first of them for gray."""
    with pytest.raises(NotASlideError, match=r"expected an RGB image in slide.tif.*; export the slide as RGB"):
        open_slide(write(tmp_path / "slide.tif", picture, photometric=photometric))


# Levels


def test_a_page_that_shows_something_else_is_no_level(tmp_path, picture):
    upside_down = np.ascontiguousarray(shrunk(picture, 2)[::-1])
    path = write(tmp_path / "slide.tif", picture, upside_down)
    pixels, slide = opened(path)
    np.testing.assert_array_equal(pixels, picture)
    assert stored(slide) == [picture.shape[1]]
    assert f"{upside_down.shape[1]} x {upside_down.shape[0]} px" in slide.notes[0]
    # It can still be looked at.
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.associated_images["image 1"], upside_down)


@pytest.mark.parametrize("reduced", [0, 1])
@pytest.mark.parametrize("factor", [2, 3, 4, 16])
def test_smaller_copies_are_levels(tmp_path, picture, factor, reduced):
    sampled = picture[factor // 2 :: factor, factor // 2 :: factor]
    for smaller in (shrunk(picture, factor), np.ascontiguousarray(sampled)):
        _, slide = opened(write(tmp_path / "slide.tif", picture, (smaller, {"subfiletype": reduced})))
        assert stored(slide) == [picture.shape[1], smaller.shape[1]]
        assert slide.notes == ()


def test_a_level_of_blank_glass_is_believed(tmp_path):
    blank = np.full((600, 800, 3), 240, np.uint8)
    _, slide = opened(write(tmp_path / "blank.tif", blank, shrunk(blank, 2)))
    assert stored(slide) == [800, 400]


def test_a_level_that_shrinks_its_sides_differently_is_none(tmp_path, picture):
    squeezed = np.ascontiguousarray(shrunk(picture, 2)[:, ::2])
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        tiff.write(picture, subifds=2, **PLAIN)
        tiff.write(squeezed, subfiletype=1, **PLAIN)
        tiff.write(shrunk(picture, 4), subfiletype=1, **PLAIN)
    _, slide = opened(tmp_path / "slide.tif")
    assert stored(slide) == [picture.shape[1], picture.shape[1] // 4]
    assert f"{squeezed.shape[1]} x {squeezed.shape[0]}" in slide.notes[0]
    assert shrinks_alike(Size(1000, 800), Size(250, 201))
    assert not shrinks_alike(Size(1000, 800), Size(250, 210))
    assert not shrinks_alike(Size(1000, 800), Size(1000, 800))


@pytest.mark.parametrize("name", ["label", "macro"])
def test_labels_and_macros_are_no_slide_however_large(tmp_path, picture, name):
    label = np.tile(shrunk(picture, 2), (3, 3, 1))
    path = write(tmp_path / "slide.tif", picture, (label, {"description": f"Scanner 1.0\n{name} {label.shape[1]}x9"}))
    pixels, slide = opened(path)
    np.testing.assert_array_equal(pixels, picture)
    assert list(slide.associated_images) == [name]
    assert slide.notes == ()


def test_a_second_section_is_told_of(tmp_path, picture):
    _, slide = opened(write(tmp_path / "two.tif", picture, np.ascontiguousarray(picture[::-1, :-40])))
    assert "further images" in slide.notes[0]


def without_tile(path, page, index):
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tags = tiff.pages[page].tags
        counts = list(tags["TileByteCounts"].value)
        counts[index] = 0
        tags["TileByteCounts"].overwrite(counts)


def test_a_missing_tile_of_a_level_is_drawn_from_the_next_finer_one_that_has_it(tmp_path, picture):
    levels = [picture, shrunk(picture, 2), shrunk(picture, 4)]
    path = write(tmp_path / "slide.tif", *levels)
    for page in (1, 2):
        without_tile(path, page, 0)
    with open_slide(path) as slide:
        _, half, quarter = (level for level in slide.levels if level.stored)
        for level, factor in ((half, 2), (quarter, 4)):
            np.testing.assert_allclose(
                np.asarray(level.array[:80, :80]).astype(int), shrunk(picture, factor)[:80, :80].astype(int), atol=1
            )
        # What no level has was not scanned.
    without_tile(path, 0, 0)
    with open_slide(path) as slide:
        assert (np.asarray(slide.levels[0].array[:64, :64]) == 255).all()
        assert (np.asarray(half_of(slide)[:32, :32]) == 255).all()
        np.testing.assert_allclose(
            np.asarray(half_of(slide)[32:64, 32:64]).astype(int), shrunk(picture, 2)[32:64, 32:64].astype(int), atol=1
        )


def half_of(slide):
    return next(level for level in slide.levels if level.downsample == 2).array


# Planes


def write_ndpi(path, pages):
    """Write pages as an NDPI: pixels, magnification, and offset of the focal plane in nm."""
    data, link = bytearray(b"II*\0" + bytes(8)), 4

    def placed(what):
        at = len(data)
        data.extend(what + bytes(len(what) % 2))
        return at

    for pixels, lens, offset in pages:
        rows, columns = pixels.shape[:2]
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=90, subsampling=0)
        jpeg = stream.getvalue()
        resolution = placed(struct.pack("<2I", round(1e7 / MPP * lens / 20), 1000))
        bits, make, model = placed(struct.pack("<3H", 8, 8, 8)), placed(b"Hamamatsu\0"), placed(b"NanoZoomer\0")
        at = placed(jpeg)
        lens_bits = struct.unpack("<I", struct.pack("<f", lens))[0]
        tags = [
            (254, 4, 1, 0), (256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 3, bits), (259, 3, 1, 7), (262, 3, 1, 6),
            (271, 2, 10, make), (272, 2, 11, model), (273, 4, 1, at), (277, 3, 1, 3), (278, 4, 1, rows),
            (279, 4, 1, len(jpeg)), (282, 5, 1, resolution), (283, 5, 1, resolution), (296, 3, 1, 3),
            (65420, 4, 1, 1), (65421, 11, 1, lens_bits), (65424, 9, 1, offset & 0xFFFFFFFF),
        ]  # fmt: skip
        directory = len(data)
        data[link : link + 8] = struct.pack("<Q", directory)
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(data)
        # The upper halves of the values stand behind the next directory's place.
        data += bytes(8) + b"".join(b"\xff" * 4 if code == 65424 and offset < 0 else bytes(4) for code, _, _, _ in tags)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("order", [(0, -8000, 8000), (-8000, 0, 8000), (-8000, 8000, 0)])
def test_the_plane_in_focus_of_a_stack_is_read(tmp_path, picture, order):
    blurred = uniform_filter(picture, (31, 31, 1))
    pages = []
    for offset in order:
        plane = picture if offset == 0 else blurred
        pages += [(plane, 20.0, offset), (shrunk(plane, 4), 5.0, offset)]
    path = write_ndpi(tmp_path / "stack.ndpi", pages)
    pixels, slide = opened(path)
    reference, _ = opened(path, backend="openslide")
    assert np.abs(pixels.astype(int) - picture).mean() < 6
    np.testing.assert_allclose(pixels.astype(int), reference.astype(int), atol=4)
    assert stored(slide) == [picture.shape[1], picture.shape[1] // 4]
    assert "3 images of its size" in slide.notes[0]
    flat, slide = opened(write_ndpi(tmp_path / "flat.ndpi", [(picture, 20.0, 0)]))
    assert slide.notes == ()
    np.testing.assert_array_equal(flat, pixels)


def test_the_middle_plane_of_an_ome_stack_is_read(tmp_path, picture):
    small = picture[:256, :320]
    planes = np.stack([uniform_filter(small, (31, 31, 1)), small, uniform_filter(small, (31, 31, 1))])
    path = tmp_path / "stack.ome.tif"
    physical = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, planes, photometric="rgb", tile=(64, 64), metadata={"axes": "ZYXS"} | physical)
    pixels, slide = opened(path)
    np.testing.assert_array_equal(pixels, small)
    assert slide.mpp == MPP
    assert "3 images of its size" in slide.notes[0]


# Leica and DICOM


def test_regions_of_leica_lie_on_their_collection_as_openslide_counts(tmp_path, picture):
    um, wide, high = MPP, 3000, 2400
    regions = [(picture[:512, :640], 300, 700), (np.ascontiguousarray(picture[512:768, 640:1024]), 2000, 400)]

    def entry(name, pixels, x, y, across, down, first):
        rows, columns = pixels.shape[:2]
        return (
            f'<image name="{name}" uuid="urn:uuid:{name}"><creationDate>2012</creationDate><device model="Leica SCN400"'
            f' version="1"/><pixels sizeX="{columns}" sizeY="{rows}"><dimension sizeX="{columns}" sizeY="{rows}" r="0"'
            f' ifd="{first}"/></pixels><view sizeX="{across}" sizeY="{down}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>'
            "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
            "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
            "</illuminationSettings></scanSettings></image>"
        )

    nm = int(um * 1000)
    macro = np.full((high // 32, wide // 32, 3), 240, np.uint8)
    images = [entry("macro", macro, 0, 0, wide * nm, high * nm, 0)]
    for number, (pixels, x, y) in enumerate(regions, 1):
        rows, columns = pixels.shape[:2]
        images.append(entry(f"image_{number}", pixels, x * nm, y * nm, columns * nm, rows * nm, number))
    description = (
        '<?xml version="1.0" encoding="utf-8"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"'
        f' uuid="urn:uuid:f"><collection name="c" uuid="urn:uuid:e" sizeX="{wide * nm}" sizeY="{high * nm}"'
        f' orientation="0"><barcode>x</barcode>{"".join(images)}</collection></scn>'
    )
    path = tmp_path / "slide.scn"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, pixels in enumerate([macro, *(pixels for pixels, _, _ in regions)]):
            tiff.write(
                pixels, photometric="rgb", compression="jpeg", compressionargs={"level": 95}, tile=(256, 256),
                metadata=None, description=description if number == 0 else None,
            )  # fmt: skip
    with open_slide(path) as slide:
        assert (slide.size, slide.mpp, slide.backend) == (Size(wide, high), MPP, "openslide")
        assert slide.bounds == Region(300, 400, 2000 + 384 - 300, 700 + 512 - 400)
        for pixels, x, y in regions:
            found = slide.read_level(0, Region(x, y, pixels.shape[1], pixels.shape[0]))
            assert np.abs(found.astype(int) - pixels).mean() < 8
        assert (slide.read_level(0, Region(1000, 100, 200, 200)) == 255).all()


def dicom(series, implicit=False):
    kind = b"" if implicit else b"UI"
    length = struct.pack("<I" if implicit else "<H", len(series))
    return bytes(128) + b"DICM" + bytes(40) + b"\x20\x00\x0e\x00" + kind + length + series.encode() + bytes(99)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_folder_with_the_files_of_two_slides_names_both(tmp_path, implicit):
    for name, series in (("b.dcm", "1.2.99"), ("a", "1.2.34"), ("a2.dcm", "1.2.34")):
        (tmp_path / name).write_bytes(dicom(series, implicit))
    (tmp_path / "notes.txt").write_text("not of the slide")
    with pytest.raises(
        NotASlideError, match=r"got 2 series: a \(series 1\.2\.34\); b.dcm \(series 1\.2\.99\); give one"
    ):
        open_slide(tmp_path)


@pytest.mark.shared
def test_a_folder_of_dicom_needs_no_suffixes(shared_data, tmp_path):
    for file in sorted((shared_data / "slides" / "CMU-1-Small-Region-dicom").iterdir()):
        (tmp_path / file.stem).symlink_to(file)
    with open_slide(tmp_path) as slide:
        assert slide.size == Size(2220, 2967)


# One large piece


def test_a_strip_larger_than_the_cache_is_decoded_once(tmp_path, picture, monkeypatch):
    path = write(tmp_path / "strip.tif", picture, tile=None, rowsperstrip=picture.shape[0])
    decoded = []
    own = TiffTiles._segment

    def counted(self, index, region):
        decoded.append(index)
        return own(self, index, region)

    monkeypatch.setattr(TiffTiles, "_segment", counted)
    with open_slide(path, settings=SlideSettings(cache_mib=1)) as slide:
        for part in Region.of(slide.size).split(200):
            np.testing.assert_array_equal(slide.read_level(0, part), picture[part.slices])
    assert decoded == [0]


def test_a_strip_that_memory_has_no_room_for_says_what_to_do(tmp_path, picture, monkeypatch):
    path = write(tmp_path / "strip.tif", picture, tile=None, rowsperstrip=picture.shape[0])
    monkeypatch.setattr("napari_metastasis.slides.tiff_tiles.MAX_PIECE_PX", 1 << 20)
    with pytest.raises(NotASlideError, match=r"got 1501 x 1103; save it as a tiled TIFF"):
        open_slide(path)
