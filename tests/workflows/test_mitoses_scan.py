"""Mitoses in use: beside a scan or alone, in part of the tissue, stopped and gone on with, and in the files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scans
from dark_model import dark_segmenter, dark_spots
from scans import scan_with
from scipy import ndimage
from spotted_slide import SPOT_MPP, SPOTS, write_spotted_slide

from napari_metastasis.annotations import (
    Annotation,
    Corrections,
    CorrectionStore,
    add_points,
    covered,
    read_geojson,
    read_points,
)
from napari_metastasis.errors import EvaluationError, ModelError, StorageError
from napari_metastasis.evaluation.scan_records import read_mitosis_record
from napari_metastasis.geometry import Region, cells_beneath
from napari_metastasis.lesions import MitosisCount
from napari_metastasis.models import build_segmentation, save_model
from napari_metastasis.scanning import MITOSES, MapStore
from napari_metastasis.settings import DetectionSettings, HotSpotSettings, MitosisSettings, SegmentSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.report import write_report
from napari_metastasis.workflows.report.result import read_result
from napari_metastasis.workflows.report.summary import _COLUMNS, SlideSummary, SummedResult
from napari_metastasis.workflows.scan import PassRequest, ScanJob, earlier_result, job_models
from napari_metastasis.workflows.scan.mitosis_results import listed_mitoses, write_shown_mitoses
from napari_metastasis.workflows.scan.shown import read_before

#: A piece is some cells and what the network sees around them.
SCAN = replace(scans.SCAN, roi_px=500)
MITOSIS = MitosisSettings(mitosis=True)


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    return write_spotted_slide(tmp_path_factory.mktemp("spots") / "node.tif")


def run(slide, model, output, mitosis=MITOSIS, **changes):
    return scan_with(slide, model, output, mitosis_model=dark_spots(), mitosis=mitosis, **({"scan": SCAN} | changes))


def mitosis_map(folder):
    (path,) = folder.glob("mitoses*.ome.zarr")
    with MapStore.open(path) as store:
        return store.values(), store.frame


@pytest.fixture(scope="module")
def alone(slide_path, model, tmp_path_factory):
    """Mitoses, without the detector."""
    with open_slide(slide_path) as slide:
        return run(slide, model, tmp_path_factory.mktemp("alone") / "out", detects=False)


def apart(found, expected):
    """Return how far each expected point lies from the nearest found one, in level-0 pixels."""
    return np.linalg.norm(expected[:, None] - found[None], axis=2).min(axis=1)


def test_every_mitosis_lies_where_it_is(alone):
    found = alone.mitoses
    assert alone.finished
    assert len(found) == len(SPOTS)
    # Within half a cell of the map, 1 µm a side.
    assert (apart(found.xy, SPOTS) <= 0.5 * 1.0 / SPOT_MPP + 1e-9).all()
    tissue = 1500 * 800 * (SPOT_MPP / 1000) ** 2
    assert found.searched_mm2 == found.tissue_mm2 == pytest.approx(tissue, rel=0.8)
    assert found.per_mm2 == pytest.approx(len(SPOTS) / found.searched_mm2)
    assert found.spot.count == len(SPOTS)


def test_files_say_the_same(alone):
    folder, found = alone.output, alone.mitoses
    assert sorted(path.name for path in folder.iterdir()) == [
        "heatmap.ome.zarr", "mitoses.csv", "mitoses.geojson", "mitoses.ome.zarr", "run.json",
    ]  # fmt: skip
    for name in ("mitoses.csv", "mitoses.geojson"):
        read = read_points(folder / name)
        # Nobody reviewed them.
        np.testing.assert_allclose(read.unreviewed, found.xy, atol=0.01)
        assert len(read) == 0
    (area,) = read_geojson(folder / "mitoses.geojson").annotations
    assert covered(area).area * (SPOT_MPP / 1000) ** 2 == pytest.approx(2.0, rel=0.01)
    record = json.loads((folder / "run.json").read_text())
    assert record["mitoses"] == found.to_json()
    assert record["mitoses"]["count"] == len(SPOTS)
    printed = alone.summary()["mitoses"]
    assert [(one["x"], one["y"]) for one in printed["points"]] == [tuple(np.round(xy, 2)) for xy in found.xy.tolist()]
    # Nobody looked for metastases, and no file says that there are none.
    assert alone.coverage.answered_cells == 0
    assert not alone.verdict.settled


def test_mitoses_that_people_add_where_none_was_found_are_counted_in_the_area_that_was_asked_for(alone):
    record = json.loads((alone.output / "run.json").read_text())
    asked = {**record["settings"]["mitosis"], "hot_spot_mm2": 0.5, "hot_spot_shape": "rectangle"}
    empty = {**record, "mitoses": {**record["mitoses"], "hot_spot": None}}
    for settings, area in (
        ({"mitosis": asked}, HotSpotSettings(area_mm2=0.5, shape="rectangle")),
        ({"mitosis": {**asked, "of a later version": 1}}, HotSpotSettings()),
        ({}, HotSpotSettings()),
    ):
        assert listed_mitoses(alone.output, {**empty, "settings": settings}).settings == area
    # As it was shown last, where there is one.
    shown = listed_mitoses(alone.output, {**record, "settings": {"mitosis": asked}})
    assert shown.settings == alone.mitoses.settings != HotSpotSettings(area_mm2=0.5)


def test_the_map_is_the_same_for_every_size_of_piece(slide, model, alone, tmp_path):
    found = run(slide, model, tmp_path / "out", detects=False, scan=replace(SCAN, roi_px=300))
    np.testing.assert_allclose(mitosis_map(found.output)[0], mitosis_map(alone.output)[0], atol=1e-5)
    np.testing.assert_allclose(found.mitoses.xy, alone.mitoses.xy)


def test_a_region_is_searched_alone(slide, model, tmp_path):
    region = Region(950, 250, 300, 300)
    part = run(slide, model, tmp_path / "out", detects=False, region=region).mitoses
    inside = [tuple(xy) for xy in part.xy if region.x <= xy[0] < region.right and region.y <= xy[1] < region.bottom]
    assert len(inside) == 1
    assert part.searched_mm2 < 0.5 * part.tissue_mm2
    # It is no result for the slide, also where only the suspicious was to be searched.
    for above in (0.0, 0.5):
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        record["settings"]["mitosis"]["mitosis_above"] = above
        (tmp_path / "out" / "run.json").write_text(json.dumps(record))
        with pytest.raises(EvaluationError, match="but without --region, which goes on"):
            read_mitosis_record(tmp_path / "out")
    assert "of 0.13" in part.searched_text


def test_only_what_the_scan_finds_suspicious_is_searched(slide, model, tmp_path):
    result = run(
        slide, model, tmp_path / "out", replace(MITOSIS, mitosis_above=0.9), detection=DetectionSettings(threshold=0.9)
    )
    found, whole = result.mitoses, run(slide, model, tmp_path / "whole").mitoses
    assert result.finished
    assert [lesion.map for lesion in result.lesions] == ["probability"]
    # All that was to be looked at was: it can be scored, of all tissue.
    assert read_mitosis_record(result.output).tissue_mm2 == pytest.approx(found.tissue_mm2, abs=1e-6)
    # The left part of the tissue is what the detector takes for tumour, with 50 µm around it.
    assert (found.xy[:, 0] < 800 + 250).all()
    assert len(found) == np.count_nonzero(SPOTS[:, 0] < 800 + 100)
    assert 0.3 * whole.searched_mm2 < found.searched_mm2 < 0.7 * whole.searched_mm2
    # A second run has nothing left to do.
    again = run(
        slide, model, tmp_path / "out", replace(MITOSIS, mitosis_above=0.9), detection=DetectionSettings(threshold=0.9)
    )
    assert again.mitoses.to_json() == found.to_json()


def test_what_an_earlier_segmentation_outlined_is_searched(slide, model, tmp_path):
    """Findings are read from the outlines: what these hold is searched, and not what the detector suspects."""
    out, asked = tmp_path / "out", replace(MITOSIS, mitosis_above=0.9)
    scan_with(slide, model, out, scan=SCAN, segmenter=dark_segmenter(0.972), segment=SegmentSettings(segment=True))
    assert list(read_before(out)) == ["segmented"]
    found = run(slide, model, out, asked, detects=False).mitoses
    plain = run(slide, model, tmp_path / "plain", asked, scan=SCAN).mitoses
    assert 0 < found.searched_mm2 != plain.searched_mm2
    with MapStore.open(out / "segmentation.ome.zarr") as store:
        suspicious = store.values() >= 0.9
    # All of what it outlines, and 50 µm around it, of the tissue.
    reach = round(50 / store.frame.cell_um)
    near = ndimage.maximum_filter(suspicious, size=2 * reach + 1)
    values, frame = mitosis_map(out)
    rows, columns = cells_beneath(frame, store.frame)
    looked_at = at_cells(found.searched, frame)
    # What is around it is answered, so that no half of a mitosis is counted at its edge.
    margin = ndimage.distance_transform_edt(~looked_at) * frame.cell_um
    assert 5 < margin[~np.isnan(values)].max() <= 7.5
    # Of the steps of its edge the inner corners are known as well.
    beside = looked_at & ~near[rows[:, None], columns]
    assert np.count_nonzero(beside) < 0.01 * np.count_nonzero(looked_at)
    assert looked_at[suspicious[rows[:, None], columns]].all()


def at_cells(searched, frame):
    """Return in which cells of a map was looked."""
    first, (rows, columns) = frame.cell_center(0, 0), np.indices(frame.cells.shape)
    xy = np.stack([first.x + columns * frame.cell_px, first.y + rows * frame.cell_px], axis=-1)
    return searched.holds(xy.reshape(-1, 2)).reshape(frame.cells.shape)


def square_beside(spot, turn, inside_px, side_px=120):
    """Return a turned square of which one edge passes a spot: so many pixels of it lie beyond the spot."""
    corners = np.array([(0, -0.4), (1, -0.4), (1, 0.6), (0, 0.6)]) * side_px - (inside_px, 0)
    along = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    return Annotation.of_rings("shape", "", corners @ along + spot)


@pytest.mark.parametrize("first", [0, 1])
def test_only_what_lies_in_a_shape_counts(slide_path, model, tmp_path, first):
    """Its edge passes a mitosis by 1 µm, on either side, turned to every side, on pixels that are not the model's."""
    turns, mpp = (0.0, 0.5, 1.9, 3.8, 5.2), 0.23
    with open_slide(slide_path, mpp) as slide:
        everywhere = run(slide, model, tmp_path / "whole", detects=False).mitoses.xy
        points = everywhere[np.linalg.norm(SPOTS[:, None] - everywhere, axis=2).argmin(axis=1)][: len(turns)]
        assert (np.linalg.norm(points - SPOTS[: len(turns)], axis=1) * mpp < 0.75).all()
        inside = np.arange(len(turns)) % 2 == first
        shapes = [
            square_beside(point, turn, (1 if held else -1) / mpp)
            for point, turn, held in zip(points, turns, inside, strict=True)
        ]
        job = ScanJob(slide=slide_path).inside(shapes)
        asked = {"detects": False, "region": job.region, "outlines": job.outlines}
        found = run(slide, model, tmp_path / "out", **asked).mitoses
        # The very points that a scan of the whole slide finds.
        np.testing.assert_allclose(np.sort(found.xy, axis=0), np.sort(points[inside], axis=0), atol=1e-6)
        area = sum(covered(shape).area for shape in shapes) * (mpp / 1000) ** 2
        assert found.searched_mm2 == pytest.approx(area, rel=0.02)
        assert found.spot.count == found.count == np.count_nonzero(inside)
        # What people know of beside it is no part of the rate, in any file.
        store = CorrectionStore(tmp_path / "out")
        middle = covered(shapes[int(np.argmax(inside))]).centroid
        store.save(add_points(Corrections(), [(middle.x, middle.y), *points[~inside]], reviewer="Dr. B")[0])
        # The table does not know of them yet: the map's margin is no part of what was looked at.
        listed = listed_mitoses(found_in := tmp_path / "out", json.loads((found_in / "run.json").read_text()))
        assert (listed.count, listed.outside) == (found.count + 1, np.count_nonzero(~inside))
        added, _ = add_points(Corrections(), points[~inside], reviewer="Dr. B")
        store.save(added)
        again = run(slide, model, tmp_path / "out", **asked)
        assert (again.mitoses.count, again.mitoses.outside) == (found.count, np.count_nonzero(~inside))
        assert again.mitoses.per_mm2 == pytest.approx(found.per_mm2)
        assert again.mitoses.spot.count == found.count
        assert f"{again.mitoses.outside} more outside of what was looked at" in again.mitoses.text
        record = json.loads((again.output / "run.json").read_text())
        listed = listed_mitoses(again.output, record)
        assert listed.to_json() | {"hot_spot": None} == again.mitoses.to_json() | {"hot_spot": None}


