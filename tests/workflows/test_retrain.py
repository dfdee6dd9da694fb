"""A model that learns from corrections: which, from how many, what it is judged by, and what a kill leaves."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import torch
from dark_model import dark_model
from disc_slide import MPP
from PIL import Image
from scans import SCAN, scan_with

from napari_metastasis.annotations import Correction, Corrections, CorrectionStore
from napari_metastasis.cli.app import run
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import ModelError, ScanCancelledError, TrainingError
from napari_metastasis.evaluation import Estimate
from napari_metastasis.geometry import ModelFrame, Region, Size
from napari_metastasis.models import ModelSpec, ZooEntry, build_network, load_detector, read_model, save_model
from napari_metastasis.models.replay import Replay, read_replay, write_replay
from napari_metastasis.models.tuning import TunedNetwork, lower_sha256
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.places import Place
from napari_metastasis.settings import CorrectionSettings, TuneTrainSettings, WholeSettings
from napari_metastasis.slides import open_slide, write_pyramid
from napari_metastasis.workflows.retrain import (
    Corrected,
    PlaceAnswer,
    Retraining,
    RunJob,
    Verdict,
    gather,
    look_at_run,
    part,
    restart_run,
    retrain,
    runs,
)
from napari_metastasis.workflows.retrain.earlier import replay_beside
from napari_metastasis.workflows.retrain.encoded_crops import answered_wrongly
from napari_metastasis.workflows.retrain.pace import Pace, settle_plan
from napari_metastasis.workflows.retrain.prepared import Prepared
from napari_metastasis.workflows.retrain.run_log import STOP, read_run_log

SPEC = dark_model().spec
COARSE = replace(SCAN, roi_px=1024, dense_coefficient=1)
SHORT = {
    "model": "scannet-pcam", "name": "taught", "budget_s": 900.0,
    "settings": TuneTrainSettings(steps=24, batch_size=8, learning_rate=2e-3),
    "corrections": CorrectionSettings(held_out_by="slide", held_out_share=0.5, replay_weight=8.0),
}  # fmt: skip


def never() -> bool:
    return False


@contextmanager
def silent(*_: str):
    yield lambda *_: None


@pytest.fixture(scope="module")
def taught_results(tmp_path_factory):
    """Two slides of a pattern that no model knows, each with four places that a person called tumour, and four not."""
    folder = tmp_path_factory.mktemp("taught")
    found = []
    for number in range(2):
        rng = np.random.default_rng(number)
        pixels = np.full((1200, 1700, 3), 245, np.uint8)
        pixels[100:1100, 100:1600] = rng.integers(150, 226, (1000, 1500, 1), dtype=np.uint8) - np.array(
            [0, 60, 10], np.uint8
        )
        # Stripes on the right are "tumour".
        pixels[100:1100:12, 900:1600] = (90, 30, 110)
        path = folder / f"slide-{number}.tif"
        write_pyramid(path, pixels, mpp=MPP, size=Size(1700, 1200), compression="deflate")
        with open_slide(path) as slide:
            scan_with(slide, dark_model(), folder / f"slide-{number}.metastasis", scan=COARSE)
        store = CorrectionStore(folder / f"slide-{number}.metastasis")
        said = [
            Correction(key=f"{number}-{x}-{y}", label=label, shape_px=shapely.box(x, y, x + 120, y + 120), reviewer="A")
            for y in (200, 450, 700, 900)
            for x, label in ((1200, "tumour"), (300, "normal"))
        ]
        store.save(Corrections.of(said))
        found.append(folder / f"slide-{number}.metastasis")
    return tuple(found)


@pytest.fixture(scope="module")
def done(taught_results, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    return retrain(Retraining(results=taught_results, output=output, **SHORT), show=silent, should_stop=never)


def test_a_model_learns_what_was_corrected_and_is_judged_by_slides_that_it_did_not_see(done) -> None:
    assert (len(done.parted.training), len(done.parted.held_out), done.parted.by) == (8, 8, "slide")
    assert not {one.slide for one in done.parted.training} & {one.slide for one in done.parted.held_out}
    verdict = done.verdict
    assert verdict.better >= 4
    assert verdict.better > verdict.worse
    assert verdict.is_better
    assert verdict.sentence == f"Better on {verdict.better} of 8 places that it did not see, worse on {verdict.worse}"
    old, new = verdict.figures["auc"]
    assert new.low <= new.value <= new.high
    assert new.value > old.value
    assert {"auc", "accuracy", "froc"} == set(verdict.figures)
    assert done.notes == (
        "the lower layers stayed as they are: they learn only beside --patches that the model learnt from",
    )
    # Of the patches that ship with it.
    assert verdict.replayed[0] > 0.9


def test_the_new_model_says_where_it_comes_from(done) -> None:
    model, parent = read_model(done.weights), load_detector("scannet-pcam")
    assert model.spec == replace(parent.spec, name="taught")
    assert model.card["parents"] == [{"name": "scannet-pcam", "weights_sha256": parent.weights_sha256}]
    told = model.card["retrained"]
    assert (told["places"], told["held_out"], len(told["slides"])) == (8, 8, 2)
    assert told["verdict"]["sentence"] == done.verdict.sentence
    assert "Before that, scannet-pcam" in model.card["data"]
    assert lower_sha256(model) == lower_sha256(parent)
    lines = (done.weights.parent / "held-out.csv").read_text().splitlines()
    assert len(lines) == 9
    state = read_run_log(done.weights.parent)
    assert state.ended == done.weights
    assert len(state.epochs) == json.loads((done.weights.parent / "plan.json").read_text())["epochs"]


def test_a_run_that_was_killed_ends_with_the_same_weights(done, taught_results, tmp_path) -> None:
    job = Retraining(results=taught_results, output=tmp_path / "run", **SHORT)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_bytes((done.weights.parent / "plan.json").read_bytes())

    class Killed(BaseException):
        pass

    for killed_at in ("Encoding corrected places", "Learning"):

        @contextmanager
        def until(title: str, _: str, last: str = killed_at):
            def progress(at: int, total: int) -> None:
                if title == last and at >= total // 2:
                    raise Killed

            yield progress

        with pytest.raises(Killed):
            retrain(job, show=until, should_stop=never)
        assert not (tmp_path / "run" / "taught.safetensors").exists()
    again = retrain(job, show=silent, should_stop=never)
    assert again.weights.read_bytes() == done.weights.read_bytes()
    assert again.verdict.to_json() == done.verdict.to_json()


@pytest.fixture(scope="module")
def noise_patches(tmp_path_factory):
    """Patches that stand for what a model has learnt from before."""
    folder, rng = tmp_path_factory.mktemp("earlier"), np.random.default_rng(0)
    for number in range(24):
        (folder / str(number % 2)).mkdir(exist_ok=True)
        low = 40 if number % 2 else 120
        pixels = rng.integers(low, low + 100, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(number % 2) / f"{number}.png")
    return folder


def test_with_earlier_patches_all_layers_learn_and_a_kill_changes_nothing(
    taught_results, noise_patches, tmp_path
) -> None:
    parent = load_detector("scannet-pcam")
    whole = WholeSettings(whole_steps=8, whole_crops=4, whole_patches=4)
    fed = replace(SHORT["corrections"], mining="negative-feed", fed_share=0.25)
    how = {**SHORT, "patches": noise_patches, "whole": whole, "settings": TuneTrainSettings(steps=4, batch_size=8)}
    how["corrections"] = fed
    job = Retraining(results=taught_results, output=tmp_path / "run", **how)

    class Killed(BaseException):
        pass

    @contextmanager
    def until(title: str, _: str):
        def progress(at: int, _: int) -> None:
            if title == "Learning with all layers" and at == 5:
                raise Killed

        yield progress

    with pytest.raises(Killed):
        retrain(job, show=until, should_stop=never)
    assert not (job.output / "taught.safetensors").exists()
    made = retrain(job, show=silent, should_stop=never)
    uncut = replace(job, output=tmp_path / "uncut")
    uncut.output.mkdir()
    (uncut.output / "plan.json").write_bytes((job.output / "plan.json").read_bytes())
    other = retrain(uncut, show=silent, should_stop=never)
    for suffix in (".safetensors", ".replay"):
        assert made.weights.with_suffix(suffix).read_bytes() == other.weights.with_suffix(suffix).read_bytes()
    assert made.verdict.to_json() == other.verdict.to_json()
    # Even the first layer has learnt, as far as a tenth of the rate lets it; means and deviations have not.
    model, tuned = read_model(made.weights), read_model(job.output / "last-layers" / "taught.safetensors")
    assert lower_sha256(tuned) == lower_sha256(parent) != lower_sha256(model)
    before, after = parent.network.state_dict(), model.network.state_dict()
    weight, mean = next(iter(before)), next(name for name in before if name.endswith("running_mean"))
    assert 0 < (after[weight] - before[weight]).abs().max() < 0.01
    assert torch.equal(after[mean], before[mean])
    # It is judged, and held later, by patches that its own layers encode.
    replay = read_replay(made.weights.with_suffix(".replay"))
    assert (replay.lower_sha256, len(replay)) == (lower_sha256(model), 24)
    assert len(made.verdict.places) == 8
    assert made.verdict.replayed is not None
    assert model.card["retrained"]["whole"]["steps"] == 8
    assert model.card["retrained"]["corrections"]["mining"] == "negative-feed"
    assert (job.output / "encoded-fed").is_dir()
    assert model.card["parents"][0]["name"] == "scannet-pcam"
    epochs = [one["epoch"] for one in read_run_log(made.weights.parent).epochs]
    assert epochs == list(range(len(epochs)))
    assert made.notes == ()


def test_without_time_the_lower_layers_stay_and_that_is_said(taught_results, noise_patches, tmp_path) -> None:
    whole = WholeSettings(whole_steps=100_000, whole_crops=64)
    job = Retraining(results=taught_results, output=tmp_path / "run", **{**SHORT, "budget_s": 10.0})
    job = replace(job, patches=noise_patches, whole=whole, settings=TuneTrainSettings(steps=1000, batch_size=8))
    made = retrain(job, show=silent, should_stop=never)
    assert "the time did not allow all layers to learn" in made.notes[-1]
    assert lower_sha256(read_model(made.weights)) == lower_sha256(load_detector("scannet-pcam"))
    # There was time, and it was stopped before it came to that.
    ended = []

    @contextmanager
    def last(title: str, _: str):
        yield lambda at, total: ended.append(True) if title == "Learning" and at == total else None

    short = replace(job, budget_s=900.0, whole=WholeSettings(whole_steps=8), output=tmp_path / "stopped")
    short = replace(short, settings=TuneTrainSettings(steps=4, batch_size=8))
    made = retrain(short, show=last, should_stop=lambda: bool(ended))
    assert json.loads((tmp_path / "stopped" / "plan.json").read_text())["whole_steps"] == 8
    assert "the time did not allow all layers to learn" in made.notes[-1]
    for label in "01":
        (tmp_path / "small" / label).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "small" / label / "one.png")
    with pytest.raises(TrainingError, match="expected earlier patches of 96 x 96 px"):
        retrain(replace(job, patches=tmp_path / "small"), show=silent, should_stop=never)


def test_what_was_learnt_is_kept_when_it_is_stopped(taught_results, tmp_path) -> None:
    job = Retraining(
        results=taught_results, output=tmp_path / "run", **{**SHORT, "settings": TuneTrainSettings(steps=500)}
    )

    @contextmanager
    def stopping(title: str, _: str):
        def progress(at: int, _: int) -> None:
            if title == "Learning" and at == 2:
                (tmp_path / "run" / STOP).touch()

        yield progress

    stopped = retrain(job, show=stopping, should_stop=never)
    assert read_model(stopped.weights).card["parents"]
    assert stopped.verdict.places
    assert (
        len(read_run_log(tmp_path / "run").epochs) < json.loads((tmp_path / "run" / "plan.json").read_text())["epochs"]
    )
    # Before there is anything to keep, it says so, and a later start goes on.
    with pytest.raises(ScanCancelledError):
        retrain(replace(job, output=tmp_path / "other"), show=silent, should_stop=lambda: True)
    assert read_run_log(tmp_path / "other").failed


def test_it_keeps_to_its_time(taught_results, tmp_path) -> None:
    job = Retraining(results=taught_results, output=tmp_path / "run", **{**SHORT, "budget_s": 4.0})
    job = replace(job, settings=TuneTrainSettings(steps=100_000, batch_size=8))
    begun = time.monotonic()
    retrain(job, show=silent, should_stop=never)
    # An endless run would not end at all: what is judged comes on top.
    assert time.monotonic() - begun < 60


def test_earlier_answers_hold_a_model(taught_results, tmp_path) -> None:
    parent = load_detector("scannet-pcam")
    features = np.random.default_rng(0).uniform(0, 2, (32, 96, 8, 8)).astype(np.float32)
    replay = Replay.of(features, np.arange(32) % 2, lower_sha256(parent), "noise")
    moved = {}
    for name, beside in (("held", replay), ("free", None)):
        weights = tmp_path / name / "scannet-pcam.safetensors"
        weights.parent.mkdir()
        save_model(weights, parent.network, parent.spec, parent.card)
        if beside is not None:
            write_replay(weights.with_suffix(".replay"), beside)
        how = replace(SHORT["corrections"], replay_weight=50.0)
        job = Retraining(
            results=taught_results, output=tmp_path / name / "run", **{**SHORT, "model": weights, "corrections": how}
        )
        made = retrain(job, show=silent, should_stop=never)
        held = read_replay(made.weights.with_suffix(".replay"))
        assert (held is None) == (made.verdict.replayed is None) == (name == "free")
        assert ("nothing keeps it from forgetting" in " ".join(made.notes)) == (name == "free")
        moved[name] = np.abs(answers(read_model(made.weights), replay) - answers(parent, replay)).mean()
    assert moved["held"] < moved["free"] / 2


def test_patches_that_another_model_encoded_are_not_replayed(tmp_path) -> None:
    features = np.zeros((2, 96, 8, 8), np.float32)
    write_replay(tmp_path / "own.replay", Replay.of(features, np.arange(2), "0" * 64, "noise"))
    replay, notes = replay_beside(tmp_path / "own.safetensors", load_detector("scannet-pcam"))
    assert replay is None
    assert "encoded by another model, and are not replayed" in notes[0]


def answers(model, replay) -> np.ndarray:
    with torch.no_grad():
        return TunedNetwork(model).eval()(replay.images(np.arange(len(replay)))).softmax(1)[:, 1].numpy().ravel()


def test_places_near_each_other_are_not_parted() -> None:
    corrected = places([(0, 0, 1), (80, 0, 1), (9000, 0, 1), (18000, 0, 1), (27000, 0, 1)])
    for seed in range(12):
        parted = part(corrected, SPEC, CorrectionSettings(held_out_share=0.25), seed=seed)
        held = {one.key for one in parted.held_out}
        assert held
        assert {"0", "1"} <= held or not {"0", "1"} & held
        assert len(parted.training) + len(parted.held_out) == 5


def test_few_places_are_all_learnt_from_and_no_class_is_lost() -> None:
    few = places([(0, 0, 1), (9000, 0, 0), (18000, 0, 0)])
    assert part(few, SPEC, CorrectionSettings(), seed=0).held_out == ()
    mixed = places([(9000 * k, 0, int(k < 8)) for k in range(16)])
    parted = part(mixed, SPEC, CorrectionSettings(held_out_share=0.25), seed=3)
    assert [sum(one.label == label for one in parted.held_out) for label in (0, 1)] == [2, 2]
    assert part(mixed, SPEC, CorrectionSettings(held_out_share=0.0), seed=3).held_out == ()


def test_where_nothing_is_held_out_it_is_said_what_that_takes() -> None:
    # Eight places, each of which a crop of the next one could show.
    corrected = places([(60 * step, 0, step % 2) for step in range(8)])
    how = CorrectionSettings()
    job = Retraining(results=(), model="scannet-pcam", corrections=how)

    def notes(job: Retraining) -> list[str]:
        parted = part(corrected, SPEC, job.corrections, seed=0)
        assert parted.held_out == ()
        # What is learnt is known without a slide.
        return Prepared.notes(SimpleNamespace(job=job, parted=parted, learnt=parted.training, detector=dark_model()))

    apart_mm = (SPEC.field_px + 5 * SPEC.stride_px) * SPEC.mpp / 1000
    assert f"some of them farther than {apart_mm:.1f} mm from the others; correct more" in notes(job)[0]
    by_slide = notes(replace(job, corrections=replace(how, held_out_by="slide")))
    assert "some of them on other slides; correct more" in by_slide[0]
    assert not any("held out" in line for line in notes(replace(job, corrections=replace(how, held_out_share=0.0))))


def places(spots) -> Corrected:
    slide = CohortSlide(name="one", path="one.tif", mpp=0.5, exhaustive=False)
    found = tuple(
        Place(str(number), 0, label, shapely.box(x, y, x + 50, y + 50)) for number, (x, y, label) in enumerate(spots)
    )
    return Corrected((slide,), ("f" * 64,), found, ((),), (0.5,), (), 0)


def test_what_is_said_twice_or_of_nothing_is_left_out_by_name(taught_results, result, tmp_path) -> None:
    (tmp_path / "no.metastasis").mkdir()
    found = gather((*taught_results[:1], taught_results[0], result, tmp_path / "no.metastasis"), SPEC)
    assert len(found) == 1
    assert len(found.places) == 8
    assert [line.partition(":")[0] for line in found.left_out] == [taught_results[0].name, result.name, "no.metastasis"]
    with pytest.raises(TrainingError, match=r"expected findings that were confirmed or rejected.*review them first"):
        gather((result,), SPEC)


def test_tumour_that_was_drawn_in_what_is_normal_stands() -> None:
    normal, tumour = shapely.box(0, 0, 100, 100), shapely.box(40, 40, 60, 60)
    corrected = places([])
    corrected = replace(corrected, places=(Place("n", 0, 0, normal), Place("t", 0, 1, tumour)))
    (slide,) = corrected.only(corrected.places)
    frame = ModelFrame(scale=1.0, mpp=0.5, size=Size(200, 200))
    assert slide.reference.over(frame, Region(0, 0, 100, 100)).sum() == 400
    assert slide.reference.normal.over(frame, Region(0, 0, 100, 100)).sum() == 10_000 - 400


def test_a_run_goes_on_as_it_was_begun(taught_results, noise_patches, tmp_path, monkeypatch) -> None:
    job = Retraining(
        results=taught_results,
        model="scannet-pcam",
        name="taught",
        budget_s=90.0,
        output=tmp_path,
        patches=noise_patches,
        settings=TuneTrainSettings(steps=9, learning_rate=2e-4),
        corrections=CorrectionSettings(mining="weights", hard=0.25, held_out_by="slide"),
        whole=WholeSettings(whole_steps=12),
    )
    # It fails at once, and what it was begun with is known all the same.
    monkeypatch.setattr("napari_metastasis.workflows.retrain.run.Prepared", broken)
    with pytest.raises(TrainingError, match="broken"):
        retrain(job, show=silent, should_stop=never)
    again = restart_run(look_at_run(tmp_path))
    asked = []

    def noticed(job: Retraining, **_) -> None:
        asked.append(job)
        raise ScanCancelledError("enough")

    monkeypatch.setattr("napari_metastasis.workflows.retrain.retrain", noticed)
    assert run(list(again.command(tmp_path))[3:]) == 130
    assert asked == [job]
    # What an earlier version noted has no settings.
    told = {name: value for name, value in again.to_json().items() if name in ("results", "model", "name", "budget_s")}
    assert RunJob.from_json({**told, "begun": 3}).settings == TuneTrainSettings()


def broken(*_):
    raise TrainingError("expected nothing, got broken; try again")


def test_crops_are_wrong_where_most_of_their_known_cells_are() -> None:
    parent = load_detector("scannet-pcam")
    rng = np.random.default_rng(4)
    features = rng.uniform(0, 2, (2, 4, 8, 8, 96)).astype(np.float16)
    labels = rng.integers(-1, 2, (2, 4, 1, 1))

    class Some:
        batches_per_epoch = 2

        def batch(self, number: int) -> PatchBatch:
            return PatchBatch.labelled(features[number], labels[number])

    wrong = answered_wrongly(parent, Some())
    network = TunedNetwork(parent).eval()
    for row, label in enumerate(labels.reshape(-1).tolist()):
        image = torch.from_numpy(features.reshape(8, 8, 8, 96)[row]).permute(2, 0, 1)[None].float()
        tumour = network(image).softmax(1)[0, parent.spec.tumour_class].item() > 0.5
        assert wrong[row] == (label >= 0 and tumour != bool(label))
    assert wrong.any()
    assert not wrong.all()


def test_versions_are_counted_on(monkeypatch) -> None:
    names = ["metastasis-lite", "metastasis-lite-v3", "other-v9"]
    monkeypatch.setattr(runs, "list_models", lambda: [ZooEntry(name, None, shipped=False) for name in names])
    assert runs.next_name("metastasis-lite") == "metastasis-lite-v4"
    assert runs.next_name("metastasis-lite-v3") == "metastasis-lite-v4"
    assert runs.next_name("scannet-pcam") == "scannet-pcam-v2"


def test_a_run_that_works_in_its_own_folder_finds_what_was_named_from_another(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(runs, "runs_folder", lambda: tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    # A slide that was opened by a relative path has such a result folder.
    folder, job = runs.begin_run(
        (Path("slide.metastasis"),), model="scannet-pcam", name="scannet-pcam", budget_s=60, patches=Path("earlier.zip")
    )
    assert (job.results, job.patches) == ((tmp_path / "slide.metastasis",), tmp_path / "earlier.zip")
    assert look_at_run(folder).job == job
    assert str(tmp_path / "slide.metastasis") in job.command(folder)


def test_patch_by_patch_models_are_refused(taught_results, tmp_path) -> None:
    spec = ModelSpec(name="foreign", architecture="resnet34", mpp=0.5, patch_px=96, stride_px=48)
    save_model(tmp_path / "foreign.safetensors", build_network("resnet34"), spec, {})
    job = Retraining(results=taught_results, model=tmp_path / "foreign.safetensors", output=tmp_path / "run")
    with pytest.raises(ModelError, match="fully convolutional"):
        retrain(job, show=silent, should_stop=never)
    assert not (tmp_path / "run").exists()


def test_the_command_keeps_a_better_model_by_its_name(taught_results, tmp_path, capsys) -> None:
    output = tmp_path / "run"
    command = ["retrain", str(taught_results[0].parent), "--model", "scannet-pcam", "--output", str(output), "--json"]
    command += ["--held-out-by", "slide", "--held-out-share", "0.5", "--steps", "24", "--batch-size", "8"]
    command += ["--learning-rate", "0.002", "--replay-weight", "8", "--name", "kept-by-name"]
    assert run([*command, "--budget", "15m"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"], told
    assert told["better"] > told["worse"]
    assert {"old_auc", "new_auc_ci95", "old_froc", "new_accuracy", "new_replayed_auc"} <= told.keys()
    assert load_detector("kept-by-name").card["parents"][0]["name"] == "scannet-pcam"
    # The same again: nothing is trained anew, and the same model may be kept again.
    assert run([*command, "--budget", "15m"]) == 0
    assert json.loads(capsys.readouterr().out)["better"] == told["better"]


def test_what_cannot_be_is_refused_in_one_line(result, tmp_path, capsys) -> None:
    for arguments, word in (
        ([str(result), "--budget", "5s"], "expected a --budget of 10 s to a week"),
        ([str(result), "--budget", "soon"], "'soon'"),
        ([str(tmp_path / "nothing"), "--budget", "1m"], "scan a slide first"),
        ([str(result), "--budget", "1m", "--output", str(tmp_path / "run")], "review them first"),
    ):
        assert run(["retrain", *arguments]) in (1, 2)
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert word in said.err


def test_patches_are_remembered_beside_a_model(tmp_path, capsys) -> None:
    parent = load_detector("scannet-pcam")
    weights = tmp_path / "own.safetensors"
    save_model(weights, parent.network, parent.spec, parent.card)
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "patches" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    command = ["models", "remember", str(weights), "--patches", str(tmp_path / "patches"), "--source", "noise"]
    assert run([*command, "--count", "6"]) == 0
    assert "6 patches" in capsys.readouterr().out
    replay = read_replay(weights.with_suffix(".replay"))
    assert (len(replay), replay.labels.tolist(), replay.source) == (6, [0, 1] * 3, "noise")
    assert replay.lower_sha256 == lower_sha256(parent)
    assert run([*command, "--count", "6"]) == 1
    assert "use --overwrite" in capsys.readouterr().err
    assert run(["models", "remember", "scannet-pcam", *command[3:]]) == 1
    assert "which ships with its patches" in capsys.readouterr().err
    assert run([*command, "--count", "20", "--overwrite"]) == 1
    assert "expected 10 patches of each class, got 4 normal and 4 tumour" in capsys.readouterr().err


def test_what_a_model_has_learnt_is_never_held_out_later() -> None:
    first = places([(9000 * k, 0, k % 2) for k in range(24)])
    how = CorrectionSettings(held_out_share=0.25)
    before = part(first, SPEC, how, seed=1)
    more = places([(9000 * k, 0, k % 2) for k in range(40)])
    learnt = {one.key for one in before.training}
    after = part(more, SPEC, how, seed=1, learnt=learnt)
    assert not learnt & {one.key for one in after.held_out}
    assert [sum(one.label == label for one in after.held_out) for label in (0, 1)] == [5, 5]


def test_places_are_near_along_both_axes_or_not_at_all() -> None:
    # A crop is a square: a place that is near along x and along y is seen, however far its corner is.
    reach = (SPEC.field_px + 5 * SPEC.stride_px) * SPEC.mpp / 0.5
    corrected = places([(0, 0, 1), (50 + 0.9 * reach, 50 + 0.9 * reach, 1), *((9000 * k, 0, 1) for k in range(1, 7))])
    for seed in range(8):
        held = {one.key for one in part(corrected, SPEC, CorrectionSettings(), seed=seed).held_out}
        assert {"0", "1"} <= held or not {"0", "1"} & held


def test_one_class_alone_is_no_verdict() -> None:
    answer = PlaceAnswer(Place("a", 0, 0, shapely.box(0, 0, 9, 9)), 0.9, 0.1, 2.0, 0.1, 0.9, 0.1, 0, 25, 25)
    verdict = Verdict((answer,) * 4, {}, None)
    assert verdict.is_better is None
    assert verdict.sentence.endswith("; not judged on tumour, of which none was held out")
    tumour = replace(answer, place=replace(answer.place, label=1))
    low, high = Estimate(0.7, 0.6, 0.8), Estimate(0.8, 0.7, 0.9)
    both = (answer, tumour)
    assert Verdict(both, {"accuracy": (low, high)}, None).is_better
    # It has forgotten what it knew; or more places are a little better, and fewer cells are right.
    assert not Verdict(both, {"accuracy": (low, high)}, (0.95, 0.90)).is_better
    assert not Verdict(both, {"accuracy": (high, low)}, None).is_better


def test_ignored_places_teach_nothing_and_are_told(taught_results, tmp_path) -> None:
    folder = tmp_path / taught_results[0].name
    shutil.copytree(taught_results[0], folder)
    shutil.copy(taught_results[0].parent / "slide-0.tif", tmp_path)
    store = CorrectionStore(folder)
    said = store.read()
    before = gather((folder,), SPEC)
    store.save(said.with_(Correction(key="i", label="ignore", shape_px=shapely.box(1100, 100, 1500, 400))))
    after = gather((folder,), SPEC)
    assert (len(before.places), len(after.places)) == (8, 7)
    assert after.left_out == (f"{folder.name}: 1 corrected place in what is to be ignored",)
    shas = {one.only(one.places)[0].known_sha256 for one in (before, after)}
    assert len(shas) == 2
    # A slide of which nothing is left is left out; the others are learnt from.
    store.save(said.with_(Correction(key="i", label="ignore", shape_px=shapely.box(0, 0, 1700, 1200))))
    both = gather((folder, taught_results[1]), SPEC)
    assert (len(both), len(both.places)) == (1, 8)
    assert both.left_out == (f"{folder.name}: 8 corrected places in what is to be ignored",)
    for by in ("place", "slide"):
        assert len(part(both, SPEC, CorrectionSettings(held_out_by=by), seed=0).training) >= 4


def test_much_to_learn_in_little_time_is_said_and_judged_by_some() -> None:
    pace = Pace(crop_s=0.68, step_s=1.0)
    how, settings = CorrectionSettings(), TuneTrainSettings()
    few = settle_plan(pace, 300, places=30, held_out=10, settings=settings, corrections=how, identity="")
    assert (few.crops, few.held_out_crops, few.epochs) == (99, 33, 6)
    many = settle_plan(pace, 300, places=750, held_out=250, settings=settings, corrections=how, identity="")
    assert many.crops == 99
    assert many.held_out_crops == 33
    # All layers learn in 0.8 of what is left: 300 - 0.68 (100 + 33) - 6 x 5 - 0.68 x 33 - 2 x 0.5 x 24.
    slow = replace(pace, whole_step_s=4.0, patch_s=0.5)
    more = WholeSettings(whole_steps=64)
    both = settle_plan(
        slow, 300, places=30, held_out=10, settings=settings, corrections=how, identity="", whole=more, remembered=24
    )
    assert (both.crops, both.epochs, both.whole_steps) == (99, 6, int(0.8 * 133.12 / 4))
    least = replace(slow, whole_step_s=0.8 * 133.12 / 7.5)
    assert not settle_plan(
        least, 300, places=30, held_out=10, settings=settings, corrections=how, identity="", whole=more, remembered=24
    ).whole_steps
    none = settle_plan(pace, 1, places=3, held_out=0, settings=settings, corrections=how, identity="")
    assert (none.crops, none.held_out_crops, none.epochs) == (20, 0, 1)
