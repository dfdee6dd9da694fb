"""Training segmenters on slides: they learn, boost what they get wrong, go on after a kill, and refuse another run."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_cohort import no_bar

from napari_metastasis.errors import ScanCancelledError, StorageError, TrainingError
from napari_metastasis.models import load_model, read_model
from napari_metastasis.settings import (
    BoostingSettings,
    MiningSettings,
    ScanSettings,
    SegmenterSettings,
    TileAugmentSettings,
    TileSamplingSettings,
    TileTrainSettings,
    TissueSettings,
)
from napari_metastasis.training.tasks.base import TaskModule
from napari_metastasis.training.tasks.segment import SegmentTask, segment_task
from napari_metastasis.training.train import TrainingRun
from napari_metastasis.workflows.train import boost
from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches, StepProgress
from napari_metastasis.workflows.train.run import train_on_cohort

#: Coarse, so that a tile of 32 px shows much of a slide; SegNet, for it reads least around a tile.
NETWORK = SegmenterSettings(decoder="segnet", width=1 / 64, batch_norm=True, tile_px=32, mpp=1.944)
BOOSTING = BoostingSettings(boosting_rounds=1, boosting_epochs=1, pool_tiles=10)


def how(**train) -> CohortTraining:
    settings = {
        "epochs": 2, "batch_size": 4, "device": "cpu", "precision": "float32", "workers": 0, "learning_rate": 0.02,
        "ema_decay": 0.5,
    }  # fmt: skip
    return CohortTraining(
        train=TileTrainSettings(**(settings | train)),
        augment=TileAugmentSettings(blur_share=0.0, stain=0.1, exposure=0.1, gray_share=0.0),
        sampling=TileSamplingSettings(patches_per_epoch=40, validation_patches=8),
        mining=MiningSettings(),
        scan=ScanSettings(device="cpu"),
        tissue=TissueSettings(),
    )


def task(network=NETWORK, boosting=BOOSTING) -> SegmentTask:
    return segment_task("tiny", network, boosting)


def train(slides, output, job=None, settings=None, should_stop=lambda: False):
    run, steps = TrainingRun(output, "squares", "CC0", progress=False), StepProgress(no_bar, should_stop, no_bar)
    return train_on_cohort(slides, job or task(), settings or how(), run, steps, LabelledPatches())


def curves(folder) -> list[dict[str, str]]:
    with (folder / "curves.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def tiles(folder) -> np.ndarray:
    return np.loadtxt(folder / "tiles.csv", delimiter=",", skiprows=1)


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    return train(cohort, tmp_path_factory.mktemp("run"))


def test_training_ends_better_than_it_began(finished):
    run = finished.weights.parent
    first, *_, last = curves(run / "stage-0") + curves(run / "stage-1")
    assert float(last["train_loss"]) < float(first["train_loss"])
    assert float(last["validation_miou"]) > max(0.6, float(first["validation_miou"]))
    assert float(last["validation_f1"]) > 0.6


def test_a_segmenter_comes_out_with_its_card(finished):
    model = load_model(finished.weights, "segment")
    assert model.spec == replace(task().spec, stain_density=model.spec.stain_density)
    assert all(0 < density < 2 for density in model.spec.stain_density)
    assert model.card["data"] == "squares"
    assert {"validation_miou", "validation_f1"} <= set(model.card)
    assert model.card["boosted"] == list(finished.mined)
    stage = read_model(finished.weights.parent / "stage-1" / "tiny.safetensors")
    assert model.weights_sha256 == stage.weights_sha256
    first = read_model(finished.weights.parent / "stage-0" / "tiny.safetensors")
    assert (first.card["initial"], stage.card["initial_sha256"]) == (None, first.weights_sha256)


def test_tiles_that_the_model_gets_wrong_weigh_more(finished):
    number, tumour, error, weight = tiles(finished.weights.parent / "boosting-1").T
    assert number.tolist() == list(range(10))
    assert {0} < {round(share, 1) for share in tumour}, "tiles of both classes"
    first = (tumour >= 0.05) | (tumour == 0)
    assert weight.tolist() == (first + 1.0 * (error >= 0.05)).tolist()
    assert finished.mined == (int((error >= 0.05).sum()),)
    assert finished.mined[0] > 0
    assert (finished.noun, finished.folder) == ("tiles with errors", "boosting")


class Killed(BaseException):
    """Stands for the death of the process: nothing may catch it."""


@pytest.mark.parametrize("victim", ["a step", "the end of a round"])
def test_a_killed_run_goes_on_to_the_same_weights(cohort, finished, tmp_path, monkeypatch, victim):
    steps = []
    original, write = TaskModule.on_train_batch_end, boost.write_slides

    def die(self, *args):
        original(self, *args)
        steps.append(1)
        if len(steps) == 14 and victim == "a step":
            raise Killed

    def die_later(*args):
        write(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "on_train_batch_end", die)
        if victim != "a step":
            patch.setattr(boost, "write_slides", die_later)
        with pytest.raises(Killed):
            train(cohort, tmp_path)
    assert not (tmp_path / "stage-1").exists()
    resumed = read_model(train(cohort, tmp_path).weights)
    expected = read_model(finished.weights).network.state_dict()
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(expected[name], tensor), name


def test_what_was_finished_is_not_trained_again(cohort, finished, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(finished.weights.parent, again)
    monkeypatch.setattr(TaskModule, "training_step", None)
    monkeypatch.setattr(SegmentTask, "shares", None)
    assert read_model(train(cohort, again).weights).weights_sha256 == read_model(finished.weights).weights_sha256
    # A record that tells of other settings, and one that is damaged.
    record, listed = again / "boosting-1" / "boosting.json", again / "boosting-1" / "tiles.csv"
    with pytest.raises(TrainingError, match="expected boosted tiles of this run"):
        train(cohort, again, task(boosting=replace(BOOSTING, chi=2.0)))
    assert json.loads(record.read_text())["chi"] == 1.0
    listed.write_text(listed.read_text().replace("\n3,", "\nnan,nan,nan,nan\n3,"))
    with pytest.raises(StorageError, match="expected the shares of 10 tiles"):
        train(cohort, again)


@pytest.mark.parametrize(
    "change", [{"tile_px": 64}, {"focusing": False}, {"width": 1 / 32}, {"decoder": "u-net"}, {"mpp": 1.5}]
)
def test_another_run_is_not_overwritten(cohort, finished, change):
    with pytest.raises(TrainingError, match="another run"):
        train(cohort, finished.weights.parent, task(replace(NETWORK, **change)))


def test_more_rounds_go_on_from_the_last(cohort, finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished.weights.parent, again)
    run = train(cohort, again, task(boosting=replace(BOOSTING, boosting_rounds=2)))
    assert run.mined[0] == finished.mined[0]
    before, after = (tiles(again / f"boosting-{number}") for number in (1, 2))
    np.testing.assert_array_equal(before[:, 1], after[:, 1])
    np.testing.assert_array_equal(after[:, 3], before[:, 3] + (after[:, 2] >= 0.05))
    first = read_model(finished.weights.parent / "stage-1" / "tiny.safetensors").weights_sha256
    assert read_model(again / "stage-1" / "tiny.safetensors").weights_sha256 == first
    assert read_model(run.weights).weights_sha256 != first


def test_fewer_rounds_than_a_finished_run_has_are_refused(cohort, finished):
    with pytest.raises(TrainingError, match="expected boosting rounds of at least 1"):
        train(cohort, finished.weights.parent, task(boosting=replace(BOOSTING, boosting_rounds=0)))


def test_a_round_that_is_stopped_begins_anew(cohort, finished, tmp_path):
    shutil.copytree(finished.weights.parent / "stage-0", tmp_path / "stage-0")
    asked = []

    def stop():
        asked.append(1)
        # While slides are looked at, and of the first tiles, not.
        return len(asked) > 12

    with pytest.raises(ScanCancelledError, match="to answer every tile"):
        train(cohort, tmp_path, should_stop=stop)
    assert not (tmp_path / "boosting-1" / "tiles.csv").exists()


def test_where_nothing_is_wrong_the_first_stage_is_the_model(cohort, finished, tmp_path, caplog):
    shutil.copytree(finished.weights.parent / "stage-0", tmp_path / "stage-0")
    # Errors that raise no weight are as good as none.
    run = train(cohort, tmp_path, task(boosting=replace(BOOSTING, chi=0.0)))
    first = read_model(tmp_path / "stage-0" / "tiny.safetensors")
    assert read_model(run.weights).weights_sha256 == first.weights_sha256
    assert "nothing was boosted in round 1: the model of the stage before is the run's" in caplog.text
    assert read_model(run.weights).card["boosted"] == [0]
