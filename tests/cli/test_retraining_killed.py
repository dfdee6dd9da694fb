"""``retrain``: killed at any moment it goes on to the same bytes; stopped it keeps, cancelled it does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from forked import run_forked
from made_once import made_once
from PIL import Image
from two_textures import DOTTED, PLAIN, correction, misled_model, two_textures_slide

from napari_metastasis.annotations import Corrections, CorrectionStore
from napari_metastasis.errors import ScanCancelledError, TrainingError
from napari_metastasis.models import load_model
from napari_metastasis.settings import CorrectionSettings, ScanSettings, TuneTrainSettings
from napari_metastasis.workflows.retrain import (
    CANCEL,
    STOP,
    Retraining,
    begin_run,
    decide_run,
    look_at_run,
    open_runs,
    restart_run,
    retrain,
    wish,
)
from napari_metastasis.workflows.retrain.run_log import RunLog, is_at_work
from napari_metastasis.workflows.retrain.runs import note_job
from napari_metastasis.workflows.scan import ScanJob, scan_slide

#: What comes out of a run.
MADE = ("new.safetensors", "verdict.json", "held-out.csv", "plan.json")


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scanned slide that was corrected, and the model that scanned it."""

    def make(folder: Path) -> None:
        slide, model = two_textures_slide(folder / "slide.tif"), misled_model(folder / "misled.safetensors")
        scan = ScanSettings(engine="torch", precision="float32", device="cpu")
        output = folder / "slide.metastasis"
        scan_slide(ScanJob(slide=slide, model=str(model), scan=scan, output=output))
        store = CorrectionStore(output)
        store.read()
        store.save(Corrections.of(map(correction, (*DOTTED[:6], *PLAIN[:6]))))

    return made_once(tmp_path_factory, "corrected", make)


@contextmanager
def unseen(title: str, unit: str):
    del title, unit
    yield lambda *_: None


def job_of(corrected: Path, output: Path, epochs: int = 2) -> Retraining:
    results = (corrected / "slide.metastasis",)
    # Of the batches that its crops fill, two make a pass.
    settings = TuneTrainSettings(steps=2 * epochs)
    return Retraining(
        results=results, model=corrected / "misled.safetensors", name="new", output=output, settings=settings
    )


def earlier_patches(folder: Path) -> Path:
    """Write patches that stand for what a model has learnt from before."""
    rng = np.random.default_rng(0)
    for number in range(24):
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(60 * (number % 2), 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(number % 2) / f"{number}.png")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(corrected: Path, tmp_path: Path) -> None:
    # Killed again and again; or, where more is asked for, once in each of so many runs, all of whose layers learn.
    kills = int(os.environ.get("KILLS") or 0)
    folders = [f"killed-{number}" for number in range(kills)] or ["killed"] * 3
    more = (
        ("--patches", earlier_patches(tmp_path / "patches"), "--whole-patches", 4, "--whole-steps", 12) if kills else ()
    )

    def command(output: str) -> list[str]:
        options = ("--model", corrected / "misled.safetensors", "--name", "new", "--steps", 9, "--no-keep", "--json")
        options += more
        return ["retrain", str(corrected / "slide.metastasis"), *map(str, options), "--output", str(tmp_path / output)]

    plan: list[tuple[list[str], float | None]] = [(command("whole"), None)]
    seed = time.time_ns()  # what fails names it
    moments = np.random.default_rng(seed).uniform(0.0, 1.0, len(folders)).tolist()
    plan += [(command(folder), moment) for folder, moment in zip(folders, moments, strict=True)]
    plan += [(command(folder), None) for folder in dict.fromkeys(folders)]
    whole, *ended = run_forked(tmp_path, plan)
    killed, last = ended[: len(folders)], ended[len(folders) :]
    assert (whole, *last) == (0,) * (1 + len(last)), seed
    assert -signal.SIGKILL in killed, seed
    made = {folder: [(tmp_path / folder / name).read_bytes() for name in MADE] for folder in ("whole", *folders)}
    same = [folder for folder in folders if made[folder] == made["whole"]]
    sys.stdout.write(f"{killed.count(-signal.SIGKILL)} killed, {len(same)} of {len(folders)} with the same bytes\n")
    assert same == folders, seed
    cards = [load_model(tmp_path / run_ / "new.safetensors").card for run_ in ("whole", folders[0])]
    assert cards[0]["retrained"] == cards[1]["retrained"]
    verdict = json.loads((tmp_path / "whole" / "verdict.json").read_text())
    assert verdict["held_out"] >= 2
    assert verdict["worse"] == 0
    assert look_at_run(tmp_path / folders[0]).kind == "ended"


def test_stopped_it_keeps_what_it_has_learnt_and_cancelled_it_does_not(corrected: Path, tmp_path: Path) -> None:
    @contextmanager
    def ask(title: str, unit: str, *, name: str, folder: Path):
        del unit

        def progress(done: int, total: int) -> None:
            if title == "Learning" and 0 < done < total:
                wish(folder, name)
                # Another one is refused while it is at work, and whoever looks on sees that.
                assert is_at_work(folder)
                assert look_at_run(folder).kind == "running"

        yield progress

    for name in (STOP, CANCEL):
        folder = tmp_path / name
        job = job_of(corrected, folder, epochs=50)
        begun = time.monotonic()

        def show(title: str, unit: str, name: str = name, folder: Path = folder):
            return ask(title, unit, name=name, folder=folder)

        if name == STOP:
            done = retrain(job, show=show, should_stop=lambda: False)
            assert done.verdict.places
            assert look_at_run(folder).kind == "ended"
            assert look_at_run(folder).verdict["sentence"] == done.verdict.sentence
            assert 1 <= len(look_at_run(folder).state.epochs) < 50
        else:
            with pytest.raises(ScanCancelledError):
                retrain(job, show=show, should_stop=lambda: False)
            assert look_at_run(folder).kind == "failed"
            assert not (folder / "verdict.json").exists()
        assert not is_at_work(folder)
        assert time.monotonic() - begun < 200


