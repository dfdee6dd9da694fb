"""OME-Zarr as others write it: the same pixels, mpp and place; what cannot be read is refused in one line."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from drawn import draw_picture
from ome_zarr_files import describe, halves, write_ome_zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from napari_metastasis.errors import (
    CorruptSlideError,
    FluorescenceError,
    MissingPixelSizeError,
    NotASlideError,
)
from napari_metastasis.geometry import Region, Size
from napari_metastasis.slides import open_slide


@pytest.fixture(scope="module")
def pixels():
    return draw_picture(Size(701, 503))


def same_as(slide, pixels):
    """Assert that every stored level is every other pixel of the one before, also in parts."""
    for level, expected in zip((one for one in slide.levels if one.stored), halves(pixels, 3), strict=False):
        index = slide.levels.index(level)
        np.testing.assert_array_equal(slide.read_level(index, Region.of(level.size)), expected)
        part = Region(100 >> index, 60 >> index, 300 >> index, 280 >> index)
        np.testing.assert_array_equal(slide.read_level(index, part), expected[part.slices])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "tczyx", "czyx"])
def test_what_ome_zarr_py_writes_is_read(tmp_path, pixels, version, axes):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", pixels, version=version, axes=axes)
    with open_slide(path) as slide:
        assert (slide.format, slide.name, slide.mpp, slide.notes) == ("OME-Zarr", "a", 0.5, ())
        assert [level.downsample for level in slide.levels if level.stored] == [1, 2, 4]
        same_as(slide, pixels)


@pytest.mark.parametrize(
    ("unit", "scale"), [("nanometer", 243.0), ("millimeter", 0.000243), ("micrometer", 0.243), ("um", 0.243)]
)
def test_units_of_length_become_micrometres(tmp_path, pixels, unit, scale):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels, mpp=(scale, scale), unit="micrometer")
    describe(path, lambda about: [axis.update(unit=unit) for axis in about["ome"]["multiscales"][0]["axes"][1:]])
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.243)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": None}, "to state its pixel size"),
        ({"mpp": (0.5, 0.25)}, "square pixels"),
        ({"mpp": (1000.0, 1000.0)}, "to state its pixel size"),
    ],
)
def test_a_pixel_size_is_never_guessed(tmp_path, pixels, options, words):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels, **options)
    with pytest.raises(MissingPixelSizeError, match=words):
        open_slide(path)
    with open_slide(path, 0.25) as slide:
        assert slide.mpp == 0.25
        assert slide.mpp_supplied


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"compressors": [GzipCodec(level=5)]},
        {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
        {"compressors": None},
        {"filters": [TransposeCodec(order=(2, 0, 1))]},
        {"shards": (3, 256, 256)},
        {"shards": (3, 256, 256), "compressors": None},
    ],
)
def test_every_way_of_storing_gives_what_zarr_reads(tmp_path, pixels, options):
    """zarr itself is the oracle."""
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, pixels, levels=1)
    name = next(path.glob("*/zarr.json")).parent.name
    shutil.rmtree(path / name)
    array = zarr.create_array(path / name, shape=(3, *pixels.shape[:2]), chunks=(1, 128, 64), dtype="uint8", **options)
    array[:] = np.moveaxis(pixels, 2, 0)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), np.moveaxis(array[:], 0, 2))


@pytest.mark.parametrize("compressor", ["zlib", "bz2", "lz4", "gzip", "blosc", "none"])
def test_the_second_format_and_its_codecs(tmp_path, pixels, compressor):
    import numcodecs

    codecs = {"zlib": numcodecs.Zlib(), "bz2": numcodecs.BZ2(), "lz4": numcodecs.LZ4(), "gzip": numcodecs.GZip()}
    codec = codecs.get(compressor, numcodecs.Blosc("zstd") if compressor == "blosc" else None)
    write_ome_zarr(tmp_path / "a.zarr", pixels, version="0.4", levels=1, compressor=codec, order="F")
    with open_slide(tmp_path / "a.zarr") as slide:
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), pixels)


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inside", ["", "a.ome.zarr/"])
def test_one_file_is_the_same_slide(tmp_path, pixels, packed, inside):
    folder = write_ome_zarr(tmp_path / "a.ome.zarr", pixels)
    with zipfile.ZipFile(tmp_path / "a.ome.zarr.zip", "w", packed) as archive:
        for path in folder.rglob("*"):
            archive.write(path, inside + path.relative_to(folder).as_posix())
    with open_slide(folder) as one, open_slide(tmp_path / "a.ome.zarr.zip") as other:
        same_as(other, pixels)
        assert (other.name, other.fingerprint) == (one.name, one.fingerprint)


def test_a_changed_slide_is_another_one(tmp_path, pixels):
    one = write_ome_zarr(tmp_path / "a.zarr", pixels)
    other = write_ome_zarr(tmp_path / "b.zarr", 255 - (255 - pixels) // 2)
    with open_slide(one) as first, open_slide(other) as second:
        assert first.fingerprint != second.fingerprint


def test_a_collection_of_bio_formats_shows_its_largest_image(tmp_path, pixels):
    root = tmp_path / "a.zarr"
    group = zarr.open_group(root, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_ome_zarr(root / "1", pixels, version="0.4")
    write_ome_zarr(root / "0", pixels[:300, :200], version="0.4", levels=1)
    with open_slide(root) as slide:
        same_as(slide, pixels)
        np.testing.assert_array_equal(slide.associated_images["image 0"], pixels[:300, :200])


def test_the_middle_of_a_stack_is_read_and_told(tmp_path, pixels):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels, axes="czyx", levels=1)
    (name,) = (one.parent.name for one in path.glob("*/zarr.json"))
    shutil.rmtree(path / name)
    array = zarr.create_array(path / name, shape=(3, 4, *pixels.shape[:2]), chunks=(3, 3, 128, 128), dtype="uint8")
    for plane, value in enumerate((10, 20, None, 40)):
        array[:, plane] = np.moveaxis(pixels, 2, 0) if value is None else value
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, Region.of(slide.size)), pixels)
        assert any("focal plane" in note for note in slide.notes)


class TestRefused:
    """Each in one line, which says what came."""

    @staticmethod
    def fails(path, kind, *words):
        with pytest.raises(kind) as failed:
            open_slide(path, 0.5)
        assert "\n" not in str(failed.value)
        for word in words:
            assert word in str(failed.value)

    def test_fluorescence_of_many_channels(self, tmp_path, pixels):
        many = np.concatenate([pixels, pixels], axis=2)
        self.fails(write_ome_zarr(tmp_path / "a.zarr", many), FluorescenceError, "6 channels")

    def test_sixteen_bits(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels.astype(np.uint16) * 257)
        self.fails(path, FluorescenceError, "uint16", "8 bits")

    def test_one_channel(self, tmp_path, pixels):
        self.fails(write_ome_zarr(tmp_path / "a.zarr", pixels[..., :1]), FluorescenceError, "1 channel")

    def test_labels_alone(self, tmp_path):
        zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
        self.fails(tmp_path / "a.zarr", NotASlideError, "labels alone")

    def test_a_segmentation(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels)
        describe(path, lambda about: about["ome"].update({"image-label": {}}))
        self.fails(path, NotASlideError, "labels of a segmentation")

    def test_a_plate(self, tmp_path):
        zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = {"version": "0.5", "plate": {"wells": []}}
        self.fails(tmp_path / "a.zarr", NotASlideError, "a plate")

    def test_no_multiscales(self, tmp_path):
        zarr.open_group(tmp_path / "a.zarr", mode="w")
        self.fails(tmp_path / "a.zarr", NotASlideError, "without an image")

    def test_an_array_alone(self, tmp_path):
        zarr.create_array(tmp_path / "a.zarr", shape=(3, 9, 9), dtype="uint8")
        self.fails(tmp_path / "a.zarr", NotASlideError, "one array")

    @pytest.mark.parametrize("level", ["../b.zarr/0", "/etc", "a\\b", ""])
    def test_a_level_outside_of_it(self, tmp_path, pixels, level):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels)
        describe(path, lambda about: about["ome"]["multiscales"][0]["datasets"][0].update(path=level))
        self.fails(path, CorruptSlideError, "inside a.zarr")

    def test_a_level_that_is_not_there(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels)
        first = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"][0]
        shutil.rmtree(path / first["path"])
        self.fails(path, CorruptSlideError, "expected the level", "got none")

    def test_a_codec_that_could_run_code(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels, version="0.4", levels=1)
        (about,) = path.glob("*/.zarray")
        about.write_text(json.dumps({**json.loads(about.read_text()), "filters": [{"id": "pickle"}]}))
        self.fails(path, NotASlideError, "'pickle'")

    def test_chunks_that_fill_the_memory(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels, levels=1)
        (about,) = path.glob("*/zarr.json")
        changed = json.loads(about.read_text())
        changed["chunk_grid"]["configuration"]["chunk_shape"] = [3, 1 << 15, 1 << 15]
        about.write_text(json.dumps(changed))
        self.fails(path, NotASlideError, "chunks of at most")

    def test_cut_off_json(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels)
        (path / "zarr.json").write_bytes((path / "zarr.json").read_bytes()[:100])
        self.fails(path, CorruptSlideError, "zarr.json", "JSON")

    def test_a_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.txt", "a")
        self.fails(tmp_path / "a.zip", NotASlideError, "something else")

    def test_a_cut_off_zip(self, tmp_path, pixels):
        folder = write_ome_zarr(tmp_path / "a.zarr", pixels)
        shutil.make_archive(str(tmp_path / "a"), "zip", folder)
        (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-300])
        self.fails(tmp_path / "a.zip", CorruptSlideError, "a complete .zip file")


def test_levels_that_are_none_are_left_out_and_told(tmp_path, pixels):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels)

    def change(about):
        first, second, third = about["ome"]["multiscales"][0]["datasets"]
        second["path"], third["path"] = first["path"], "gone"
        about["ome"]["multiscales"][0]["datasets"] = [first, second, third]

    describe(path, change)
    with open_slide(path) as slide:
        assert sum(level.stored for level in slide.levels) == 1
        assert any("gone" in note for note in slide.notes)
        assert any("701 x 503 px; it is left out" in note for note in slide.notes)


def test_a_scale_that_is_not_what_the_size_says_is_told(tmp_path, pixels):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels)

    def change(about):
        about["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"] = [1, 4.0, 4.0]

    describe(path, change)
    with open_slide(path) as slide:
        assert slide.levels[1].downsample == 2
        assert any("sizes are believed" in note for note in slide.notes)


class TestChunksThatAreNotStored:
    """They stand for the fill value; only another level tells whether they were left out or lost."""

    @staticmethod
    def files(path, level):
        return sorted(one for one in (path / str(level)).rglob("*") if one.is_file() and one.name != "zarr.json")

    @pytest.fixture
    def path(self, tmp_path, pixels):
        path = write_ome_zarr(tmp_path / "a.zarr", pixels, chunk_channels=3)
        names = [
            one["path"]
            for one in json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
        ]
        for level, name in enumerate(names):
            if name != str(level):
                (path / name).rename(path / str(level))
        describe(
            path,
            lambda about: [
                one.update(path=str(level)) for level, one in enumerate(about["ome"]["multiscales"][0]["datasets"])
            ],
        )
        return path

    def test_a_lost_one_of_tissue_is_never_black(self, path, pixels):
        chunk = path / "0" / "c" / "0" / "2" / "3"
        chunk.unlink()
        with open_slide(path) as slide:
            with pytest.raises(CorruptSlideError, match="copy the slide again") as failed:
                slide.read_level(0, Region(380, 250, 100, 100))
            assert "\n" not in str(failed.value)
            # What lies beside it is whole.
            np.testing.assert_array_equal(slide.read_level(0, Region(0, 0, 256, 256)), pixels[:256, :256])

    def test_a_lost_one_of_a_coarse_level_is_drawn_from_the_finer(self, path, pixels):
        (path / "1" / "c" / "0" / "0" / "1").unlink()
        with open_slide(path) as slide:
            got = slide.read_level(1, Region(128, 0, 128, 128)).astype(int)
        finer = pixels[:256, 256:512].astype(int).reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
        assert np.abs(got - finer).max() <= 1

    def test_what_is_black_in_every_level_is_black(self, tmp_path, pixels):
        """zarr leaves out chunks of nothing but the fill value."""
        framed = pixels.copy()
        framed[:, :512] = 0
        path = write_ome_zarr(tmp_path / "a.zarr", framed, chunk_channels=3)
        stored = len(self.files(path, "."))
        assert stored < len(self.files(write_ome_zarr(tmp_path / "b.zarr", pixels, chunk_channels=3), "."))
        with open_slide(path) as slide:
            same_as(slide, framed)

    def test_of_one_level_alone_it_is_told(self, tmp_path, pixels):
        framed = pixels.copy()
        framed[:, :512] = 0
        with open_slide(write_ome_zarr(tmp_path / "a.zarr", framed, levels=1)) as slide:
            (note,) = slide.notes
            assert "what is not there is shown as the file says (0 in each channel)" in note
        with open_slide(write_ome_zarr(tmp_path / "b.zarr", pixels, levels=1)) as slide:
            assert slide.notes == ()

    def test_a_damaged_one_is_told(self, path):
        chunk = path / "0" / "c" / "0" / "2" / "3"
        chunk.write_bytes(chunk.read_bytes()[:-40])
        with open_slide(path) as slide, pytest.raises(CorruptSlideError, match="damaged data"):
            slide.read_level(0, Region(380, 250, 100, 100))

    def test_a_folder_that_goes_away_is_told(self, path):
        with open_slide(path) as slide:
            path.rename(path.with_name("b.zarr"))
            with pytest.raises(CorruptSlideError, match="moved, deleted or unmounted"):
                slide.read_level(0, Region(380, 250, 100, 100))


def test_a_tile_is_decoded_once(tmp_path, pixels, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.zarr", pixels, chunk_channels=3)
    with open_slide(path) as slide:
        first = slide.read_level(0, Region(0, 0, 700, 600))
        monkeypatch.setattr("napari_metastasis.slides.zarr_array.ZarrArray.chunk", None)
        np.testing.assert_array_equal(slide.read_level(0, Region(0, 0, 700, 600)), first)
