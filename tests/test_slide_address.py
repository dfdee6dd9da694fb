"""Addresses of slides: told from paths, named as files are, and shown without what grants access."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from napari_metastasis.errors import NotASlideError
from napari_metastasis.slide_address import SlideUrl, real_place, results_place, slide_path
from napari_metastasis.slides.naming import slide_name


@pytest.mark.parametrize(
    "text", ["a.svs", "/data/a.svs", "a:b.svs", "C:/a.svs", "C:\\a.svs", "https:/a.svs", "x://a.svs", "", "a b://c"]
)
def test_these_are_paths(text):
    assert slide_path(text) == Path(text)


def test_an_address_of_this_machine_is_a_path():
    assert slide_path("file:///data/a%20b.svs") == Path("/data/a b.svs")


@pytest.mark.parametrize(
    ("text", "name", "called"),
    [
        ("https://host/a/b.svs", "b.svs", "b"),
        ("http://host:8080/b.ome.tif", "b.ome.tif", "b.ome"),
        ("s3://bucket/a/b.ome.zarr", "b.ome.zarr", "b"),
        ("s3://bucket/a/b.ome.zarr/", "b.ome.zarr", "b"),
        ("https://host/b.ome.zarr.zip", "b.ome.zarr.zip", "b"),
        ("https://host/a%20b.svs", "a b.svs", "a b"),
        ("s3://bucket/a #1?/b.svs", "b.svs", "b"),
        ("https://host", "host", "host"),
    ],
)
def test_an_address_keeps_both_slashes_and_has_a_name(text, name, called):
    address = slide_path(text)
    assert isinstance(address, SlideUrl)
    assert (str(address), address.name, slide_name(address)) == (text, name, called)
    assert slide_path(address) is address
    assert pickle.loads(pickle.dumps(address)) == address


def test_what_may_grant_access_is_not_shown():
    address = SlideUrl("https://me:secret@host/a.svs?version=2&auth=abc&sig=d#access_token=e")
    assert str(address) == "https://host/a.svs"
    assert "secret" not in repr(address)
    assert address.inside("0/c") == "https://me:secret@host/a.svs/0/c?" + address.url.partition("?")[2]


def test_in_a_bucket_a_name_may_hold_any_sign():
    assert SlideUrl("s3://b/x#1/a?.ome.zarr").inside("0/c") == "s3://b/x#1/a?.ome.zarr/0/c"


def test_what_cannot_be_an_address_is_refused():
    with pytest.raises(NotASlideError, match="expected the address of a slide, got https://"):
        slide_path("https://[::1/a.svs")


def test_results_of_an_address_go_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results_place(SlideUrl("https://host/a.svs")) == tmp_path
    assert results_place(Path("/data/a.svs")) == Path("/data")


def test_two_names_of_one_place(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert real_place(tmp_path / "b") == real_place(tmp_path / "a")
    assert real_place(SlideUrl("s3://b/a")) == "s3://b/a"
