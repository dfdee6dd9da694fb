"""The store: what counts as answered, whatever happens to the process and the disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_metastasis.errors import RegionError, StorageError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.scanning import PROBABILITY, MapHeader, MapStore, digest
from napari_metastasis.scanning.maps import ome_zarr as layout
from napari_metastasis.scanning.maps.journal import append_region, read_regions
from napari_metastasis.scanning.maps.lock import WriterLock

FRAME = HeatmapFrame(model=ModelFrame(scale=3.9, mpp=0.25, size=Size(4_803, 2_402)), patch_px=96, stride_px=8)
IDENTITY = {"slide": "abc", "mpp": 0.25, "weights": "def", "views": 1}
HEADER = MapHeader(kind=PROBABILITY, frame=FRAME, identity=IDENTITY)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results" / "heatmap.ome.zarr"


@pytest.fixture
def heatmap(path):
    with MapStore.open_or_create(path, HEADER) as opened:
        yield opened


def answers(cells: Region, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(cells.size.shape).astype(np.float32)


def test_a_new_heatmap_holds_nothing(heatmap):
    assert heatmap.frame == FRAME
    assert not heatmap.done.any()
    assert np.isnan(heatmap.values()).all()
    assert heatmap.values().shape == FRAME.cells.shape == (301, 601)
    assert heatmap.values().dtype == np.float32


def test_answers_come_back(heatmap, path):
    first, second = Region(250, 100, 60, 70), Region(310, 100, 9, 70)
    heatmap.write(first, answers(first, 1))
    heatmap.write(second, answers(second, 2))
    expected = np.full(FRAME.cells.shape, np.nan, np.float32)
    expected[first.slices], expected[second.slices] = answers(first, 1), answers(second, 2)
    np.testing.assert_array_equal(heatmap.values(), expected)
    np.testing.assert_array_equal(heatmap.done, ~np.isnan(expected))
    part = Region(300, 150, 20, 30)
    np.testing.assert_array_equal(heatmap.values(part), expected[part.slices])
    assert list(read_regions(layout.journal_path(path))) == [first, second]
    with MapStore.open(path) as seen:  # while it is open for writing
        np.testing.assert_array_equal(seen.values(), expected)
        assert seen.identity == IDENTITY


def test_nan_leaves_a_cell_as_it_is(heatmap, path):
    cells = Region(0, 0, 4, 2)
    heatmap.write(cells, np.array([[0.1, np.nan, 0.3, np.nan]] * 2, np.float32))
    heatmap.write(cells, np.array([[np.nan, 0.2, np.nan, np.nan]] * 2, np.float32))
    expected = np.array([[0.1, 0.2, 0.3, np.nan]] * 2, np.float32)
    np.testing.assert_array_equal(heatmap.values(cells), expected)
    heatmap.close()
    with MapStore.open_or_create(path, HEADER) as again:
        np.testing.assert_array_equal(again.done[cells.slices], ~np.isnan(expected))


def test_it_goes_on_where_it_stopped(heatmap, path):
    cells = Region(0, 0, 50, 50)
    heatmap.write(cells, answers(cells))
    heatmap.close()
    with MapStore.open_or_create(path, replace(HEADER, identity=dict(reversed(IDENTITY.items())))) as again:
        assert again.done.sum() == 2500
        np.testing.assert_array_equal(again.values(cells), answers(cells))


def test_data_without_its_journal_line_does_not_count(heatmap, path):
    kept, lost = Region(0, 0, 50, 50), Region(50, 0, 50, 50)
    heatmap.write(kept, answers(kept))
    before = layout.journal_path(path).read_bytes()
    heatmap.write(lost, answers(lost))
    heatmap.close()
    whole_journal = layout.journal_path(path).read_bytes()
    line = len(whole_journal) - len(before)
    for cut in (0, 1, line // 2, line - 1):  # down to a line that lacks nothing but its end
        layout.journal_path(path).write_bytes(whole_journal[: len(before) + cut])
        with MapStore.open_or_create(path, HEADER) as again:
            assert again.done.sum() == 2500
            assert np.isnan(again.values(lost)).all()
    with MapStore.open_or_create(path, HEADER) as again:
        again.write(lost, answers(lost, 3))
        assert again.done.sum() == 5000
    with MapStore.open(path) as seen:
        np.testing.assert_array_equal(seen.values(lost), answers(lost, 3))


def test_a_journal_line_without_its_data_does_not_count(heatmap, path):
    cells = Region(0, 0, 50, 50)
    heatmap.write(cells, answers(cells))
    append_region(layout.journal_path(path), Region(100, 100, 10, 10))
    heatmap.close()
    with MapStore.open(path) as seen:
        assert seen.done.sum() == 2500


def test_a_damaged_chunk_is_computed_again(heatmap, path):
    left, right = Region(0, 0, 50, 50), Region(300, 0, 50, 50)
    for cells in (left, right):
        heatmap.write(cells, answers(cells))
    heatmap.close()
    chunk = layout.level_path(path, 0) / "c" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    with pytest.raises(StorageError, match="damaged data"):
        MapStore.open(path)
    with MapStore.open_or_create(path, HEADER) as again:
        assert again.done[left.slices].all()
        assert not again.done[right.slices].any()
        again.write(right, answers(right, 4))
    with MapStore.open(path) as seen:
        np.testing.assert_array_equal(seen.values(right), answers(right, 4))


def test_a_damaged_chunk_without_a_journal_can_be_written_again(heatmap, path):
    cells = Region(3, 4, 5, 6)
    heatmap.write(cells, answers(cells))
    heatmap.close()
    layout.journal_path(path).unlink()
    (chunk,) = (file for file in (path / "0" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with MapStore.open_or_create(path, HEADER) as again:
        assert not again.done.any()
        part = answers(cells)
        part[0] = np.nan
        again.write(cells, part)
        np.testing.assert_array_equal(again.values(cells), part)


def test_journal_lines_that_mean_nothing_are_skipped(tmp_path):
    path = tmp_path / "journal.jsonl"
    good = Region(1, 2, 3, 4)
    append_region(path, good)
    with path.open("ab") as file:
        file.write(b'{"x": 1}\n[]\nnull\n\xff\xfe\n{"x": 1, "y": 2, "wi')
    append_region(path, good)
    assert list(read_regions(path)) == [good, good]
    assert list(read_regions(tmp_path / "none")) == []


def test_another_identity_is_refused(heatmap, path):
    heatmap.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))
    heatmap.close()
    with pytest.raises(StorageError, match="other settings; choose another folder"):
        MapStore.open_or_create(path, replace(HEADER, identity={**IDENTITY, "views": 8}))
    assert MapStore.open(path).done.sum() == 1


def test_digests_know_values_and_not_order():
    assert digest({"a": 1, "b": 2.5}) == digest({"b": 2.5, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize("cells", [Region(0, 0, 0, 1), Region(600, 0, 2, 1), Region(-1, 0, 1, 1)])
def test_cells_that_are_not_on_the_map(heatmap, cells):
    with pytest.raises(RegionError, match="expected cells on the heatmap"):
        heatmap.values(cells)
    with pytest.raises(RegionError, match="expected cells on the heatmap"):
        heatmap.write(cells, answers(cells))


def test_answers_of_another_shape(heatmap):
    with pytest.raises(RegionError, match="expected answers of shape"):
        heatmap.write(Region(0, 0, 2, 2), np.zeros((2, 3), np.float32))


def test_one_opened_to_read_cannot_be_written(heatmap, path):
    heatmap.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))
    with MapStore.open(path) as seen, pytest.raises(StorageError, match="opened for writing"):
        seen.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))


def test_two_writers_are_refused(heatmap, path):
    with pytest.raises(StorageError, match=r"only scan that writes .* wait until it ends"):
        MapStore.open_or_create(path, HEADER)
    heatmap.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))
    heatmap.close()
    MapStore.open_or_create(path, HEADER).close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path, ready = tmp_path / "heatmap.lock", tmp_path / "ready"
    script = (
        # What WriterLock does, without the seconds that importing the package takes.
        "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB);"
        "open(sys.argv[2], 'w').close(); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path), str(ready)])
    try:
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(StorageError, match="another one is at work"):
            WriterLock(path, path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    WriterLock(path, path).release()


def test_going_on_where_a_share_knows_no_locks(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("napari_metastasis.partials.lock", refuse)
    WriterLock(tmp_path / "a", tmp_path).release()


def test_a_store_that_was_never_written_is_taken_back(tmp_path):
    path = tmp_path / "results" / "deeper" / "heatmap.ome.zarr"
    MapStore.open_or_create(path, HEADER).close()
    assert list(tmp_path.iterdir()) == []
    with MapStore.open_or_create(path, HEADER) as kept:
        kept.finish()  # nothing but glass, and that is a result
    assert MapStore.open(path).done.sum() == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_left_as_it_was(tmp_path, monkeypatch, code):
    def refuse(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StorageError) as caught:
        MapStore.open_or_create(tmp_path / "a" / "b" / "h.zarr", HEADER)
    assert caught.value.errno == code
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_disk_that_fills_up_keeps_what_was_stored(heatmap, path):
    import resource

    first, second = Region(0, 0, 200, 200), Region(200, 0, 200, 200)
    heatmap.write(first, answers(first))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StorageError, match="limit on file sizes"):
            heatmap.write(second, answers(second))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert not heatmap.done[second.slices].any()
    np.testing.assert_array_equal(heatmap.values(first), answers(first))
    heatmap.write(second, answers(second))
    heatmap.close()
    assert MapStore.open(path).done.sum() == 80_000


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"attributes": {"napari_metastasis": {"heatmap_version": 1}}}'])
def test_something_else_of_that_name(tmp_path, content):
    path = tmp_path / "heatmap.ome.zarr"
    path.mkdir()
    (path / "zarr.json").write_text(content)
    with pytest.raises(StorageError, match="expected a heatmap at"):
        MapStore.open_or_create(path, HEADER)
    assert (path / "zarr.json").read_text() == content


@pytest.mark.parametrize("damage", ["cut", "gone", "another array"])
def test_a_level_whose_description_is_damaged(heatmap, path, damage):
    heatmap.write(Region(0, 0, 2, 2), np.full((2, 2), 0.5, np.float32))
    heatmap.close()
    if damage == "another array":
        zarr.create_array(path / "0", shape=(3, 3), dtype="float32", overwrite=True)
        (path / "0" / "journal.jsonl").touch()
    elif damage == "gone":
        (path / "0" / "zarr.json").unlink()
    else:
        (path / "0" / "zarr.json").write_text("{")
    for opened in (lambda: MapStore.open(path), lambda: MapStore.open_or_create(path, HEADER)):
        with pytest.raises(StorageError, match="expected"):
            opened()


def test_a_heatmap_of_another_version(heatmap, path):
    heatmap.finish()
    header = json.loads((path / "zarr.json").read_text())
    header["attributes"]["napari_metastasis"]["heatmap_version"] = 99
    (path / "zarr.json").write_text(json.dumps(header))
    with pytest.raises(StorageError, match="version 1, got 99"):
        MapStore.open(path)


def test_the_pyramid_keeps_the_highest(heatmap, path):
    cells = Region(33, 21, 301, 200)
    heatmap.write(cells, answers(cells))
    heatmap.finish()
    finest = heatmap.values()
    group = zarr.open_group(path, mode="r")
    shapes = [group[str(level)].shape for level in range(3)]
    assert shapes == [(301, 601), (151, 301), (76, 151)]
    assert "3" not in group
    for level in (1, 2):
        stored, side = group[str(level)][:], 2**level
        for row, column in np.ndindex(stored.shape):
            block = finest[row * side : (row + 1) * side, column * side : (column + 1) * side]
            numbers = block[~np.isnan(block)]
            assert np.isnan(stored[row, column]) if numbers.size == 0 else stored[row, column] == numbers.max()
    heatmap.finish()  # again, as after another region
    assert len(zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"]) == 3


def test_the_description_is_ome_zarr_in_micrometres(heatmap, path):
    models = pytest.importorskip("ome_zarr_models.v05")
    heatmap.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))
    heatmap.finish()
    group = zarr.open_group(path, mode="r")
    models.Image.from_zarr(group)
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["unit"] for axis in multiscale["axes"]] == ["micrometer"] * 2
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"] == [pytest.approx(FRAME.cell_um * 2**level)] * 2
        # The centre of a level's first cell is the common centre of the cells that it stands for.
        middle = FRAME.um.translate + FRAME.um.scale * (2**level - 1) / 2
        assert translation["translation"] == [pytest.approx(middle)] * 2


def test_groups_are_read_without_a_warning(heatmap, path):
    heatmap.write(Region(0, 0, 1, 1), np.ones((1, 1), np.float32))
    heatmap.finish()
    assert sorted(name for name, _ in zarr.open_group(path, mode="r").members()) == ["0", "1", "2"]
