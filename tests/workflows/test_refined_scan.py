"""Refining in use: beside a scan, after it, again after a stop; what is read from both maps, and what is left alone."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from disc_slide import DISC_CENTER
from scans import NOT_REFINED, SCAN, prepared_scan, scan_with

from napari_metastasis.errors import ModelError, PassWarning, StorageError
from napari_metastasis.geometry import HeatmapFrame, Point, Region, Size
from napari_metastasis.models import SpatialNetwork, load_model
from napari_metastasis.scanning import ChosenEngine, FeatureStore, MapStore, MapValues, blend, choose_engine
from napari_metastasis.scanning.passes.refine import REFINED
from napari_metastasis.settings import RefineSettings, TissueSettings
from napari_metastasis.slides import open_slide

REFINE, KEEP = RefineSettings(refine=True), RefineSettings()


def run(slide, model, output, **changes):
    return scan_with(slide, model, output, **({"scan": SCAN} | changes))


def maps(folder):
    """Return the scan's own map and the refined one."""
    (path,) = folder.glob("refined*.ome.zarr")
    with MapStore.open(folder / "heatmap.ome.zarr") as raw, MapStore.open(path) as refined:
        return raw.values(), refined.values(), refined.frame


def centroid(values, frame) -> Point:
    weights = np.nan_to_num(values)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    return frame.cell_center(column, row)


@pytest.fixture(scope="module")
def once(slide_path, model, refiner, tmp_path_factory):
    """Scanned and refined in one go."""
    folder = tmp_path_factory.mktemp("once") / "out"
    with open_slide(slide_path) as slide:
        progress = []
        result = run(
            slide,
            model,
            folder,
            refiner=refiner,
            refine=REFINE,
            progress=lambda done, total: progress.append((done, total)),
        )
    return result, progress


def test_both_maps_lie_on_the_disc(once):
    result, progress = once
    raw, refined, native = maps(result.output)
    assert result.finished
    assert native.stride_px == result.frame.stride_px * SCAN.dense_coefficient
    assert centroid(raw, result.frame).distance(DISC_CENTER) < native.cell_px / 2
    assert centroid(refined, native).distance(DISC_CENTER) < native.cell_px / 2
    assert centroid(result.probabilities, result.frame).distance(DISC_CENTER) < native.cell_px / 2
    assert np.nanmax(np.abs(refined[::1] - np.nanmean(raw))) > 0.01
    record = json.loads((result.output / "run.json").read_text())
    (made,) = record["passes"]
    assert (made["task"], made["map"], made["file"]) == ("refine", "refined", "refined.ome.zarr")
    assert made["model"]["weights_sha256"] == "b" * 64
    assert made["cells_answered"] == int(np.isfinite(refined).sum())
    assert record["settings"]["refine"]["refined_share"] == 1.0
    assert progress[0][0] == 0
    assert progress[-1][0] == progress[-1][1] > 0
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_refining_an_earlier_scan_does_not_repeat_it(slide, model, refiner, once, tmp_path, monkeypatch):
    first = run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP)
    assert not list(first.output.glob("refined*"))
    read = type(slide).read

    def refuse(self, frame, region):
        # At low power the tissue is looked for, and its colours in small windows; there is nothing left to scan.
        assert frame.effective_mpp > 10 or max(region.width, region.height) <= 96, "the slide was read again"
        return read(self, frame, region)

    monkeypatch.setattr(type(slide), "read", refuse)
    second = run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)
    assert second.output == first.output
    for found, expected in zip(maps(second.output), maps(once[0].output), strict=True):
        if isinstance(found, np.ndarray):
            np.testing.assert_array_equal(found, expected)


def test_a_scan_without_features_is_encoded_again_and_its_answers_stay(slide, model, refiner, once, tmp_path):
    run(slide, model, tmp_path / "out", scan=replace(SCAN, roi_px=333))
    with MapStore.open(tmp_path / "out" / "heatmap.ome.zarr") as heatmap:
        before = heatmap.values()
    run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)
    raw, refined, _ = maps(tmp_path / "out")
    np.testing.assert_array_equal(raw, before)
    np.testing.assert_allclose(refined, maps(once[0].output)[1], atol=2e-3)


@pytest.mark.parametrize("pieces", [1, 4, 9])
def test_a_refinement_that_was_stopped_goes_on(slide, model, refiner, once, tmp_path, pieces):
    seen = []
    stopped = run(
        slide, model, tmp_path / "out", refiner=refiner, refine=REFINE,
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > pieces,
    )  # fmt: skip
    assert not stopped.finished
    done = run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)
    assert done.finished
    raw, refined, _ = maps(tmp_path / "out")
    expected = maps(once[0].output)
    np.testing.assert_allclose(raw, expected[0], atol=1e-6)
    np.testing.assert_allclose(refined, expected[1], atol=1e-3)


