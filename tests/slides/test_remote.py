"""Slides at an address: lazily, each tile once, and one clear line for every way in which a network fails."""

from __future__ import annotations

import pickle
import re
import shutil
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import tifffile
from drawn import draw_picture
from ome_zarr_files import write_ome_zarr
from slide_server import serving

from napari_metastasis.errors import (
    CorruptSlideError,
    FluorescenceError,
    MissingDependencyError,
    NetworkError,
    NotASlideError,
    SlideError,
)
from napari_metastasis.geometry import Region, Size
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.converting import convert_slide
from napari_metastasis.slides.lifetime import PositionedFile
from napari_metastasis.slides.network import Network
from napari_metastasis.slides.remote_file import RemoteFile, SourceReader

#: Waits that a test can afford.
HASTY = SlideSettings(network_timeout_s=5.0, network_tries=3, network_wait_s=0.0)
PART = Region(100, 60, 400, 300)


@pytest.fixture(scope="module")
def slides(tmp_path_factory, make_slide):
    """One slide in every form, by its name at the server."""
    folder, pixels = tmp_path_factory.mktemp("remote"), draw_picture(Size(901, 703))
    tiff = make_slide("remote.tif", pixels)
    for version in ("0.4", "0.5"):
        write_ome_zarr(folder / f"{version}.ome.zarr", pixels, version=version, chunk_channels=3)
    with open_slide(tiff) as slide:
        convert_slide(slide, folder / "a.ome.tif")
    shutil.make_archive(str(folder / "a.ome.zarr"), "zip", folder / "0.5.ome.zarr")
    shutil.copy(tiff, folder / "a.tif")
    return folder


@pytest.fixture
def served(slides, monkeypatch):
    # A machine's own proxy is none of the test's.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        server.add_folder(slides, "b")
        yield server


