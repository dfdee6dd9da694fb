"""The scan: the same heatmap whatever the pieces, in order, bounded, and stopped cleanly."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from scanning_fakes import ArraySlide, ArrayStore, MeanEngine, oracle, scan, tiny_model

from napari_metastasis.errors import DeviceError, StorageError
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.scanning import TorchEngine, Wanted, plan_scan
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import open_slide


def planned(frame: HeatmapFrame, **changes):
    options = {"cells": Region.of(frame.cells), "roi_px": 128, "block": 1} | changes
    roi_px, block = options.pop("roi_px"), options.pop("block")
    if "wanted" in options:
        options["cells"] = options.pop("wanted")
    return plan_scan(frame, Wanted(**options), roi_px=roi_px, block=block)


def scanning_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("read-roi", "run-roi"))]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert scanning_threads() == []


@pytest.fixture
def frame(slide, make_frame) -> HeatmapFrame:
    return make_frame(slide)


@pytest.fixture
def store(frame) -> ArrayStore:
    return ArrayStore(frame)


def test_every_cell_is_the_answer_of_its_patch(model, make_frame):
    small = ArraySlide(np.random.default_rng(1).integers(0, 255, (101, 117, 3), dtype=np.uint8))
    frame = make_frame(small)
    store = ArrayStore(frame)
    engine = TorchEngine(model.dense(2), devices=("cpu",), precision="float32")
    list(scan(small, engine, planned(frame, roi_px=64), store, ScanSettings()))
    expected = oracle(model, small, frame, Region.of(frame.cells))
    np.testing.assert_allclose(store.values, expected, atol=1e-5, rtol=0)
    assert (store.writes == 1).all()


@pytest.mark.parametrize("mpp", [0.243, 0.25, 0.486, 0.5, 0.972])
def test_the_same_heatmap_for_every_size_order_and_number_of_threads(mpp, tissue_picture, slide_file):
    model = tiny_model()
    engine = TorchEngine(model.dense(2), devices=("cpu",), precision="float32")
    repeats = max(1, round(0.972 / mpp))
    # About 760 x 590 model pixels at every resolution.
    pixels = np.tile(tissue_picture, (repeats, repeats, 1))[: round(570 / mpp), : round(740 / mpp)]
    reference = None
    with open_slide(slide_file(f"{mpp}.tif", pixels, mpp=mpp)) as slide:
        frame = ArraySlide(pixels).heatmap_frame(model)
        frame = HeatmapFrame(model=slide.frame(model.spec.mpp), patch_px=frame.patch_px, stride_px=frame.stride_px)
        tissue = np.random.default_rng(0).random(frame.cells.shape) < 0.9
        tissue[:40, :50] = False
        for roi_px, threads, focus in [
            (2048, 1, None),
            (256, 1, None),
            (256, 4, Point(0, 0)),
            (512, 4, Point(900, 100)),
            (1024, 4, None),
        ]:
            plan, store = planned(frame, roi_px=roi_px, focus=focus, tissue=tissue), ArrayStore(frame)
            list(scan(slide, engine, plan, store, ScanSettings(threads=threads)))
            if reference is None:
                reference = store.values
                np.testing.assert_array_equal(np.isnan(reference), ~tissue)
                assert np.nanstd(reference) > 0.02
            np.testing.assert_allclose(store.values, reference, atol=1e-5, rtol=0)


def test_what_is_yielded_is_stored_and_counted_in_the_plans_order(slide, frame, store):
    plan = planned(frame, focus=Point(200, 300))
    finished = []
    for roi in scan(slide, MeanEngine(frame, lanes=3), plan, store, ScanSettings(threads=4)):
        np.testing.assert_array_equal(store.values[roi.cells.slices], roi.values)
        finished.append(roi)
    assert [roi.cells for roi in finished] == [roi.write for roi in plan.rois]
    assert [roi.done for roi in finished] == list(itertools.accumulate(roi.model_px for roi in finished))
    assert {roi.total for roi in finished} == {plan.model_px} == {finished[-1].done}


def test_cells_that_need_no_answer_stay_as_they_are(slide, frame, store):
    tissue = np.random.default_rng(2).random(frame.cells.shape) < 0.5
    for roi in scan(slide, MeanEngine(frame), planned(frame, tissue=tissue), store, ScanSettings()):
        np.testing.assert_array_equal(np.isnan(roi.values), ~tissue[roi.cells.slices])
    np.testing.assert_array_equal(store.writes, tissue.astype(int))


def test_a_plan_without_rois_ends_at_once(slide, frame, store):
    plan = planned(frame, tissue=np.zeros(frame.cells.shape, bool))
    assert list(scan(slide, MeanEngine(frame), plan, store, ScanSettings())) == []
    assert slide.reads == []


def test_every_lane_is_used_and_no_more(slide, frame, store):
    engine = MeanEngine(frame, lanes=3, delay=0.01)
    list(scan(slide, engine, planned(frame), store, ScanSettings(threads=4)))
    assert engine.most_busy == 3


def test_reading_runs_ahead_but_not_away(slide, frame, store):
    settings = ScanSettings(threads=2, queue_rois=3)
    engine = MeanEngine(frame)
    plan = planned(frame)
    capacity = settings.threads + engine.lanes + settings.queue_rois
    running = scan(slide, engine, plan, store, settings)
    for taken in range(1, 6):
        next(running)
        deadline = time.monotonic() + 10
        while len(slide.reads) < taken + capacity - 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert len(slide.reads) == taken + capacity - 1
    running.close()
    assert len(plan.rois) > 5 + capacity


@pytest.mark.parametrize(("device", "readers"), [("cpu", 2), ("cuda:0", 6), ("mps", 6)])
def test_a_gpu_is_fed_by_more_readers_than_a_processor(slide, frame, store, monkeypatch, device, readers):
    monkeypatch.setattr("napari_metastasis.slides.threads._cores", lambda: 6)
    engine = MeanEngine(frame)
    engine.device = device
    gate = threading.Barrier(readers)  # passed only if as many read at once
    slow, numbers = ArraySlide(slide.pixels), itertools.count()

    def read(*arguments):
        if next(numbers) < readers:
            gate.wait(timeout=60)
        return ArraySlide.read(slow, *arguments)

    slow.read = read
    running = scan(slow, engine, planned(frame), store, ScanSettings())
    next(running)
    assert not gate.broken
    assert sum(name.startswith("read-roi") for name in scanning_threads()) == readers
    running.close()


def test_reading_hides_behind_computing(slide, frame, store):
    """Every answer waits until the next region has been read, which never comes where one follows the other."""
    plan, engine = planned(frame), MeanEngine(frame)
    answer, waited = engine.run, []

    def run(images):
        waited.append(1)
        deadline = time.monotonic() + 60
        while len(slide.reads) <= min(len(waited), len(plan.rois) - 1):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return answer(images)

    engine.run = run
    list(scan(slide, engine, plan, store, ScanSettings(threads=2)))
    assert len(waited) == len(plan.rois)


@pytest.mark.parametrize("lanes", [1, 3])
def test_it_stops_within_one_roi_and_goes_on_later(slide, frame, store, lanes):
    engine = MeanEngine(frame, lanes=lanes, delay=0.01)
    plan = planned(frame)
    finished = []
    for roi in scan(slide, engine, plan, store, ScanSettings(), should_stop=lambda: len(finished) >= 4):
        finished.append(roi)
    assert len(finished) == 4
    assert scanning_threads() == []
    rest = planned(frame, done=~np.isnan(store.values))
    list(scan(slide, engine, rest, store, ScanSettings()))
    assert (store.writes == 1).all()


def test_it_stops_while_an_answer_takes_long(slide, frame, store):
    """The first answer comes only once it has been asked for the last time whether to stop."""
    engine, asked, enough = MeanEngine(frame), [], threading.Event()
    answer = engine.run

    def should_stop() -> bool:
        asked.append(1)
        if len(asked) > 3:
            enough.set()
        return enough.is_set()

    def run(images):
        assert enough.wait(timeout=60)
        return answer(images)

    engine.run = run
    assert list(scan(slide, engine, planned(frame), store, ScanSettings(), should_stop=should_stop)) == []
    assert len(asked) == 4


def test_closing_the_generator_ends_every_thread(slide, frame, store):
    running = scan(slide, MeanEngine(frame, lanes=2, delay=0.01), planned(frame), store, ScanSettings(threads=4))
    first = next(running)
    assert scanning_threads() != []
    running.close()
    assert scanning_threads() == []
    assert (store.writes.sum()) == first.cells.size.area


def test_a_consumer_that_fails_ends_every_thread(slide, frame, store):
    def consume():
        for _ in scan(slide, MeanEngine(frame), planned(frame), store, ScanSettings()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    # The traceback held the generator until now; _no_thread_is_left looks afterwards.


def test_an_error_of_a_reader_surfaces_once(slide, frame, store):
    broken = ArraySlide(slide.pixels, fails_at=5)
    running = scan(broken, MeanEngine(frame), planned(frame), store, ScanSettings(threads=1))
    for _ in range(4):
        next(running)
    with pytest.raises(ValueError, match="read 5 failed"):
        next(running)
    assert list(running) == []


def test_an_error_of_the_store_ends_the_scan(slide, frame):
    class FullDisk:
        def write(self, *_args):
            raise StorageError("expected room, got a full disk; free some")

    with pytest.raises(StorageError, match="a full disk"):
        list(scan(slide, MeanEngine(frame), planned(frame), FullDisk(), ScanSettings()))


@pytest.mark.parametrize("lanes", [1, 3])
def test_what_does_not_fit_is_split(slide, frame, lanes):
    plan = planned(frame, roi_px=512)
    whole, split = ArrayStore(frame), ArrayStore(frame)
    list(scan(slide, MeanEngine(frame), plan, whole, ScanSettings()))
    engine = MeanEngine(frame, lanes=lanes, room_px=150 * 150)
    finished = list(scan(slide, engine, plan, split, ScanSettings(threads=2)))
    np.testing.assert_array_equal(split.values, whole.values)
    assert (split.writes == 1).all()
    assert finished[-1].done == finished[-1].total == plan.model_px
    assert max(height * width for height, width in engine.windows) <= 150 * 150
    # What follows is split before it is tried: few are refused, whatever the length of the plan.
    in_flight = 2 + lanes + ScanSettings().queue_rois
    assert engine.refused <= 6 * in_flight


def test_pieces_of_a_split_roi_come_in_its_place(slide, frame, store):
    plan = planned(frame, roi_px=512, focus=Point(0, 0))
    finished = list(scan(slide, MeanEngine(frame, room_px=300 * 300), plan, store, ScanSettings()))
    owners = [next(i for i, roi in enumerate(plan.rois) if roi.write.contains(piece.cells)) for piece in finished]
    assert owners == sorted(owners)


@pytest.mark.parametrize(("precision", "remedy"), [("float16", "--precision float32"), ("float32", "another model")])
def test_answers_that_are_no_numbers_are_refused_and_not_stored(slide, frame, store, precision, remedy):
    engine = MeanEngine(frame)
    engine.precision = precision
    engine.run = lambda images, run=engine.run: np.full_like(run(images), np.nan)
    with pytest.raises(DeviceError, match=f"got NaN; choose {remedy}"):
        list(scan(slide, engine, planned(frame), store, ScanSettings()))
    assert not store.writes.any()


def test_a_device_without_room_for_one_patch(slide, frame, store):
    engine = MeanEngine(frame, room_px=10)
    with pytest.raises(DeviceError, match=r"room on cpu for a single patch.* close other programs that use it$"):
        list(scan(slide, engine, planned(frame), store, ScanSettings()))
    engine.device = "cuda:0"
    with pytest.raises(DeviceError, match=r"room on cuda:0 for a single patch.* or choose --device cpu$"):
        list(scan(slide, engine, planned(frame), store, ScanSettings()))


def test_eight_views_are_averaged(slide, frame, store):
    engine = MeanEngine(frame)
    plan = planned(frame, wanted=Region(4, 4, 6, 3))
    list(scan(slide, engine, plan, store, ScanSettings(augment_views=8)))
    assert sorted(engine.windows) == sorted([engine.windows[0]] * 4 + [engine.windows[0][::-1]] * 4)