def test_a_region_is_refined_as_in_the_whole_slide(slide, model, refiner, once, tmp_path):
    region = Region(900, 420, 300, 260)
    result = run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE, region=region)
    assert result.finished
    raw, refined, native = maps(tmp_path / "out")
    _, whole, _ = maps(once[0].output)
    wanted = native.cells_over(region)
    np.testing.assert_allclose(refined[wanted.slices], whole[wanted.slices], atol=1e-3)
    outside = np.ones(refined.shape, bool)
    outside[wanted.slices] = False
    assert np.isnan(refined[outside]).all()
    # More is encoded, because it has a say, but nothing outside the region is answered or becomes a lesion.
    asked = np.zeros(raw.shape, bool)
    asked[result.frame.cells_over(region).slices] = True
    np.testing.assert_array_equal(np.isfinite(raw), asked)
    np.testing.assert_array_equal(np.isfinite(result.probabilities), asked)
    again = run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE, region=region)
    assert again.mpx_per_s == 0, "what was encoded around it is not encoded again"
    assert run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE).finished
    np.testing.assert_allclose(maps(tmp_path / "out")[1], whole, atol=1e-3)


def test_an_engine_that_encodes_scans_where_nobody_keeps_features(slide, model, refiner, tmp_path):
    expected = run(slide, model, tmp_path / "plain")
    with closing(choose_engine(model, SCAN, reader=refiner).engine) as engine:
        chosen = ChosenEngine(engine=engine, roi_px=20, reader_sha256=refiner.weights_sha256)
        # Windows of single cells: the network averages squares of four, and one alone has none.
        options = {"chosen": chosen, "refiner": refiner, "refine": NOT_REFINED, "region": Region(1100, 600, 60, 60)}
        found = run(slide, model, tmp_path / "out", scan=replace(SCAN, roi_px=20), **options)
    answered = np.isfinite(found.probabilities)
    assert found.finished
    np.testing.assert_allclose(found.probabilities[answered], expected.probabilities[answered], atol=1e-6)


def test_detections_are_read_from_the_share_of_each(slide, model, refiner, once, tmp_path):
    shutil.copytree(once[0].output, tmp_path / "out")
    raw, refined, native = maps(tmp_path / "out")
    found = {
        share: run(slide, model, tmp_path / "out", refiner=refiner, refine=replace(REFINE, refined_share=share))
        for share in (0.0, 0.4, 1.0)
    }
    np.testing.assert_array_equal(found[0.0].probabilities, raw)
    mixed = 0.4 * found[1.0].probabilities + 0.6 * raw
    np.testing.assert_allclose(found[0.4].probabilities, mixed, atol=1e-6)
    frame = found[1.0].frame
    np.testing.assert_array_equal(found[1.0].probabilities, blend(raw, frame, MapValues(REFINED, native, refined), 1.0))
    part = Region(40, 30, 21, 17)
    np.testing.assert_allclose(
        blend(raw[part.slices], frame, MapValues(REFINED, native, refined), 0.4, part),
        found[0.4].probabilities[part.slices],
        atol=1e-6,
    )


@pytest.mark.parametrize("alpha", [1, 2, 4, 8])
def test_a_blend_has_the_answer_of_the_native_cell_around_each(slide, alpha):
    spec = load_model("scannet-pcam").spec
    pixels = slide.frame(spec.mpp)
    frame = HeatmapFrame(model=pixels, patch_px=spec.patch_px, stride_px=spec.dense_stride_px(alpha))
    native = HeatmapFrame(model=pixels, patch_px=spec.patch_px, stride_px=spec.stride_px)
    draws = np.random.default_rng(5)
    raw, refined = (draws.random(each.cells.shape, np.float32) for each in (frame, native))
    mixed = blend(raw, frame, MapValues(REFINED, native, refined), 1.0)
    assert mixed.max() == refined.max(), "no peak is lowered"
    for row, column in draws.integers(0, frame.cells.shape, (200, 2)):
        cell = native.cell_at(frame.cell_center(float(column), float(row)))
        assert mixed[row, column] == refined[round(cell.y), round(cell.x)]