def test_a_place_smaller_than_a_cell_is_no_obstacle(corrected: Path, tmp_path: Path) -> None:
    results = shutil.copytree(corrected, tmp_path / "copy") / "slide.metastasis"
    store = CorrectionStore(results)
    tiny = replace(correction(PLAIN[7]), shape_px=shapely.Point(PLAIN[7].x + 3, PLAIN[7].y).buffer(0.5))
    store.save(store.read().with_(tiny))
    job = replace(
        job_of(corrected, tmp_path / "run", epochs=1),
        results=(results,),
        corrections=CorrectionSettings(held_out_share=0.0),
    )
    # It is among what each epoch is measured on, and has no answer there.
    assert load_model(retrain(job, show=unseen, should_stop=lambda: False).weights).card["retrained"]["places"] == 13


def test_a_run_is_alone_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_metastasis.workflows.retrain.run_log._WAIT_S", 0.1)
    first = RunLog(tmp_path, unseen, lambda: False, 0.0)
    with pytest.raises(TrainingError, match="only retraining"):
        RunLog(tmp_path, unseen, lambda: False, 0.0)
    first.close()
    RunLog(tmp_path, unseen, lambda: False, 0.0).close()


@pytest.mark.parametrize("ends", [False, True])
def test_a_run_that_begins_while_it_is_looked_at_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder, _ = begin_run((tmp_path,), model="scannet-pcam", name="scannet-pcam", budget_s=60)
    begun: list[RunLog] = []

    def look_and_begin(path: Path) -> bool:
        found = is_at_work(path)
        if not begun:
            begun.append(RunLog(path, unseen, lambda: False, 0.0))
            if ends:
                begun[0].tell(failed="expected a, got b; do c")
                begun[0].close()
        return found

    monkeypatch.setattr("napari_metastasis.workflows.retrain.runs.is_at_work", look_and_begin)
    run = look_at_run(folder)
    begun[0].close()
    assert run.kind == ("failed" if ends else "running")


def test_runs_are_found_until_somebody_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert open_runs() == ()
    results = (tmp_path / "a.metastasis",)
    folder, job = begin_run(results, model="scannet-pcam", name="scannet-pcam", budget_s=60)
    other, second = begin_run(results, model="scannet-pcam", name="scannet-pcam", budget_s=60)
    # Neither has a name of the other, nor its folder.
    assert (job.name, second.name) == ("scannet-pcam-v2", "scannet-pcam-v3")
    assert folder != other
    assert [run.kind for run in open_runs()] == ["starting", "starting"]
    assert look_at_run(folder, alive=False).kind == "interrupted"
    # Beside a scan its process may take longer to load than anybody would wait for one that is not known.
    long_ago = tmp_path / "long-ago"
    shutil.copytree(folder, long_ago)
    note_job(long_ago, replace(job, begun=job.begun - 3600))
    assert [look_at_run(long_ago, alive=alive).kind for alive in (True, None)] == ["starting", "interrupted"]
    (folder / "log.txt").write_text("napari-metastasis: note\nnapari-metastasis: expected a, got b; do c\n")
    run = look_at_run(folder)
    assert (run.kind, run.failed) == ("failed", "expected a, got b; do c")
    log = RunLog(other, unseen, lambda: False, 0.0)
    log.tell(step="Learning", done=1, total=2, left_s=3.0)
    assert [run.folder for run in open_runs()] == [other, folder]
    assert open_runs()[0].kind == "running"
    log.close()
    assert look_at_run(other).kind == "interrupted"
    decide_run(other, kept=False)
    assert [run.folder for run in open_runs()] == [folder]
    again = restart_run(look_at_run(other))
    assert again.command(other)[-1] == "--json"
    assert {run.folder for run in open_runs()} == {folder, other}
    for text in ("", "{", "[]", '{"results": 3}'):
        (folder / "job.json").write_text(text)
        assert [run.folder for run in open_runs()] == [other]


#: Stands for a window: begins a retraining whose process only waits, says so, and is killed.
_WINDOW = """
import sys, time
from pathlib import Path
from napari_metastasis._napari.retrain_work import begin_work
from napari_metastasis.workflows.retrain import RunJob
wait = "import pathlib, time; time.sleep(1); pathlib.Path('done').touch()"
RunJob.command = lambda self, folder: (sys.executable, "-c", wait)
work = begin_work((Path("a.metastasis"),), "scannet-pcam", "scannet-pcam", 60.0, None, (), lambda: False)
print(next(work).folder, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_window_that_is_killed_leaves_its_retraining_at_work(tmp_path: Path) -> None:
    window = subprocess.Popen(
        [sys.executable, "-c", _WINDOW], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
    )  # fmt: skip
    assert window.stdout is not None
    folder = Path(window.stdout.readline().strip())
    os.killpg(window.pid, signal.SIGKILL)
    window.wait()
    window.stdout.close()
    assert folder.is_dir()
    assert not (folder / "done").exists()
    until = time.monotonic() + 60
    while not (folder / "done").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