@pytest.fixture
def s3(served, monkeypatch):
    """The same, as S3 answers: nobody asks for credentials."""
    from s3fs import S3FileSystem

    for name, value in {
        "AWS_ENDPOINT_URL": served.url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none",
        "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    S3FileSystem.clear_instance_cache()
    yield served
    S3FileSystem.clear_instance_cache()


NAMES = ["a.tif", "a.ome.tif", "0.4.ome.zarr", "0.5.ome.zarr", "a.ome.zarr.zip"]


def same_as_local(address, path):
    with open_slide(address, settings=HASTY) as slide, open_slide(path) as local:
        assert (slide.name, slide.mpp, slide.format) == (local.name, local.mpp, local.format)
        assert slide.fingerprint == local.fingerprint
        assert len(slide.levels) == len(local.levels)
        for index, level in enumerate(slide.levels):
            np.testing.assert_array_equal(
                slide.read_level(index, Region.of(level.size)), local.read_level(index, Region.of(level.size))
            )


@pytest.mark.parametrize("name", NAMES)
def test_over_http_it_is_the_same_slide(served, slides, name):
    same_as_local(f"{served.url}/b/{name}", slides / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("s3")
def test_in_s3_it_is_the_same_slide(slides, name):
    same_as_local(f"s3://b/{name}", slides / name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_twice(served, name):
    with open_slide(f"{served.url}/b/{name}", settings=HASTY) as slide:
        with ThreadPoolExecutor(6) as pool:
            parts = list(pool.map(lambda _: slide.read_level(0, PART), range(6)))
        asked = len(served.asked)
        np.testing.assert_array_equal(slide.read_level(0, PART), parts[0])
        assert len(served.asked) == asked
    pieces = [(path, wanted) for method, path, wanted in served.asked if method == "GET"]
    assert len(pieces) == len(set(pieces))


def test_only_what_is_looked_at_is_fetched(served):
    """A view of a level takes its chunks, and no others."""
    with open_slide(f"{served.url}/b/0.5.ome.zarr", settings=HASTY) as slide:
        served.asked.clear()
        slide.read_level(0, Region(130, 10, 200, 100))
        chunks = {path for _, path, _ in served.asked}
        assert chunks == {f"b/0.5.ome.zarr/s0/c/0/0/{column}" for column in (1, 2)}


def test_a_slide_is_opened_again_where_it_is_unpickled(served):
    with open_slide(f"{served.url}/b/a.tif", settings=HASTY) as slide, pickle.loads(pickle.dumps(slide)) as again:
        assert again.path == slide.path
        np.testing.assert_array_equal(again.read_level(0, PART), slide.read_level(0, PART))


def told(address, settings=HASTY):
    """Return the one line that opening an address and reading a part fails with."""
    with pytest.raises(SlideError) as failed, open_slide(address, settings=settings) as slide:
        slide.read_level(0, PART)
    assert "\n" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("name", NAMES)
class TestFailing:
    def test_for_a_while_it_is_tried_again(self, served, slides, name):
        served.failing, served.status, served.cut = 1, 503, 1
        same_as_local(f"{served.url}/b/{name}", slides / name)

    def test_for_good_it_is_told(self, served, name):
        served.failing = 10_000
        error = told(f"{served.url}/b/{name}")
        assert isinstance(error, NetworkError)
        assert "server error 500, 3 times" in str(error)

    def test_in_the_middle_it_is_told(self, served, name):
        with open_slide(f"{served.url}/b/{name}", settings=HASTY) as slide:
            served.cut = 10_000
            with pytest.raises(NetworkError, match="failed connection") as failed:
                # Its file may have been fetched whole at once: that is asked for again.
                _ = slide.read_level(0, Region.of(slide.size)), slide.fingerprint
            assert "\n" not in str(failed.value)
            served.cut = 0
            # And goes on when the network is back.
            assert slide.read_level(0, PART).shape == (300, 400, 3)

    def test_slowness_is_told_with_its_limit(self, served, name):
        served.delay_s = 2.0
        error = told(f"{served.url}/b/{name}", SlideSettings(network_timeout_s=0.2, network_tries=1))
        assert isinstance(error, NetworkError)
        assert "within 0.2 s, got none" in str(error)

    def test_what_may_not_be_read_is_told(self, served, name):
        served.failing, served.status = 10_000, 403
        asked = len(served.asked)
        assert "leave to read" in str(told(f"{served.url}/b/{name}"))
        # Asked again, it would be refused again.
        assert len(served.asked) - asked <= 2


def test_what_is_not_there_is_told(served):
    for name in ("none.tif", "none.ome.zarr", "none.zip", "none"):
        error = told(f"{served.url}/b/{name}")
        assert isinstance(error, NotASlideError)
        assert f"at {served.url}/b/{name}, but nothing is there" in str(error)


def test_a_refused_connection_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = told(f"http://127.0.0.1:{port}/a.tif")
    assert isinstance(error, NetworkError)
    assert f"http://127.0.0.1:{port}/a.tif to answer, got a failed connection, 3 times" in str(error)


def test_faults_of_s3_are_told(s3):
    assert "nothing is there" in str(told("s3://b/none.tif"))
    s3.failing, s3.status = 10_000, 403
    assert "leave to read s3://b/a.tif" in str(told("s3://b/a.tif"))
    s3.failing = 0
    s3.delay_s = 2.0
    assert "within 0.2 s" in str(told("s3://b/a.tif", SlideSettings(network_timeout_s=0.2, network_tries=1)))


def test_a_server_that_sends_whole_files_only_is_told(served, slides):
    served.ranges = False
    assert "sends whole files only" in str(told(f"{served.url}/b/a.tif"))
    # Nothing of it was downloaded.
    assert served.sent < 2 * (slides / "a.tif").stat().st_size
    # Chunks of an OME-Zarr are whole files.
    same_as_local(f"{served.url}/b/0.5.ome.zarr", slides / "0.5.ome.zarr")


def test_a_lost_chunk_is_never_black(served):
    served.lost.add("b/0.5.ome.zarr/s0/c/0/1/2")
    error = told(f"{served.url}/b/0.5.ome.zarr")
    assert isinstance(error, CorruptSlideError)
    assert "a coarser level shows something there" in str(error)


def test_a_file_that_shrinks_is_told(served):
    served.files["b/a.bin"] = bytes(3 << 20)
    file = RemoteFile(Network(SlideUrl(f"{served.url}/b/a.bin"), HASTY), capacity_bytes=0)
    assert file.read(0, 10) == bytes(10)
    for left, words in ((1 << 19, "server error 416"), (None, "changed or deleted")):
        served.files["b/a.bin"] = b"" if left is None else bytes(left)
        if left is None:
            served.lost.add("b/a.bin")
        with pytest.raises(NetworkError, match=words):
            file.read(2 << 20, 10)
    file.close()


def test_what_is_no_slide_is_told(served):
    served.files["b/a.txt"] = b"no slide at all"
    assert "got another kind of file" in str(told(f"{served.url}/b/a.txt"))


@pytest.mark.parametrize(("module", "address"), [("fsspec.core", "https://h/a.tif"), ("aiohttp", "https://h/a.tif")])
def test_the_extra_is_named_where_it_is_missing(monkeypatch, module, address):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-metastasis\[remote\]'"):
        open_slide(address)


@pytest.mark.parametrize("address", ["nothing://b/a.tif", "gs://b/a.tif"])
def test_what_reads_an_address_may_be_missing(address):
    from napari_metastasis.errors import MetastasisError

    with pytest.raises(MetastasisError) as failed:
        open_slide(address)
    assert "\n" not in str(failed.value)


def test_libraries_read_a_source_as_a_file(tmp_path):
    """Also into arrays of larger items, and an NDPI, which tifffile knows by its name."""
    numbers = np.arange(5000, dtype="<u8")
    (tmp_path / "a.ndpi").write_bytes(numbers.tobytes())
    with closing(PositionedFile(tmp_path / "a.ndpi")) as source:
        reader = SourceReader(source)
        assert reader.seek(-800, 2) == 39200
        found = np.zeros(100, "<u8")
        assert reader.readinto(found) == 800
        np.testing.assert_array_equal(found, numbers[-100:])
        assert (reader.read(1), reader.tell(), reader.name) == (b"", 40000, "a.ndpi")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs", "test3-DAPI-2.ndpi"])
def test_real_slides_are_the_same_over_http(served, shared_data, name):
    path = shared_data / "slides" / name
    served.files[f"b/{name}"] = path
    try:
        open_slide(path, 0.5).close()
    except FluorescenceError as error:
        # Both say so in the same words.
        with pytest.raises(FluorescenceError, match=re.escape(str(error))):
            open_slide(f"{served.url}/b/{name}", 0.5, settings=HASTY)
        return
    with open_slide(path, 0.5) as local, open_slide(f"{served.url}/b/{name}", 0.5, settings=HASTY) as slide:
        assert (slide.fingerprint, slide.mpp, slide.format) == (local.fingerprint, local.mpp, local.format)
        np.testing.assert_array_equal(slide.read_level(0, PART), local.read_level(0, PART))
        assert list(slide.associated_images) == list(local.associated_images)


def test_a_slide_is_closed_while_it_is_read(served):
    """Nobody waits for ever, and nothing is read of a closed one."""
    served.delay_s = 0.05
    slide = open_slide(f"{served.url}/b/0.5.ome.zarr", settings=HASTY)
    reading = threading.Thread(target=lambda: slide.read_level(0, Region.of(slide.size)))
    reading.start()
    slide.close()
    reading.join(30)
    assert not reading.is_alive()


@pytest.mark.parametrize(
    ("of", "options"),
    [
        ("Leica SCN", {"description": '<?xml version="1.0"?><scn></scn>'}),
        ("Ventana", {"extratags": [(700, 7, 30, b"<?xml?><iScan Magnification='40'/>"[:30], True)]}),
        ("Trestle", {"software": "MedScan 1.0"}),
    ],
)
def test_what_openslide_has_to_join_is_refused_at_an_address(tmp_path, of, options):
    """Another library would place it otherwise, under the same fingerprint."""
    path = tmp_path / "joined.tif"
    tifffile.imwrite(
        path, draw_picture(Size(300, 200)), photometric="rgb", tile=(64, 64), metadata=None, resolution=(40000, 40000),
        resolutionunit=3, **options,
    )  # fmt: skip
    with serving() as server:
        server.files["b/joined.tif"] = path
        with pytest.raises(NotASlideError, match=f"of {of}, which OpenSlide has to put together"):
            open_slide(f"{server.url}/b/joined.tif")
