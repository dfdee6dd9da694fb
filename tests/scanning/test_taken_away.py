"""A result folder that is deleted, renamed or replaced in the middle of a scan is noticed, and never made again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.scanning import PROBABILITY, FeatureStore, MapHeader, MapStore
from napari_metastasis.scanning.maps import store as store_module
from napari_metastasis.scanning.maps.lock import WriterLock

FRAME = HeatmapFrame(model=ModelFrame(scale=1.0, mpp=0.972, size=Size(2_400, 1_200)), patch_px=96, stride_px=8)
HEADER = MapHeader(kind=PROBABILITY, frame=FRAME, identity={"slide": "abc"})
FIRST, SECOND = Region(0, 0, 8, 8), Region(8, 0, 8, 8)
GONE = r"expected the folder .*out to stay .*, got it deleted, renamed or unmounted; put it back"


def answers(cells):
    return np.full(cells.size.shape, 0.5, np.float32)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def heatmap(out):
    with MapStore.open_or_create(out / "heatmap.ome.zarr", HEADER) as opened:
        opened.write(FIRST, answers(FIRST))
        yield opened


def features_in(folder):
    return FeatureStore.open_or_create(
        folder / "features.zarr", cells=Size(100, 100), views=1, features=2, identity={"slide": "abc"}
    )


def encoded(cells):
    return np.ones((1, *cells.size.shape, 2), np.float32)


@pytest.mark.parametrize("job", ["write", "finish", "values"])
def test_a_folder_that_is_gone_is_named_and_not_made_again(heatmap, out, tmp_path, job):
    out.rename(tmp_path / "renamed")
    with pytest.raises(StorageError, match=GONE):
        {
            "write": lambda: heatmap.write(SECOND, answers(SECOND)),
            "finish": heatmap.finish,
            "values": heatmap.values,
        }[job]()
    heatmap.close()
    assert not out.exists()
    # Nothing is lost: put back, the scan goes on.
    (tmp_path / "renamed").rename(out)
    with MapStore.open_or_create(heatmap.path, HEADER) as again:
        assert again.done[FIRST.slices].all()


def test_a_folder_that_goes_while_a_piece_is_written_leaves_nothing(heatmap, out, monkeypatch):
    append = store_module.append_region

    def late(path, cells):
        shutil.rmtree(out)
        path.parent.mkdir(parents=True)  # as Zarr does for the next chunk
        append(path, cells)

    monkeypatch.setattr(store_module, "append_region", late)
    with pytest.raises(StorageError, match=GONE):
        heatmap.write(SECOND, answers(SECOND))
    assert not out.exists()


def test_what_somebody_else_put_in_its_place_is_left_alone(heatmap, out, tmp_path):
    out.rename(tmp_path / "renamed")
    other = MapHeader(kind=PROBABILITY, frame=FRAME, identity={"slide": "another"})
    with MapStore.open_or_create(heatmap.path, other) as theirs:
        with pytest.raises(StorageError, match=GONE):
            heatmap.write(SECOND, answers(SECOND))
        heatmap.close()
        assert not theirs.done.any()
    MapStore.open_or_create(heatmap.path, other).close()


def test_a_new_store_that_was_replaced_is_not_deleted_with_its_own(out, tmp_path):
    unwritten = MapStore.open_or_create(out / "heatmap.ome.zarr", HEADER)
    out.rename(tmp_path / "renamed")
    with MapStore.open_or_create(unwritten.path, HEADER) as theirs:
        unwritten.close()
        theirs.write(FIRST, answers(FIRST))
    assert MapStore.open(unwritten.path).done.any()


def test_a_disk_that_numbers_files_anew_each_time_is_no_reason_to_stop(heatmap, monkeypatch):
    monkeypatch.setattr("os.path.samestat", lambda *_: False)
    lock = WriterLock(heatmap.path / "a", heatmap.path)
    assert lock.is_in_place
    (heatmap.path / "a").unlink()
    assert not lock.is_in_place
    lock.release()


@pytest.mark.parametrize("job", ["write", "read"])
def test_features_whose_folder_is_gone_are_neither_written_nor_read_as_missing(out, tmp_path, job):
    out.mkdir()
    store = features_in(out)
    store.write(FIRST, encoded(FIRST))
    out.rename(tmp_path / "renamed")
    with pytest.raises(StorageError, match=GONE):
        store.write(SECOND, encoded(SECOND)) if job == "write" else store.read(FIRST)
    assert not out.exists()


def test_chunks_that_a_killed_scan_did_not_finish_are_swept(heatmap, out):
    heatmap.close()
    chunks = heatmap.path / "0" / "c" / "0"
    left, strange = chunks / f"0.{'0a' * 16}.partial", chunks / "mine.partial"
    features_in(out).write(FIRST, encoded(FIRST))
    of_features = out / "features.zarr" / "present" / f"0.{'0a' * 16}.partial"
    for path in (left, strange, of_features):
        path.touch()
    MapStore.open(heatmap.path)
    assert left.exists()
    with MapStore.open_or_create(heatmap.path, HEADER) as again:
        assert again.done[FIRST.slices].all()
    features_in(out)
    assert [path.exists() for path in (left, strange, of_features)] == [False, True, False]
