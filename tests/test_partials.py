"""What a killed process left half-written goes with the next write; what anybody is still writing stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from napari_metastasis import partials
from napari_metastasis.partials import partial_folder, sweep
from napari_metastasis.storage import atomic_text, atomic_write

DAY = 24 * 3600
EARLIER = ".0123456789abcdef.part"
ELSEWHERE = ".0123456789abcdef-01234567.part"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes by age alone")


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def make_old(path):
    before = time.time() - 2 * DAY
    os.utime(path, (before, before))


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of writing a file and of making a folder."""
    script = (
        "import pathlib, sys, time\n"
        "from napari_metastasis.partials import partial_folder\n"
        "from napari_metastasis.storage import atomic_write\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "with atomic_write(here / 'a') as file, partial_folder(here / 'f') as inside:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    inside.mkdir()\n"
        "    (inside / 'half').touch()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, writer):
    left = names(tmp_path)
    assert len(left) == 2
    with atomic_write(tmp_path / "b"):
        assert set(left) < set(names(tmp_path))
    assert names(tmp_path) == sorted([*left, "b"])
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with atomic_write(tmp_path / "c"):
        pass
    assert names(tmp_path) == ["b", "c"]


def test_two_writers_of_one_process_leave_each_other_alone(tmp_path):
    with atomic_text(tmp_path / "a") as first, atomic_text(tmp_path / "b") as second:
        first.write("1")
        second.write("2")
        sweep(tmp_path)
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("name", [EARLIER, ELSEWHERE])
@pytest.mark.parametrize("is_folder", [False, True])
def test_leftovers_without_a_lock_to_ask_are_given_a_day(tmp_path, name, is_folder):
    left = tmp_path / name
    if is_folder:
        (left / "0").mkdir(parents=True)
    else:
        left.touch()
    with atomic_write(tmp_path / "a"):
        pass
    assert left.exists()
    make_old(left)
    with atomic_write(tmp_path / "b"):
        pass
    assert not left.exists()


def test_what_is_not_ours_stays_however_old(tmp_path):
    strangers = [".part", "a.part", ".0123.part", ".0123456789ABCDEF.part", ".0123456789abcdef-.part", f"x{EARLIER}"]
    for name in strangers:
        (tmp_path / name).touch()
        make_old(tmp_path / name)
    (tmp_path / "kept").touch()
    (tmp_path / EARLIER).symlink_to(tmp_path / "kept")
    os.utime(tmp_path / EARLIER, (0, 0), follow_symlinks=False)
    with atomic_write(tmp_path / "a"):
        pass
    assert names(tmp_path) == sorted([*strangers, EARLIER, "kept", "a"])


def test_a_disk_without_locks_is_swept_by_age(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(partials, "lock", refuse)
    own = tmp_path / f".0123456789abcdef-{partials._machine()}.part"
    own.touch()
    with atomic_write(tmp_path / "a"):
        pass
    assert names(tmp_path) == [own.name, "a"]
    make_old(own)
    with atomic_write(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["a", "b"]


def test_what_cannot_be_swept_stops_nobody(tmp_path, monkeypatch):
    (tmp_path / EARLIER).touch()
    make_old(tmp_path / EARLIER)

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patch:
        patch.setattr(partials, "_delete", refuse)
        with atomic_write(tmp_path / "a"):
            pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with atomic_write(tmp_path / "b"):
            pass
    assert names(tmp_path) == [EARLIER, "a", "b"]


def test_a_file_that_was_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, swept = partials.lock, []

    def lock_late(descriptor):
        if not swept:
            swept.extend(tmp_path.glob(".*.part"))
            for path in swept:
                path.unlink()
        lock(descriptor)

    monkeypatch.setattr(partials, "lock", lock_late)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"1")
    assert swept
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), partial_folder(tmp_path / "a") as inside:  # noqa: PT012 - the block is what is tested
        inside.mkdir()
        raise KeyError("x")
    assert names(tmp_path) == []
    with partial_folder(tmp_path / "a") as inside:
        inside.mkdir()
        (inside / "b").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["b"]


def test_names_that_are_not_utf8_are_written_as_text(tmp_path):
    with atomic_text(tmp_path / "a") as file:
        file.write("\udcff µ")
    assert (tmp_path / "a").read_bytes() == b"\\udcff \xc2\xb5"


def test_a_folder_is_replaced_by_a_whole_one_and_stays_where_that_fails(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(OSError, match="Directory not empty"), partial_folder(target) as whole:
        whole.mkdir()
    with monkeypatch.context() as patch:
        rename = os.rename

        def refused(source, to):
            if os.path.basename(source) == "whole":
                raise OSError(5, "Input/output error")
            rename(source, to)

        patch.setattr(os, "rename", refused)
        with pytest.raises(OSError, match="Input/output"), partial_folder(target, replace=True) as whole:
            whole.mkdir()
    assert [path.name for path in target.iterdir()] == ["old"]
    with partial_folder(target, replace=True) as whole:
        whole.mkdir()
        (whole / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]