def test_what_was_stopped_goes_on(slide, model, alone, tmp_path):
    seen = []
    stopped = run(
        slide, model, tmp_path / "out", detects=False,
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 3,
    )  # fmt: skip
    assert not stopped.finished
    assert 0 < stopped.mitoses.searched_mm2 < stopped.mitoses.tissue_mm2
    done = run(slide, model, tmp_path / "out", detects=False)
    assert done.finished
    assert (done.output / "mitoses.csv").read_bytes() == (alone.output / "mitoses.csv").read_bytes()


def test_nothing_is_searched_where_no_map_says_where_tumour_is(slide, model, tmp_path):
    asked = replace(MITOSIS, mitosis_above=0.9)
    with pytest.raises(ModelError, match=r"expected a map that says where tumour is, got heatmap\.ome\.zarr without"):
        run(slide, model, tmp_path / "out", asked, detects=False)
    # A part of the slide was scanned: the rest is unknown, and no reason to look there.
    region = Region(400, 250, 300, 300)
    scan_with(slide, model, tmp_path / "out", scan=SCAN, region=region)
    found = run(slide, model, tmp_path / "out", asked, detects=False)
    assert found.finished
    values, frame = mitosis_map(found.output)
    rows, columns = np.nonzero(~np.isnan(values))
    reach = 50 / SPOT_MPP + 2 * 4 * 11.7 / SPOT_MPP
    assert columns.max() * frame.cell_px < region.right + reach
    assert rows.max() * frame.cell_px < region.bottom + reach


