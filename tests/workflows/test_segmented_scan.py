"""Segmenting in use: beside a scan, after it, again after a stop; where lesions are read from it, and where not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from dark_model import dark_segmenter
from disc_slide import DISC_CENTER, DISC_RADIUS, MPP
from scans import SCAN, scan_with

from napari_metastasis.geometry import Point, Region, Size
from napari_metastasis.scanning import MapStore
from napari_metastasis.settings import DetectionSettings, RefineSettings, SegmentSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.workflows.scan import earlier_result

SEGMENT = SegmentSettings(segment=True)
AREA_MM2 = np.pi * (DISC_RADIUS * MPP / 1000) ** 2


def run(slide, model, output, segment=SEGMENT, **changes):
    return scan_with(slide, model, output, segmenter=dark_segmenter(), segment=segment, **({"scan": SCAN} | changes))


def segmented(folder):
    (path,) = folder.glob("segmentation*.ome.zarr")
    with MapStore.open(path) as store:
        return store.values(), store.frame


def centroid(values, frame) -> Point:
    weights = np.nan_to_num(values)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    return frame.cell_center(column, row)


@pytest.fixture(scope="module")
def once(slide_path, model, tmp_path_factory):
    """Scanned and segmented in one go."""
    folder = tmp_path_factory.mktemp("once") / "out"
    progress = []
    with open_slide(slide_path) as slide:
        return run(slide, model, folder, progress=lambda *done: progress.append(done)), progress


def test_lesions_are_read_from_the_segmentation(once):
    result, progress = once
    values, frame = segmented(result.output)
    assert result.finished
    assert result.coverage.whole
    assert result.frame == frame
    # Half the network's block: the test below says more.
    assert centroid(values, frame).distance(DISC_CENTER) < 4 * frame.cell_px
    (lesion,) = result.lesions
    assert lesion.map == "segmented"
    # The network answers for squares of 32 px, as if their darkest pixel filled them.
    grown = np.pi * ((DISC_RADIUS + 32) * MPP / 1000) ** 2
    assert AREA_MM2 < lesion.area_mm2 < 1.6 * grown
    record = json.loads((result.output / "run.json").read_text())
    (made,) = record["passes"]
    assert (made["task"], made["map"], made["file"]) == ("segment", "segmented", "segmentation.ome.zarr")
    assert record["shown"]["map"] == "segmented"
    assert record["shown"]["shares"] == {"segmented": 1.0}
    assert progress[0][0] == 0
    assert progress[-1][0] == progress[-1][1] > 0
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_lesions_may_be_read_from_the_scan_all_the_same(slide, model, once, tmp_path):
    plain = scan_with(slide, model, tmp_path / "plain", scan=SCAN)
    beside = run(slide, model, tmp_path / "beside", SegmentSettings(segment=True, read_segmentation=False))
    assert [lesion.map for lesion in beside.lesions] == ["probability"]
    assert [lesion.area_mm2 for lesion in beside.lesions] == [lesion.area_mm2 for lesion in plain.lesions]
    np.testing.assert_array_equal(segmented(beside.output)[0], segmented(once[0].output)[0])


@pytest.mark.parametrize("roi_px", [250, 300, 1000])
def test_the_map_is_the_same_for_every_size_of_piece(slide, model, once, tmp_path, roi_px):
    result = run(slide, model, tmp_path / "out", scan=replace(SCAN, roi_px=roi_px))
    found, expected = segmented(result.output)[0], segmented(once[0].output)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_openvino_answers_alike(slide, model, once, tmp_path):
    result = run(slide, model, tmp_path / "out", scan=replace(SCAN, engine="openvino"))
    np.testing.assert_allclose(segmented(result.output)[0], segmented(once[0].output)[0], atol=1e-3)


@pytest.mark.parametrize("pieces", [1, 60])
def test_a_segmentation_that_was_stopped_goes_on(slide, model, once, tmp_path, pieces):
    seen = []
    scan_with(slide, model, tmp_path / "out", scan=SCAN)
    stopped = run(
        slide, model, tmp_path / "out",
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > pieces,
    )  # fmt: skip
    assert not stopped.finished
    # The scan is whole: findings are read from it until the segmentation is, too.
    assert stopped.coverage.whole
    assert [lesion.map for lesion in stopped.lesions] == ["probability"]
    (told,) = stopped.partly
    assert told.startswith("Segmented: ")
    assert "read from the probability map" in told
    done = run(slide, model, tmp_path / "out")
    assert done.finished
    np.testing.assert_allclose(segmented(done.output)[0], segmented(once[0].output)[0], atol=1e-6)
    assert (done.output / "lesions.csv").read_bytes() == (once[0].output / "lesions.csv").read_bytes()


def test_where_the_scan_finds_nothing_nothing_is_looked_at(slide, model, once, tmp_path, monkeypatch):
    read, looked = type(slide).read, []

    def listen(self, frame, region):
        if abs(frame.effective_mpp - 1.944) < 0.05:
            looked.append(region.size.area)
        return read(self, frame, region)

    monkeypatch.setattr(type(slide), "read", listen)
    run(slide, model, tmp_path / "all")
    everywhere, looked[:] = sum(looked), []
    result = run(slide, model, tmp_path / "out", SegmentSettings(segment=True, segment_above=0.5))
    assert 0 < sum(looked) < everywhere
    assert result.finished
    assert result.coverage.whole
    values, expected = segmented(result.output)[0], segmented(once[0].output)[0]
    seen = values > 0
    np.testing.assert_allclose(values[seen], expected[seen], atol=1e-6)
    assert np.isnan(values).sum() == np.isnan(expected).sum()
    # What lies near the disc is all there: the map before it finds the disc.
    assert [lesion.area_mm2 for lesion in result.lesions] == [lesion.area_mm2 for lesion in once[0].lesions]


@pytest.mark.parametrize("region", [Region(900, 500, 400, 300), Region(1001, 333, 211, 127)])
def test_a_region_is_segmented_as_on_the_whole_slide_and_read_from_that(slide, model, once, tmp_path, region):
    result = run(slide, model, tmp_path / "out", region=region)
    values, frame = segmented(result.output)
    cells = frame.cells_over(region)
    expected, answered = segmented(once[0].output)[0], np.isfinite(values)
    np.testing.assert_allclose(values[answered], expected[answered], atol=1e-6)
    assert answered[cells.slices].sum() == np.isfinite(expected[cells.slices]).sum()
    # No more than the cells of the scan around it, which are larger.
    assert answered.sum() == np.isfinite(values[cells.grown(8).intersection(Region.of(frame.cells)).slices]).sum()
    assert result.read.name == "segmented"
    assert not result.coverage.whole


def test_an_earlier_segmentation_is_shown_again(slide, once):
    earlier = earlier_result(slide, once[0].output)
    assert [one.kind.name for one in earlier.maps] == ["probability", "segmented"]
    assert earlier.shown.map == "segmented"


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.972])
def test_discs_lie_where_they_were_drawn(model, tmp_path, mpp):
    """Poolings take the darkest of 32 px: discs on all places of that lattice lie, on average, where they are."""
    block_um = 32 * 1.944
    centers = np.array([(180.0, 200.0) + i * np.array([3.125, 0.125]) * block_um for i in range(8)])
    width, height = round(1720 / mpp), round(460 / mpp)
    rows, columns = (np.mgrid[:height, :width] + 0.5) * mpp
    pixels = np.full((height, width, 3), (225, 150, 195), np.uint8)
    for x, y in centers:
        pixels[np.hypot(columns - x, rows - y) < 40.0] = (60, 20, 80)
    write_pyramid(tmp_path / "discs.tif", pixels, mpp=mpp, size=Size(width, height), compression="deflate")
    with open_slide(tmp_path / "discs.tif") as slide:
        result = run(slide, model, tmp_path / "out", scan=replace(SCAN, tissue_only=False))
    frame, apart = result.frame, 3.125 * block_um
    columns_um = (frame.cell_center(0, 0).x + frame.cell_px * np.arange(frame.cells.width)) * mpp
    wrong = []
    for x, y in centers:
        found = centroid(np.where(np.abs(columns_um - x) < apart / 2, result.probabilities, 0), frame)
        wrong.append((found.x * mpp - x, found.y * mpp - y))
    assert np.abs(np.mean(wrong, axis=0)).max() < frame.cell_um / 2


def test_a_slide_is_segmented_without_its_detector(slide, model, once, tmp_path):
    result = run(slide, model, tmp_path / "out", detects=False)
    assert result.finished
    assert result.coverage.whole
    np.testing.assert_array_equal(segmented(result.output)[0], segmented(once[0].output)[0])
    with MapStore.open(result.output / "heatmap.ome.zarr") as scanned:
        assert np.isnan(scanned.values()).all()
    assert (result.output / "lesions.csv").read_bytes() == (once[0].output / "lesions.csv").read_bytes()
    # A scan goes on from there, and does not segment again.
    both = run(slide, model, tmp_path / "out")
    assert both.finished
    assert [lesion.map for lesion in both.lesions] == ["segmented"]


def test_segmenting_alone_takes_nothing_from_a_refined_scan(slide, model, refiner, tmp_path):
    refine = RefineSettings(refine=True)
    scanned = scan_with(slide, model, tmp_path / "out", scan=SCAN, refiner=refiner, refine=refine)
    files = {path.name: path.read_bytes() for path in scanned.output.glob("*.csv")}
    # Of a part of the slide no findings are read.
    part = run(slide, model, tmp_path / "out", detects=False, region=Region(900, 500, 200, 150))
    assert part.output == scanned.output
    assert {path.name: path.read_bytes() for path in scanned.output.glob("*.csv")} == files
    whole = run(slide, model, tmp_path / "out", detects=False)
    assert whole.read.name == "segmented"
    earlier = earlier_result(slide, tmp_path / "out")
    assert [one.kind.name for one in earlier.maps] == ["probability", "refined", "segmented"]
    assert earlier.shown.map == "segmented"


def test_tissue_beside_glass_is_no_reason_to_look(slide, model, tmp_path):
    """Glass has no answer, and is not suspicious for that."""
    result = run(slide, model, tmp_path / "out", SegmentSettings(segment=True, segment_above=0.999999))
    values, _ = segmented(result.output)
    assert np.nanmax(values) == 0


def test_each_map_is_read_at_the_threshold_of_its_own_model(slide, model, tmp_path):
    detector, segmenter = replace(model, spec=replace(model.spec, threshold=0.3)), dark_segmenter()
    segmenter = replace(segmenter, spec=replace(segmenter.spec, threshold=0.7))
    read = {True: 0.7, False: 0.3}
    for from_it, threshold in read.items():
        segment = SegmentSettings(segment=True, read_segmentation=from_it)
        result = scan_with(
            slide, detector, tmp_path / f"{from_it}", scan=SCAN, segmenter=segmenter, segment=segment,
        )  # fmt: skip
        record = json.loads((result.output / "run.json").read_text())
        assert (result.threshold, record["shown"]["threshold"]) == (threshold, threshold)
        assert record["settings"]["detection"]["threshold"] == threshold
    # Stopped in the middle of the segmentation, it is that of the scan; asked for, it is that for both.
    seen = []
    how = {"scan": SCAN, "segmenter": segmenter, "segment": SegmentSettings(segment=True)}
    scan_with(slide, detector, tmp_path / "part", scan=SCAN)
    part = scan_with(
        slide, detector, tmp_path / "part", **how,
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 2,
    )  # fmt: skip
    assert part.threshold == 0.3
    assert earlier_result(slide, tmp_path / "part").own_thresholds == {"probability": 0.3, "segmented": 0.7}
    asked = scan_with(slide, detector, tmp_path / "part", **how, detection=DetectionSettings(threshold=0.6))
    assert asked.threshold == 0.6
    earlier = earlier_result(slide, tmp_path / "part")
    assert (earlier.threshold, earlier.own_thresholds) == (0.6, {})


def test_an_earlier_result_says_with_which_options_it_was_segmented(slide, model, tmp_path):
    """So that a window goes on with these, and not beside them."""
    folder = run(slide, model, tmp_path / "out", SegmentSettings(segment=True, segment_above=0.25)).output
    options = earlier_result(slide, folder).options
    assert (options["segment"], options["segment_above"]) == (True, 0.25)
    path = folder / "run.json"
    for damage in ('"x"', "7", "null"):
        path.write_text(path.read_text().replace('"segment_above": 0.25', f'"segment_above": {damage}'))
        assert "segment_above" not in earlier_result(slide, folder).options
        path.write_text(path.read_text().replace(f'"segment_above": {damage}', '"segment_above": 0.25'))
