"""Maps, features and measurements on disk that cannot be so are refused, or made again."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.scanning.engines.tuning import Tuned, TuningCache
from napari_metastasis.scanning.maps.features import FeatureStore
from napari_metastasis.scanning.maps.journal import append_region, read_regions
from napari_metastasis.scanning.maps.kinds import PROBABILITY
from napari_metastasis.scanning.maps.ome_zarr import MapHeader
from napari_metastasis.scanning.maps.store import MapStore

FRAME = HeatmapFrame(ModelFrame(2.0, 0.5, Size(300, 200)), patch_px=96, stride_px=8)
HEADER = MapHeader(PROBABILITY, FRAME, {"slide": "a"})


@pytest.fixture
def heatmap(tmp_path):
    with MapStore.open_or_create(tmp_path / "heatmap.ome.zarr", HEADER) as store:
        store.write(Region(0, 0, 20, 12), np.full((12, 20), 0.5, np.float32))
        store.finish()
    return tmp_path / "heatmap.ome.zarr"


def change(path, *keys, to):
    """Exchange one value of a file of JSON."""
    document = json.loads(path.read_text())
    node = document
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = to
    path.write_text(json.dumps(document))


OWN = ("attributes", "napari_metastasis")


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (("heatmap_version",), [None, 2, "\ud800", [1]]),
        (("identity",), [None, [], "ab", 3]),
        (("map",), [None, [], {"name": 3}]),
        (("map", "stem"), [None, 3, "a\nb", {}]),
        (("frame",), [None, [], {}]),
        (("frame", "stride_px"), [0, -8, 8.0, "8", None, True, 10**30]),
        (("frame", "patch_px"), [0, 1e300, None]),
        (("frame", "model", "scale"), [0, -1, "2", None, float("inf"), float("nan"), 1e300]),
        (("frame", "model", "size"), [None, [300, 200], {"width": 300}, {"width": 2**40, "height": 2**40}]),
        (("frame", "model", "size", "width"), [0, -1, 300.5, "300", True]),
    ],
)
def test_a_header_that_no_map_has_is_refused(heatmap, keys, values):
    for value in values:
        change(heatmap / "zarr.json", *OWN, *keys, to=value)
        with pytest.raises(StorageError) as caught:
            MapStore.open(heatmap)
        assert "\n" not in str(caught.value)


def test_cells_that_no_slide_has_take_no_memory(heatmap):
    size = {"width": 2**23, "height": 2**23}
    change(heatmap / "zarr.json", *OWN, "frame", "model", "size", to=size)
    change(heatmap / "0" / "zarr.json", "shape", to=[2**20, 2**20])
    tracemalloc.start()
    try:
        with pytest.raises(StorageError):
            MapStore.open(heatmap)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", ["shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value"])
def test_an_array_of_another_kind_is_refused_or_computed_again(heatmap, key):
    """Chunks of another size could be of any."""
    path = heatmap / "0" / "zarr.json"
    whole = path.read_text()
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 16, 1 << 16]}}
    for value in (None, 3, "ab", [], {}, [{"name": "none"}], [0, 0], {"name": "regular"}, grid):
        path.write_text(whole)
        change(path, key, to=value)
        with suppress(StorageError):
            with MapStore.open(heatmap) as store:
                store.values()
            assert value is not grid or key != "chunk_grid"


def test_a_map_whose_group_is_damaged_is_not_finished(heatmap):
    with MapStore.open_or_create(heatmap, HEADER) as store:
        document = json.loads((heatmap / "zarr.json").read_text())
        (heatmap / "zarr.json").write_text(json.dumps({**document, "other": 1}))
        with pytest.raises(StorageError, match="heatmap to finish"):
            store.finish()


def test_lines_of_a_journal_that_name_no_region_are_skipped(tmp_path):
    path = tmp_path / "journal.jsonl"
    good = '{"x": 1, "y": 2, "width": 3, "height": 4}'
    bad = [
        "", "x", "[]", "null", '{"x": 1}', good.replace("3", "-3"), good.replace("3", "0"), good.replace("3", "3.5"),
        good.replace("3", '"3"'), good.replace("3", "true"), good.replace("3", "NaN"), good.replace("3", "1e400"),
        good.replace("3", "9" * 400), "[" * 5000, " " * 5000 + good, good[:-1],
    ]  # fmt: skip
    path.write_text("\n".join([*bad, good, *bad, good]))
    # The last line has no end.
    assert list(read_regions(path)) == [Region(1, 2, 3, 4)]
    append_region(path, Region(5, 6, 7, 8))
    assert list(read_regions(path)) == [Region(1, 2, 3, 4), Region(1, 2, 3, 4), Region(5, 6, 7, 8)]


@pytest.mark.parametrize("name", ["zarr.json", "features/zarr.json", "present/zarr.json"])
def test_features_of_another_kind_are_refused_or_made_again(tmp_path, name):
    def store():
        return FeatureStore.open_or_create(
            tmp_path / "f.zarr", cells=Size(19, 13), views=2, features=3, identity={"slide": "a"}
        )

    store().write(Region(0, 0, 8, 6), np.ones((2, 6, 8, 3), np.float32))
    path = tmp_path / "f.zarr" / name
    whole = path.read_text()
    keys = list(json.loads(whole))
    for key in keys:
        for value in (None, 3, "ab", [], {}, [{"name": "none"}]):
            path.write_text(whole)
            change(path, key, to=value)
            with suppress(StorageError):
                found = store()
                found.read(Region(0, 0, 19, 13))
                found.write(Region(0, 0, 19, 13), np.zeros((2, 13, 19, 3), np.float32))


@pytest.mark.parametrize(
    "values",
    [
        None, [], 3, {"engine": "torch"}, {"roi_px": 10**400}, {"roi_px": "640"}, {"roi_px": True}, {"roi_px": 640.5},
        {"roi_px": -1}, {"mpx_per_s": "fast"}, {"mpx_per_s": -1}, {"mpx_per_s": float("nan")}, {"engine": "other"},
        {"engine": ["torch"]}, {"precision": "\ud800"},
    ],
)  # fmt: skip
def test_a_measurement_that_cannot_be_so_is_made_again(tmp_path, values):
    path = tmp_path / "tuning.json"
    TuningCache(path).put("key", Tuned("torch", "float32", 640, 3.5))
    assert TuningCache(path).get("key") is not None
    whole = json.loads(path.read_text())["key"]
    entry = {**whole, **values} if isinstance(values, dict) and values != {"engine": "torch"} else values
    path.write_text(json.dumps({"key": entry}))
    assert TuningCache(path).get("key") is None
    TuningCache(path).put("other", Tuned("torch", "float32", 640, 3.5))
    assert TuningCache(path).get("other") is not None