def test_a_search_that_was_stopped_before_it_began_takes_nothing_away(slide, model, tmp_path):
    """Nor does one with another model, whose map is another: what was found before is still there, and said."""
    out = tmp_path / "out"
    run(slide, model, out, detects=False)
    table, record = (out / "mitoses.csv").read_bytes(), json.loads((out / "run.json").read_text())
    other = replace(dark_spots(), weights_sha256="a" * 64, spec=replace(dark_spots().spec, name="other"))
    asked = {"mitosis_model": other, "mitosis": MITOSIS, "scan": SCAN}
    seen = []
    stopped = scan_with(
        slide, model, out, **asked, progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 0
    )
    assert not stopped.finished
    assert (out / "mitoses.csv").read_bytes() == table
    after = json.loads((out / "run.json").read_text())
    assert after["mitoses"] == record["mitoses"]
    assert after["passes"][-1] == record["passes"][-1]
    whole = scan_with(slide, model, out, **asked, detects=False)
    (told,) = whole.partly
    assert told.endswith("what dark-spots found before stays in mitoses.ome.zarr")
    assert (out / "mitoses.ome.zarr").is_dir()


def test_another_window_does_not_write_over_what_it_did_not_read(slide, model, alone, tmp_path):
    out = tmp_path / "out"
    run(slide, model, out, detects=False, region=Region(950, 250, 300, 300))
    read = earlier_result(slide, out).mitoses
    assert write_shown_mitoses(read.source, slide, alone.mitoses)
    run(slide, model, out, detects=False)
    with pytest.raises(StorageError, match="as they were read, got others"):
        write_shown_mitoses(read.source, slide, alone.mitoses)