def test_where_nothing_is_refined_the_scan_counts(once):
    result, _ = once
    raw, refined, native = maps(result.output)
    half = refined.copy()
    half[:, : half.shape[1] // 2] = np.nan
    mixed = blend(raw, result.frame, MapValues(REFINED, native, half), 1.0)
    left = raw.shape[1] // 2 - 4
    np.testing.assert_array_equal(mixed[:, :left], raw[:, :left])
    np.testing.assert_array_equal(np.isnan(mixed), np.isnan(raw))


def test_other_tissue_gets_a_map_of_its_own(slide, model, refiner, once, tmp_path):
    shutil.copytree(once[0].output, tmp_path / "out")
    before = maps(tmp_path / "out")[1]
    run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE, tissue=TissueSettings(margin_um=5.0))
    names = sorted(path.name for path in (tmp_path / "out").glob("refined*"))
    assert len(names) == 2
    with MapStore.open(tmp_path / "out" / "refined.ome.zarr") as heatmap:
        np.testing.assert_array_equal(heatmap.values(), before)


def test_damaged_features_are_named_and_made_again(slide, model, refiner, tmp_path):
    first = run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP)
    (store,) = first.output.glob("features-*.zarr")
    chunks = sorted(path for path in (store / "features" / "c").rglob("*") if path.is_file())
    chunks[len(chunks) // 2].write_bytes(b"cut short")
    with pytest.raises(StorageError, match="scan again to repair it"):
        run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)
    assert run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE).finished


def test_features_of_another_scan_are_left_alone(tmp_path):
    cells = Size(20, 10)
    store = FeatureStore.open_or_create(tmp_path / "f.zarr", cells=cells, views=1, features=3, identity={"a": 1})
    values = np.random.default_rng(0).random((1, 4, 5, 3)).astype(np.float32)
    values[0, 1, 2] = np.nan
    store.write(Region(3, 2, 5, 4), values)
    store.write(Region(3, 2, 5, 4), values + 1)  # what is stored stays
    again = FeatureStore.open_or_create(tmp_path / "f.zarr", cells=cells, views=1, features=3, identity={"a": 1})
    np.testing.assert_array_equal(again.present, store.present)
    assert again.present.sum() == 19
    np.testing.assert_allclose(again.read(Region(3, 2, 5, 4)), values, atol=1e-3)
    around = again.read(Region(-2, -1, 9, 6))
    assert np.isnan(around[:, :1]).all()
    again.write(Region(0, 0, 1, 1), np.full((1, 1, 1, 3), 1e9, np.float32))
    np.testing.assert_array_equal(again.read(Region(0, 0, 1, 1)), np.full((1, 1, 1, 3), 65504.0))
    with pytest.raises(StorageError, match="those of another"):
        FeatureStore.open_or_create(tmp_path / "f.zarr", cells=cells, views=1, features=3, identity={"a": 2})
    (tmp_path / "g.zarr").mkdir()
    (tmp_path / "g.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(StorageError, match="something else"):
        FeatureStore.open_or_create(tmp_path / "g.zarr", cells=cells, views=1, features=3, identity={})


def test_refining_needs_a_refiner_of_this_model(slide, model, refiner, tmp_path):
    with pytest.raises(ModelError, match="expected a refiner for"):
        run(slide, model, tmp_path / "out", refine=REFINE)
    other = replace(refiner, spec=replace(refiner.spec, encoder_sha256="c" * 64))
    with pytest.raises(ModelError, match="for refiner mover"):
        run(slide, model, tmp_path / "out", refiner=other, refine=REFINE)
    assert not (tmp_path / "out").exists()


def test_the_first_blocks_do_not_wait_for_the_last_roi(slide, model, refiner, tmp_path):
    small = replace(refiner, spec=replace(refiner.spec, grid=2, grid_step=1, window_step=1))
    network = SpatialNetwork(small.spec).eval().requires_grad_(requires_grad=False)
    with prepared_scan(
        slide, model, tmp_path / "out", scan=SCAN, refiner=replace(small, network=network), refine=REFINE
    ) as prepared:
        kinds = [piece.map == "refined" for piece in prepared.run()]
    assert sum(kinds) == len(prepared.passes[0].plan.blocks)
    assert kinds.index(True) < len(kinds) - 1 - kinds[::-1].index(False), "a block came before the last ROI"


def test_a_scan_that_fails_at_once_leaves_nothing(slide, model, refiner, tmp_path, monkeypatch):
    read = type(slide).read

    def fail(self, frame, region):
        if frame.effective_mpp < 10:
            raise OSError(5, "the disk is away")
        return read(self, frame, region)

    monkeypatch.setattr(type(slide), "read", fail)
    with pytest.raises(OSError, match="the disk is away"):
        run(slide, model, tmp_path / "new" / "out", refiner=refiner, refine=REFINE)
    assert not (tmp_path / "new").exists()


def test_what_other_tissue_settings_encoded_has_no_say(slide, model, refiner, once, tmp_path):
    everything = replace(SCAN, tissue_only=False)
    run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP, scan=everything)
    run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)
    np.testing.assert_allclose(maps(tmp_path / "out")[1], maps(once[0].output)[1], atol=1e-3)


