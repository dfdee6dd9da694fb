"""The whole way: a slide goes in, the result folder comes out, and nothing half-written after an error."""

from __future__ import annotations

import csv
import errno
import json
import os

import numpy as np
import pytest
import torch
from disc_slide import DISC_CENTER, DISC_RADIUS, MPP
from scans import SCAN, prepared_scan, scan_with

from napari_metastasis.errors import (
    DeviceError,
    ModelError,
    RegionError,
    ScanCancelledError,
    SettingsError,
    StorageError,
)
from napari_metastasis.evaluation.detections import read_detections_csv
from napari_metastasis.geometry import Point, Region
from napari_metastasis.scanning import MapStore
from napari_metastasis.settings import DetectionSettings, ScanSettings, TissueSettings
from napari_metastasis.workflows import scan as scan_room
from napari_metastasis.workflows.scan import default_output, heatmap_path


def run(slide, model, output, **changes):
    return scan_with(slide, model, output, **({"scan": SCAN} | changes))


def test_the_disc_is_found_in_every_file(slide, model, tmp_path):
    progress = []
    result = run(slide, model, tmp_path / "out", progress=lambda done, total: progress.append((done, total)))
    (lesion,) = result.lesions
    cell_px = result.frame.cell_px
    assert lesion.probability == pytest.approx(result.slide_score)
    assert result.slide_score > 0.99
    assert result.finished
    assert 0.3 < result.tissue_fraction < 0.4
    assert result.mpx_per_s > 0
    area = np.pi * (DISC_RADIUS * MPP / 1000) ** 2
    assert lesion.area_mm2 == pytest.approx(area, rel=0.15)

    weights = np.nan_to_num(result.probabilities)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    assert result.frame.cell_center(column, row).distance(DISC_CENTER) < cell_px / 2

    names = {path.name for path in result.output.iterdir()}
    assert names == {"heatmap.ome.zarr", "detections.csv", "lesions.csv", "lesions.geojson", "run.json"}
    with (result.output / "lesions.csv").open() as file:
        (row_of_file,) = csv.DictReader(file)
    assert row_of_file["size_class"] == "micro"
    with (result.output / "detections.csv").open() as file:
        detections = [tuple(map(float, line)) for line in csv.reader(file)]
    assert detections
    for probability, x, y in detections:
        assert probability > 0.5
        assert Point(x, y).distance(DISC_CENTER) < DISC_RADIUS
    (feature,) = json.loads((result.output / "lesions.geojson").read_text())["features"]
    corners = np.array(feature["geometry"]["coordinates"][0])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    assert Point(*middle).distance(DISC_CENTER) < cell_px / 2

    assert progress[0][0] == 0
    assert progress[-1][0] == progress[-1][1] > 0
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_detections_have_a_header_where_one_is_asked_for(slide, model, tmp_path):
    plain = run(slide, model, tmp_path / "a").output / "detections.csv"
    headed = run(slide, model, tmp_path / "b", csv_header=True).output / "detections.csv"
    first, rows = headed.read_text().split("\n", 1)
    assert first == "p,x,y"
    assert rows == plain.read_text()
    assert read_detections_csv(headed).points.tolist() == read_detections_csv(plain).points.tolist()


def test_glass_is_not_scanned_unless_asked(slide, model, tmp_path):
    only_tissue = run(slide, model, tmp_path / "a")
    everything = run(slide, model, tmp_path / "a", scan=ScanSettings(**{**_fields(SCAN), "tissue_only": False}))
    glass = np.isnan(only_tissue.probabilities)
    assert 0.2 < glass.mean() < 0.7
    assert not np.isnan(everything.probabilities).any()
    assert everything.output == only_tissue.output  # the same answers, and more of them
    np.testing.assert_array_equal(everything.probabilities[~glass], only_tissue.probabilities[~glass])


def _fields(settings):
    return {name: getattr(settings, name) for name in type(settings).__dataclass_fields__}