def test_how_much_of_the_densest_area_was_looked_at(alone):
    """By blocks of 64 cells, against all cells; the circle of 2 mm² is larger than the slide."""
    found = alone.mitoses
    assert found.spot_searched_mm2 == pytest.approx(found.searched_mm2)
    assert f"in which {found.searched_mm2:.2f} mm² of tissue were looked at" in found.spot_text
    values, frame = mitosis_map(alone.output)
    rows, columns = np.nonzero(~np.isnan(values))
    first = frame.cell_center(0, 0)
    xy = np.stack([first.x + columns * frame.cell_px, first.y + rows * frame.cell_px], axis=1)
    spot = replace(found.spot, width=1600.0, height=1600.0)
    exact = np.count_nonzero(spot.holds(xy)) * (frame.cell_um / 1000) ** 2
    assert found.searched.mm2_within(spot) == pytest.approx(exact, rel=0.1)
    assert MitosisCount.from_json(found.to_json()).to_json()["hot_spot"] == found.to_json()["hot_spot"]


def test_neither_takes_the_other_away(slide, model, tmp_path):
    """Mitoses after a scan, and a scan after them, leave both in the record, in the files and when opened again."""
    out = tmp_path / "out"
    scanned = scan_with(slide, model, out, scan=SCAN)
    tables = {name: (out / name).read_bytes() for name in ("lesions.csv", "lesions.geojson", "detections.csv")}
    run(slide, model, out, detects=False)
    record = json.loads((out / "run.json").read_text())
    assert {name: (out / name).read_bytes() for name in tables} == tables
    assert record["lesions"] == len(scanned.lesions)
    assert record["mitoses"]["count"] == len(SPOTS)
    assert [one["map"] for one in record["passes"]] == ["mitoses"]
    scan_with(slide, model, out, scan=SCAN, detection=DetectionSettings(threshold=0.8))
    again = json.loads((out / "run.json").read_text())
    assert again["mitoses"] == record["mitoses"]
    assert again["settings"]["mitosis"]["mitosis"]
    opened = earlier_result(slide, out)
    assert [one.kind.name for one in opened.maps] == ["probability"]
    assert opened.shown.map == "probability"


