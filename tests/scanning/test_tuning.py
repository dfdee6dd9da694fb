"""What is measured, what is remembered, and what happens when the memory is lost."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from napari_metastasis.errors import DeviceError, DeviceMemoryError, MissingDependencyError, SettingsError
from napari_metastasis.scanning import choose_engine
from napari_metastasis.scanning.engines import choose as choice
from napari_metastasis.scanning.engines import tuning
from napari_metastasis.scanning.engines.tuning import Candidate, Tuned, TuningCache, candidates, phantom, tune
from napari_metastasis.settings import ScanSettings, TuningSettings

SLOW, FAST = Candidate("torch", "float32"), Candidate("openvino", "float32")
REDUCED = Candidate("torch", "bfloat16")


class TimedEngine:
    """Takes a known time for a pixel, on a clock of its own."""

    lanes, device = 1, "cpu"

    def __init__(self, way: Candidate, now: list[float], seconds_per_mpx, error=0.0, room_px=np.inf) -> None:
        self.name, self.precision = way.engine, way.precision
        self.now, self.seconds_per_mpx, self.error, self.room_px = now, seconds_per_mpx, error, room_px
        self.closed = False

    def run(self, images):
        if images.shape[1] > self.room_px:
            raise DeviceMemoryError("expected room, got none; take less")
        self.now[0] += self.seconds_per_mpx(images.shape[1]) * images.shape[1] ** 2 / 1e6
        return np.full((1, 2, 2), 0.5 + self.error, np.float32)

    def close(self):
        self.closed = True


@pytest.fixture
def bench(monkeypatch):
    """Return a function that tunes engines by their seconds a megapixel and tells what was built."""
    now = [100.0]
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    def run(speeds, *, windows=None, **engine_options):
        built = {}

        def build(way):
            if isinstance(speeds[way], Exception):
                raise speeds[way]
            speed = speeds[way] if callable(speeds[way]) else lambda _side: speeds[way]
            built[way] = TimedEngine(way, now, speed, **engine_options.get(way.precision, {}))
            return built[way]

        tuned, engine = tune(
            list(speeds),
            build=build,
            reference=lambda _image: np.full((1, 2, 2), 0.5, np.float32),
            windows=windows or {200: 100, 400: 300},
            settings=TuningSettings(),
        )
        return tuned, engine, built

    return run


def test_the_fastest_is_taken_and_the_others_closed(bench):
    tuned, engine, built = bench({SLOW: 0.5, FAST: 0.2})
    assert (tuned.engine, tuned.precision) == ("openvino", "float32")
    assert engine is built[FAST]
    assert not engine.closed
    assert built[SLOW].closed
    assert tuned.roi_px == 400
    assert tuned.mpx_per_s == pytest.approx(300**2 / (0.2 * 400**2))


def test_a_small_window_that_stays_in_the_cache_wins(bench):
    tuned, _, _ = bench({SLOW: lambda side: 0.1 if side <= 200 else 1.0})
    assert tuned.roi_px == 200


def test_a_larger_window_must_be_worth_it(bench):
    assert bench({SLOW: 0.1}, windows={500: 450, 1000: 910})[0].roi_px == 500
    assert bench({SLOW: 0.1}, windows={500: 450, 1000: 995})[0].roi_px == 1000


def test_a_reduced_precision_must_be_accurate(bench):
    assert bench({REDUCED: 0.1, SLOW: 0.5}, bfloat16={"error": 0.019})[0].precision == "bfloat16"
    for error in (0.021, np.nan):
        assert bench({REDUCED: 0.1, SLOW: 0.5}, bfloat16={"error": error})[0].precision == "float32"


def test_what_does_not_run_is_passed_over(bench):
    tuned, _, _ = bench({FAST: MissingDependencyError("none"), REDUCED: DeviceError("no"), SLOW: 0.5})
    assert tuned.engine == "torch"
    with pytest.raises(DeviceError, match=r"^no$"):
        bench({FAST: MissingDependencyError("none"), REDUCED: DeviceError("no")})
    with pytest.raises(DeviceError, match="expected a way"):
        bench({})


def test_windows_that_do_not_fit_are_passed_over(bench):
    assert bench({SLOW: 0.1}, float32={"room_px": 300})[0].roi_px == 200
    with pytest.raises(DeviceMemoryError):
        bench({SLOW: 0.1}, float32={"room_px": 100})


def test_measuring_ends_when_the_time_is_spent(bench):
    tuned, _, built = bench({SLOW: 200.0, FAST: 0.1})
    assert list(built) == [SLOW]  # 8 seconds for the first window alone
    assert tuned.roi_px == 200


def test_candidates():
    machine = {"openvino_precisions": ("float32", "bfloat16"), "torch_precisions": ("bfloat16", "float32")}

    def named(engine="auto", precision="auto", device="cpu", **changes):
        found = candidates(engine=engine, precision=precision, device=device, **(machine | changes))
        return [f"{way.engine} {way.precision}" for way in found]

    assert named() == ["openvino bfloat16", "openvino float32", "torch bfloat16", "torch float32"]
    assert named(device="cuda") == ["torch bfloat16", "torch float32"]
    assert named(openvino_precisions=()) == ["torch bfloat16", "torch float32"]
    assert named(precision="float32") == ["openvino float32", "torch float32"]
    assert named(engine="torch") == ["torch bfloat16", "torch float32"]
    assert named(engine="openvino", precision="bfloat16") == ["openvino bfloat16"]
    # float16 is in no processor here: OpenVINO is not offered, torch can do it slowly, and by name each is tried.
    assert named(precision="float16") == ["torch float16"]
    assert named(engine="openvino", precision="float16") == ["openvino float16"]


def test_every_combination_leaves_a_way():
    for engine, precision, device in itertools.product(
        ("auto", "torch"), ("auto", "float32", "bfloat16", "float16"), ("cpu", "cuda", "mps")
    ):
        assert candidates(
            engine=engine,
            precision=precision,
            device=device,
            openvino_precisions=(),
            torch_precisions=("float32",),
        )


def test_the_phantom_is_the_same_everywhere_and_has_contrast():
    image = phantom(128)
    assert image.shape == (1, 128, 128, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, phantom(128))
    assert image.reshape(-1, 3).std(axis=0).min() > 15


def test_the_cache_survives_anything(tmp_path):
    path = tmp_path / "deep" / "tuning.json"
    cache, tuned = TuningCache(path), Tuned("torch", "float32", 640, 1.5)
    assert cache.get("key") is None
    cache.put("key", tuned)
    cache.put("other", tuned)
    assert TuningCache(path).get("key") == tuned
    for damage in (
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"key": 3}',
        b'{"key": {"engine": "torch"}}',
        b'{"key": {"roi_px": "x"}}',
        b'{"key": {"engine": "abacus", "precision": "float32", "roi_px": 640, "mpx_per_s": 1}}',
        b'{"key": {"engine": "torch", "precision": "float1", "roi_px": 640, "mpx_per_s": 1}}',
        b'{"key": {"engine": "torch", "precision": "float32", "roi_px": 0, "mpx_per_s": 1}}',
        b'{"key": {"engine": "torch", "precision": "float32", "roi_px": 1e999, "mpx_per_s": 1}}',
    ):
        path.write_bytes(damage)
        assert cache.get("key") is None
        cache.put("key", tuned)
        assert cache.get("key") == tuned
    (tmp_path / "file").touch()
    TuningCache(tmp_path / "file" / "tuning.json").put("key", tuned)  # nowhere to write: forgotten


@pytest.fixture
def counted(monkeypatch):
    """Count the measurements."""
    calls = []
    measure = tuning.measure
    monkeypatch.setattr(tuning, "measure", lambda engine, image: calls.append(engine.name) or measure(engine, image))
    monkeypatch.setitem(tuning.ROI_PX, "cpu", (110, 190))
    return calls


def test_a_measurement_is_remembered(model, counted, tmp_path, monkeypatch):
    settings = ScanSettings(device="cpu", engine="torch")
    path = tmp_path / "tuning.json"
    monkeypatch.setattr(choice, "default_cache_path", lambda: path)
    first = choose_engine(model, settings)
    measured = len(counted)
    again = choose_engine(model, settings)
    assert measured > 0
    assert len(counted) == measured
    assert again.roi_px == first.roi_px in (110, 190)
    assert (again.engine.name, again.engine.precision) == ("torch", first.engine.precision)
    choose_engine(model, ScanSettings(device="cpu", engine="torch", dense_coefficient=4))
    assert len(counted) > measured
    path.write_text("damaged")
    choose_engine(model, settings)
    assert len(json.loads(path.read_text())) == 1


def test_what_was_remembered_but_is_gone_is_measured_again(model, counted, tmp_path, monkeypatch):
    settings, path = ScanSettings(device="cpu", precision="float32"), tmp_path / "tuning.json"
    monkeypatch.setattr(choice, "default_cache_path", lambda: path)
    choose_engine(model, settings)
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: {"engine": "openvino", "precision": "float16", "roi_px": 110, "mpx_per_s": 1}}))
    built = choice.OpenVinoEngine

    def without_float16(*arguments, precision):
        # Some processors compute it.
        if precision == "float16":
            raise DeviceError("expected float16, got a processor without it; choose another precision")
        return built(*arguments, precision=precision)

    monkeypatch.setattr(choice, "OpenVinoEngine", without_float16)
    before = len(counted)
    assert choose_engine(model, settings).engine.precision == "float32"
    assert len(counted) > before


def test_nothing_is_measured_where_everything_is_said(model, counted):
    chosen = choose_engine(model, ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=333))
    assert chosen.roi_px == 333
    assert counted == []


@pytest.mark.usefixtures("counted")
def test_a_side_that_was_asked_for_is_kept(model):
    assert choose_engine(model, ScanSettings(device="cpu", engine="torch", roi_px=150)).roi_px == 150


@pytest.mark.usefixtures("counted")
def test_without_openvino_torch_runs(model, monkeypatch):
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert choose_engine(model, ScanSettings(device="cpu")).engine.name == "torch"


def test_openvino_runs_on_processors_alone(model, monkeypatch):
    monkeypatch.setattr(choice, "resolve_devices", lambda _device: ("cuda:0",))
    with pytest.raises(SettingsError, match="expected device cpu for engine openvino"):
        choose_engine(model, ScanSettings(device="cuda", engine="openvino"))