def test_what_is_not_to_be_kept_goes_once_it_is_done_with(slide, model, refiner, tmp_path):
    refine = replace(REFINE, keep_features=False)
    seen = []
    run(
        slide, model, tmp_path / "out", refiner=refiner, refine=refine,
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 4,
    )  # fmt: skip
    assert list((tmp_path / "out").glob("features-*")), "a stopped scan goes on with them"
    assert run(slide, model, tmp_path / "out", refiner=refiner, refine=refine).finished
    assert not list((tmp_path / "out").glob("features-*"))
    again = run(slide, model, tmp_path / "out", refiner=refiner, refine=refine)
    assert again.finished
    assert again.mpx_per_s == 0, "what is refined is not encoded again"


def test_what_one_scan_kept_another_does_not_throw_away(slide, model, refiner, tmp_path):
    part, unkept = Region(1000, 500, 100, 100), replace(REFINE, keep_features=False)
    run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP)
    run(slide, model, tmp_path / "out", refiner=refiner, refine=unkept, region=part)
    assert list((tmp_path / "out").glob("features-*"))
    assert run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE).mpx_per_s == 0
    # And what is asked to be kept is, whoever made it.
    seen = []
    run(
        slide, model, tmp_path / "other", refiner=refiner, refine=unkept,
        progress=lambda *done: seen.append(done), should_stop=lambda: len(seen) > 4,
    )  # fmt: skip
    run(slide, model, tmp_path / "other", refiner=refiner, refine=KEEP, region=part)
    run(slide, model, tmp_path / "other", refiner=refiner, refine=unkept, region=part)
    assert list((tmp_path / "other").glob("features-*"))


def test_another_density_than_the_refiners_is_remarked_on(slide, model, refiner, tmp_path):
    with pytest.warns(PassWarning, match="expected dense coefficient 2, which mover was trained at, got 1"):
        run(
            slide, model, tmp_path / "out", refiner=refiner, refine=REFINE, scan=replace(SCAN, dense_coefficient=1),
            region=Region(1000, 500, 100, 100),
        )  # fmt: skip
    assert "trained at" in json.loads((tmp_path / "out" / "run.json").read_text())["scans"][-1]["notes"][0]


def test_damaged_features_do_not_stop_a_scan_that_refines_nothing(slide, model, refiner, tmp_path):
    first = run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP, region=Region(1000, 500, 100, 100))
    (store,) = first.output.glob("features-*.zarr")
    (store / "zarr.json").write_text("{}")
    with pytest.warns(PassWarning, match="what a refiner reads of this scan is not kept"):
        assert run(slide, model, tmp_path / "out", refiner=refiner, refine=KEEP).finished
    with pytest.raises(StorageError, match="something else"):
        run(slide, model, tmp_path / "out", refiner=refiner, refine=REFINE)


def test_a_calibrated_refiner_moves_its_answers_and_gives_the_threshold(slide, model, refiner, tmp_path):
    fitted = replace(refiner.spec, temperature=1.5, shift=-0.3, prior=0.05, threshold=0.27)
    calibrated = replace(refiner, spec=fitted)
    plain = run(slide, model, tmp_path / "plain", refiner=refiner, refine=REFINE)
    moved = run(slide, model, tmp_path / "moved", refiner=calibrated, refine=REFINE)
    own, refined, _ = maps(plain.output)
    own_again, seen, _ = maps(moved.output)
    np.testing.assert_array_equal(own, own_again)
    ratio = (np.log(refined) - np.log1p(-refined)) / 1.5 - 0.3 + np.log(0.05 / 0.95)
    np.testing.assert_allclose(seen, 1 / (1 + np.exp(-ratio)), atol=1e-4)

    def threshold_of(result):
        return json.loads((result.output / "run.json").read_text())["settings"]["detection"]["threshold"]

    assert (threshold_of(plain), threshold_of(moved)) == (0.5, 0.27)
    # A refined map of another calibration is another map: the scan stays, and what follows it is made anew.
    again = run(slide, model, tmp_path / "plain", refiner=calibrated, refine=REFINE)
    assert again.output == plain.output
    assert len(list(plain.output.glob("refined*.ome.zarr"))) == 2