def test_reports_and_summaries_say_it(slide, model, alone, tmp_path):
    """Of mitoses alone, and beside a scan; of the former nothing says that there is no metastasis."""
    run(slide, model, tmp_path / "both.metastasis")
    for folder in (alone.output, tmp_path / "both.metastasis"):
        result = read_result(folder)
        assert result.mitoses.to_json() == json.loads((folder / "run.json").read_text())["mitoses"]
        page = write_report(folder, slide=slide.path).path.read_text()
        assert f"{len(SPOTS)} mitoses, " in page
        assert f"{len(SPOTS)} in the densest 2 mm²" in page
        row = dict(zip(_COLUMNS, SlideSummary(slide=slide.path, result=SummedResult.of(result)).cells(), strict=True))
        assert row["mitoses"] == row["mitoses_in_hot_spot"] == len(SPOTS)
    assert "0 % of the tissue scanned: not a result for the slide" in write_report(alone.output).path.read_text()
    for damage in ({"count": "many"}, {"hot_spot": {}}, {"searched_mm2": float("inf")}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            MitosisCount.from_json({**alone.mitoses.to_json(), **damage})


def test_a_threshold_that_was_asked_for_counts(slide, model, alone):
    asked = replace(MITOSIS, mitosis_threshold=0.3, hot_spot_mm2=0.01)
    found = run(slide, model, alone.output, asked, detects=False).mitoses
    assert found.threshold == 0.3
    assert len(found) >= len(SPOTS)
    # No larger than the three that lie together.
    assert found.spot.count == 3
    assert found.spot.holds(SPOTS).tolist() == [False] * 4 + [True] * 3


def test_a_mitosis_model_is_no_detector(tmp_path):
    """``--model`` that names one makes its pass without a detector."""
    model = dark_spots()

    path = tmp_path / "mitosis-x.safetensors"
    save_model(path, build_segmentation(model.spec.built), replace(model.spec, name="mitosis-x"), {})
    job = job_models.settle_job(ScanJob(slide=tmp_path / "slide.tif", model=str(path)))
    assert not job.detects
    (request,) = job.wanted_passes
    assert (request.task, request.model) == ("mitosis", str(path))
    models = job_models.load_job_models(job)
    assert models.detector.name == "metastasis-lite"
    (made,) = job_models.check_passes(job, models)
    assert made.writes == MITOSES
    # Its probabilities are of no tumour: nothing is read from them, and no share of tumour changes them.
    assert models.others["mitosis"].contract is None
    prior = job_models.load_job_models(replace(job, scan=replace(job.scan, prior=0.3)))
    assert prior.others["mitosis"].spec == models.others["mitosis"].spec
    asked = PassRequest(task="mitosis", settings=MITOSIS)
    assert job_models.answering_task(replace(job, passes=(asked,)), models) == "detect"
