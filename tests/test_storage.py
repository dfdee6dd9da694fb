"""Files are whole or absent, and a failing disk is told in one helpful line."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from napari_metastasis.errors import RegionError, StorageError
from napari_metastasis.storage import (
    atomic_text,
    atomic_write,
    home_path,
    plain_cell,
    read_at_most,
    storage_error,
    storage_errors,
    text_of_cell,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_writes_bytes_and_leaves_nothing_else(tmp_path):
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"hello")
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"hello"
    assert names(tmp_path) == ["a.bin"]


def test_text_is_utf8_with_the_same_line_ends_everywhere(tmp_path):
    with atomic_text(tmp_path / "a.csv") as file:
        file.write("µm\n")
    assert (tmp_path / "a.csv").read_bytes() == b"\xc2\xb5m\n"


@pytest.mark.parametrize("opener", [atomic_write, atomic_text])
def test_a_failure_keeps_the_old_file(tmp_path, opener):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), opener(path) as file:  # noqa: PT012 - the block is what is tested
        file.write(b"new" if opener is atomic_write else "new")
        raise KeyError("x")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_existing_file_keeps_its_permissions_and_a_new_one_follows_the_umask(tmp_path):
    umask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new"):
            pass
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o604)
        with atomic_write(tmp_path / "old"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
@pytest.mark.parametrize("opener", [atomic_write, atomic_text])
def test_a_real_failure_to_write_leaves_nothing(tmp_path, opener):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with (
            pytest.raises(StorageError, match=r"room to write .* file sizes; raise") as caught,
            opener(tmp_path / "a") as file,
        ):
            file.write((b"x" if opener is atomic_write else "x") * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == []


@pytest.mark.parametrize("failing", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "a full disk; free some space"),
        (errno.EROFS, "a read-only file system; choose a folder on a writable disk"),
        (errno.EACCES, "no permission; ask for write access to"),
        (errno.EPERM, "no permission; ask for write access to"),
        (errno.EIO, "check the disk and try again"),
    ],
)
def test_each_cause_has_its_remedy(tmp_path, monkeypatch, failing, code, said):
    path = tmp_path / "a{b}.csv"
    path.write_bytes(b"old")

    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(StorageError, match=said) as caught, atomic_write(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert caught.value.errno == code
    assert "a{b}.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a{b}.csv"]


def test_wrong_places(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="none there; create it"), atomic_write(tmp_path / "no" / "a"):
        pass
    with pytest.raises(StorageError, match="a file there; choose another"), atomic_write(tmp_path / "file" / "a"):
        pass
    with pytest.raises(StorageError, match="a folder of that name; move it"), atomic_write(tmp_path / "folder"):
        pass
    with pytest.raises(StorageError, match="too long; choose a shorter"), atomic_write(tmp_path / ("x" * 300)):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_errors_of_the_package_pass_unchanged():
    with pytest.raises(RegionError, match="outside"), storage_errors("x"):
        raise RegionError("outside")
    with pytest.raises(StorageError, match=r"^first$"), storage_errors("x"):
        raise StorageError("first")


def test_an_error_without_a_number_is_told_as_it_is():
    assert "got odd {thing}; check" in str(storage_error(OSError("odd {thing}"), "x"))


@pytest.mark.parametrize("text", ["=1+1", "+49", "-7", "@SUM(A1)", "\tx", "'=x", "slide 1", "", "'", "''"])
def test_names_are_no_formulas_and_come_back(text):
    cell = plain_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert text_of_cell(cell) == text


def test_a_file_is_read_if_it_is_no_larger_than_its_kind(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert read_at_most(path, 100) == b"x" * 100
    with pytest.raises(ValueError, match="more than 0 MiB"):
        read_at_most(path, 99)
    if sys.platform == "win32":
        return
    # Nothing in it says how much comes from a pipe.
    reading, writing = os.pipe()
    os.write(writing, b"x" * 100)
    os.close(writing)
    assert read_at_most(f"/dev/fd/{reading}", 100) == b"x" * 100
    os.close(reading)


def test_the_home_of_nobody_is_refused():
    assert home_path("~") == Path.home()
    assert home_path("a/~b") == Path("a/~b")
    with pytest.raises(StorageError, match="'~nosuchuser/x', whose user is not known here"):
        home_path("~nosuchuser/x")