def test_the_record_says_how_it_came_about(slide, model, tmp_path):
    run(slide, model, tmp_path / "out", region=Region(900, 400, 300, 300))
    run(slide, model, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["slide"]["fingerprint"] == slide.fingerprint
    assert record["slide"]["mpp"] == MPP
    assert record["model"]["weights_sha256"] == "d" * 64
    assert record["heatmap"]["identity"]["effective_mpp"] == pytest.approx(2 * MPP)
    assert record["settings"]["scan"]["roi_px"] == 160
    assert record["settings"]["tissue"]["mpp"] == TissueSettings().mpp
    assert record["versions"]["torch"] == torch.__version__
    part, whole = record["scans"]
    assert part["region"] == {"x": 900, "y": 400, "width": 300, "height": 300}
    assert whole["region"] is None
    assert whole["cells_answered_before"] > 0
    assert (part["device"], part["engine"]) == ("cpu", "torch")
    assert part["finished"]
    assert part["seconds"] > 0


def test_regions_add_up(slide, model, tmp_path):
    whole = run(slide, model, tmp_path / "whole")
    left = run(slide, model, tmp_path / "parts", region=Region(0, 0, 1100, 1200))
    assert np.isnan(left.probabilities).sum() > np.isnan(whole.probabilities).sum()
    right = run(slide, model, tmp_path / "parts", region=Region(1000, 0, 700, 1200), focus=Point(1600, 100))
    np.testing.assert_allclose(right.probabilities, whole.probabilities, atol=1e-5, rtol=0)
    assert [lesion.area_mm2 for lesion in right.lesions] == [lesion.area_mm2 for lesion in whole.lesions]


def test_a_second_scan_has_nothing_to_do(slide, model, tmp_path):
    first = run(slide, model, tmp_path / "out")
    calls = []
    second = run(slide, model, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [(0, 0)]
    assert second.finished
    assert second.mpx_per_s == 0
    np.testing.assert_array_equal(second.probabilities, first.probabilities)
    assert second.lesions == first.lesions


def test_other_settings_get_a_folder_of_their_own(slide, model, tmp_path):
    first = run(slide, model, tmp_path / "out")
    before = (first.output / "run.json").read_bytes()
    dense = ScanSettings(**{**_fields(SCAN), "dense_coefficient": 1})
    second = run(slide, model, tmp_path / "out", scan=dense)
    assert second.output.parent == first.output
    assert second.output.name.startswith("scan-")
    assert len(second.output.name) == len("scan-") + 8
    assert (first.output / "run.json").read_bytes() == before
    assert run(slide, model, tmp_path / "out", scan=dense).output == second.output
    faster = ScanSettings(**{**_fields(SCAN), "roi_px": 100, "threads": 4, "queue_rois": 1})
    assert run(slide, model, tmp_path / "out", scan=faster).output == first.output


def test_something_strange_in_the_folder_is_left_alone(slide, model, tmp_path):
    (tmp_path / "heatmap.ome.zarr").mkdir()
    (tmp_path / "heatmap.ome.zarr" / "zarr.json").write_text("{}")
    result = run(slide, model, tmp_path)
    assert result.output.parent == tmp_path
    assert (tmp_path / "heatmap.ome.zarr" / "zarr.json").read_text() == "{}"


def test_results_go_beside_the_slide(slide, model):
    assert default_output(slide) == slide.path.parent / "node.metastasis"
    result = run(slide, model, None, region=Region(1000, 600, 100, 100))
    assert result.output == default_output(slide)


def test_a_stopped_scan_keeps_what_it_has(slide, model, tmp_path):
    seen = []
    partial = run(
        slide,
        model,
        tmp_path / "out",
        progress=lambda *call: seen.append(call),
        should_stop=lambda: len(seen) > 4,
    )
    assert not partial.finished
    assert partial.summary()["mpx_per_s"] > 0
    answered = int((~np.isnan(partial.probabilities)).sum())
    whole = run(slide, model, tmp_path / "out")
    assert whole.finished
    assert json.loads((tmp_path / "out" / "run.json").read_text())["scans"][1]["cells_answered_before"] == answered


def test_a_scan_stopped_before_it_began(slide, model, tmp_path):
    with pytest.raises(ScanCancelledError):
        run(slide, model, tmp_path / "out", should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_a_region_of_glass_finds_nothing(slide, model, tmp_path):
    result = run(slide, model, tmp_path / "out", region=Region(0, 0, 100, 100))
    assert result.slide_score is None
    assert result.lesions == ()
    assert result.finished
    assert (result.output / "detections.csv").read_text() == ""
    with MapStore.open(heatmap_path(result.output)) as heatmap:
        assert np.isnan(heatmap.values()).all()
    assert json.loads((result.output / "run.json").read_text())["slide_score"] is None


def test_the_summary_is_plain(slide, model, tmp_path):
    summary = json.loads(json.dumps(run(slide, model, tmp_path / "out").summary(), allow_nan=False))
    assert {"output", "slide_score", "lesions", "tissue_fraction", "seconds", "mpx_per_s"} <= set(summary)
    assert summary["lesions"][0]["size_class"] == "micro"


def test_a_threshold_below_the_floor_is_taken_as_meant(slide, model, tmp_path):
    assert run(slide, model, tmp_path / "out", detection=DetectionSettings(threshold=0.01)).lesions


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"region": Region(5000, 0, 10, 10)}, RegionError),
        ({"region": Region(0, 0, 0, 10)}, RegionError),
        ({"scan": ScanSettings(device="gpu")}, SettingsError),
        ({"scan": ScanSettings(dense_coefficient=32)}, ModelError),
    ],
)
def test_what_cannot_be_scanned_leaves_nothing(slide, model, tmp_path, changes, error):
    with pytest.raises(error) as caught:
        run(slide, model, tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there_leaves_nothing(slide, model, tmp_path):
    with pytest.raises(DeviceError, match="expected an NVIDIA GPU"):
        run(slide, model, tmp_path / "out", scan=ScanSettings(device="cuda"))
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_names_the_option(slide, model, monkeypatch):
    folder = default_output(slide)
    existed = folder.exists()
    mkdir = os.mkdir

    def refuse(path, *args, **kwargs):
        if str(path).startswith(str(slide.path.parent)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refuse)
    changed = ScanSettings(**{**_fields(SCAN), "dense_coefficient": 1})
    with pytest.raises(
        StorageError, match=r"a read-only file system; choose a folder on a writable disk with --output"
    ):
        run(slide, model, None, scan=changed)
    assert folder.exists() == existed


def test_a_disk_that_is_full_at_once_leaves_nothing(slide, model, tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("napari_metastasis.scanning.maps.store.append_region", refuse)
    with pytest.raises(StorageError, match="a full disk"):
        run(slide, model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_engine_of_an_earlier_scan_can_be_used_again(slide, model, tmp_path):
    from napari_metastasis.scanning import choose_engine

    chosen = choose_engine(model, SCAN)
    for name in ("a", "b"):
        with prepared_scan(slide, model, tmp_path / name, scan=SCAN, chosen=chosen) as prepared:
            assert prepared.chosen.engine is chosen.engine
            assert sum(1 for _ in prepared.run()) == len(prepared.plan.rois)
    chosen.engine.close()


def test_public_names_are_sorted():
    assert scan_room.__all__ == sorted(scan_room.__all__)
