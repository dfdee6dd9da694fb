"""Networks are made once, beside the window, and closed when nobody needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_metastasis.errors import ScanCancelledError, UnknownModelError
from napari_metastasis.scanning import ChosenEngine, never
from napari_metastasis.settings import ScanSettings
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan_job import ScanJob

FLOAT32 = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=256)


def job(model: object, settings: ScanSettings) -> ScanJob:
    return ScanJob(slide=Path("none"), model=str(model), scan=settings)


class FakeEngine:
    name, precision, device, lanes = "torch", "float32", "cpu", 1

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """Every engine that was made."""
    engines: list[FakeEngine] = []

    def choose(_: object, settings: ScanSettings, **__: object) -> ChosenEngine:
        engines.append(FakeEngine())
        return ChosenEngine(engines[-1], settings.roi_px)

    monkeypatch.setattr("napari_metastasis.scanning.choose_engine", choose)
    return engines


def test_second_scan_finds_the_engine_of_the_first(made: list[FakeEngine], darkness_model: Path) -> None:
    cache = EngineCache()
    cache.warm(job(darkness_model, FLOAT32))
    for _ in range(2):
        # Neither threads, queue nor views are the engine's business.
        settings = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=256, threads=3)
        with cache.use(job(darkness_model, settings), never) as ready:
            assert ready.chosen.engine is made[0]
            assert not made[0].closed
    assert len(made) == 1
    cache.close()
    assert made[0].closed


def test_engine_in_use_outlives_the_next_one(made: list[FakeEngine], darkness_model: Path) -> None:
    cache = EngineCache()
    denser = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=256, dense_coefficient=4)
    with cache.use(job(darkness_model, FLOAT32), never):
        cache.warm(job(darkness_model, denser))
        assert len(made) == 1  # not while a scan is running
        with cache.use(job(darkness_model, denser), never):
            assert [engine.closed for engine in made] == [False, False]
        assert not made[0].closed
    assert [engine.closed for engine in made] == [True, False]
    cache.close()
    assert made[1].closed


def test_model_trained_anew_is_loaded_anew(made: list[FakeEngine], darkness_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).write_bytes(darkness_model.with_suffix(suffix).read_bytes())
    cache = EngineCache()
    with cache.use(job(path, FLOAT32), never):
        pass
    path.touch()
    with cache.use(job(path, FLOAT32), never):
        pass
    assert [engine.closed for engine in made] == [True, False]
    cache.close()


def test_an_engine_that_is_waited_for_is_made_to_its_end(monkeypatch: pytest.MonkeyPatch, darkness_model: Path) -> None:
    """A scan of another slide wants another engine meanwhile."""
    going, go_on = threading.Event(), threading.Event()

    def choose(_: object, settings: ScanSettings, should_stop: Callable[[], bool], **__: object) -> ChosenEngine:
        if settings.dense_coefficient == FLOAT32.dense_coefficient:
            going.set()
            assert go_on.wait(10)
            if should_stop():
                raise ScanCancelledError("expected nothing")
        return ChosenEngine(FakeEngine(), settings.roi_px)

    monkeypatch.setattr("napari_metastasis.scanning.choose_engine", choose)
    cache, got = EngineCache(), []

    def scan() -> None:
        with cache.use(job(darkness_model, FLOAT32), never) as ready:
            got.append(ready)

    first = threading.Thread(target=scan)
    first.start()
    assert going.wait(10)
    denser = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=256, dense_coefficient=4)
    with cache.use(job(darkness_model, denser), never):
        go_on.set()
        first.join(10)
    assert len(got) == 1
    assert got[0].chosen.engine.closed
    cache.close()


def test_what_one_slide_goes_on_with_decides_for_no_other(made: list[FakeEngine], darkness_model: Path) -> None:
    cache = EngineCache()
    with cache.use(job(darkness_model, FLOAT32), never, lambda _: "bfloat16"):
        with cache.use(job(darkness_model, FLOAT32), never, lambda _: None) as ready:
            assert ready.chosen.engine is made[1]
        assert not made[0].closed
    with cache.use(job(darkness_model, FLOAT32), never, lambda _: None) as ready:
        assert ready.chosen.engine is made[1]
    with cache.use(job(darkness_model, FLOAT32), never, lambda _: "bfloat16") as ready:
        assert ready.chosen.engine is made[1], "one that suits all is there"
    assert [engine.closed for engine in made] == [True, False]
    cache.close()
    with cache.use(job(darkness_model, FLOAT32), never, lambda _: "bfloat16"):
        pass
    assert [engine.closed for engine in made] == [True, True, True]


def test_failure_is_told_and_tried_again(made: list[FakeEngine], darkness_model: Path) -> None:
    cache = EngineCache()
    for _ in range(2):
        with pytest.raises(UnknownModelError), cache.use(job("no such model", FLOAT32), never):
            pass
    with cache.use(job(darkness_model, FLOAT32), never):
        assert len(made) == 1
    cache.close()


def test_waiting_for_an_engine_can_be_cancelled(monkeypatch: pytest.MonkeyPatch, darkness_model: Path) -> None:
    asked = threading.Event()

    def choose(*_: object, should_stop: Callable[[], bool], **__: object) -> ChosenEngine:
        asked.set()
        while not should_stop():
            pass
        raise ScanCancelledError("expected nothing")

    monkeypatch.setattr("napari_metastasis.scanning.choose_engine", choose)
    cache, before = EngineCache(), set(threading.enumerate())
    with pytest.raises(ScanCancelledError), cache.use(job(darkness_model, FLOAT32), asked.is_set):
        pass
    # The measurement goes on for the next scan, until the window closes.
    (making,) = [one for one in threading.enumerate() if one.name.startswith("engine") and one not in before]
    cache.close()
    making.join(10)
    assert not making.is_alive()
