"""Training refiners on slides: behind a finished model and end to end, killed and resumed, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scans import scan_with
from training_cohort import MPP, no_bar

from napari_metastasis.errors import ModelError, TrainingError
from napari_metastasis.geometry import Region
from napari_metastasis.models import load_model, load_scan_models
from napari_metastasis.settings import (
    GridSettings,
    MiningSettings,
    RefineSettings,
    SamplingSettings,
    ScanSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
    TissueSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.training.tasks.base import TaskModule
from napari_metastasis.training.tasks.detect import patch_spec
from napari_metastasis.training.tasks.encoders import FixedEncoder
from napari_metastasis.training.tasks.refine import RefinerTask, refiner_behind, refiner_with_encoder
from napari_metastasis.training.train import TrainingRun
from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches, StepProgress
from napari_metastasis.workflows.train.run import train_on_cohort

GRID = GridSettings(
    grid=3, grid_step=2, window_step=3, order="rows-columns", hidden=6, projected=5, residual=True, smoothing=3
)


def how(**train) -> CohortTraining:
    settings = {
        "epochs": 2, "batch_size": 4, "device": "cpu", "precision": "float32", "workers": 0, "optimiser": "adamw",
        "learning_rate": 0.01,
    }  # fmt: skip
    return CohortTraining(
        train=SpatialTrainSettings(**(settings | train)),
        augment=SpatialAugmentSettings(),
        sampling=SamplingSettings(patches_per_epoch=16, validation_patches=8),
        mining=MiningSettings(mining_threshold=0.0, mined_per_slide=20, sheet_patches=5),
        scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=320, dense_coefficient=1),
        tissue=TissueSettings(),
    )


def train(slides, job, output, settings=None):
    run, steps = TrainingRun(output, "squares", "CC0"), StepProgress(no_bar, lambda: False, no_bar)
    return train_on_cohort(slides, job, settings or how(), run, steps, LabelledPatches())


def job(**changes) -> RefinerTask:
    return refiner_behind(load_model("scannet-pcam"), "trained", replace(GRID, **changes), 2)


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    return train(cohort, job(), tmp_path_factory.mktemp("run"))


def test_a_refiner_comes_out_and_refines(cohort, finished, tmp_path):
    refiner = load_model(finished.weights, "refine")
    assert refiner.card["data"] == "squares"
    assert refiner.card["warning"].startswith("Not a medical device")
    assert refiner.card["settings"]["beta"] == 1.0
    assert finished.mined[0] > 0
    assert float(refiner.network.answer.weight.abs().max()) > 0, "it began with none"
    run = finished.weights.parent
    assert {"curves.csv", "curves.png", "last.ckpt", "settings.json", "slides.json"} <= {p.name for p in run.iterdir()}
    both = load_scan_models(finished.weights)
    with open_slide(cohort.slides[2].path) as slide:
        result = scan_with(
            slide,
            both.detector,
            tmp_path / "out",
            scan=replace(how().scan, dense_coefficient=2),
            refiner=both.others["refine"],
            refine=RefineSettings(refine=True),
        )
    assert result.finished
    assert json.loads((tmp_path / "out" / "run.json").read_text())["passes"][0]["model"]["name"] == "trained"


@pytest.fixture(scope="module")
def kept(cohort, tmp_path_factory):
    return train(cohort, job(), tmp_path_factory.mktemp("kept"), how(kept_crops=12))


def test_crops_are_encoded_once(cohort, kept, tmp_path, monkeypatch):
    refiner = load_model(kept.weights, "refine")
    assert refiner.card["settings"]["kept_crops"] == 12
    assert float(refiner.network.answer.weight.abs().max()) > 0
    assert np.load(kept.weights.parent / "encoded" / "features.npy", mmap_mode="r").shape == (12, 6, 6, 193)
    assert len(np.load(kept.weights.parent / "encoded-validation" / "labels.npy")) == 8
    # The run is finished, and nothing is encoded to see that, though nothing of it is left.
    again = tmp_path / "again"
    shutil.copytree(kept.weights.parent.parent, again)
    for folder in ("encoded", "encoded-validation"):
        shutil.rmtree(again / "spatial" / folder)
    monkeypatch.setattr(FixedEncoder, "forward", None)
    assert train(cohort, job(), again, how(kept_crops=12)).weights.parent == again / "spatial"
    # Another run is told so before anything of this one is encoded anew.
    before = (kept.weights.parent / "encoded" / "features.npy").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="another run"):
        train(cohort, job(hidden=7), kept.weights.parent.parent, how(kept_crops=12))
    assert (kept.weights.parent / "encoded" / "features.npy").stat().st_mtime_ns == before


def test_what_is_measured_does_not_depend_on_whether_crops_are_kept(cohort, tmp_path):
    cards = [
        load_model(train(cohort, job(), tmp_path / str(crops), how(kept_crops=crops, learning_rate=1e-6)).weights).card
        for crops in (0, 12)
    ]
    # Weights that hardly move: the encoder's own answers on the validation crops.
    assert cards[0]["validation_auc"] == pytest.approx(cards[1]["validation_auc"], abs=2e-3)
    assert 0 < cards[0]["validation_auc"] < 1


@pytest.mark.parametrize("crops", [0, 12])
def test_killed_and_resumed_training_gives_the_same_weights(cohort, finished, kept, tmp_path, monkeypatch, crops):
    finished = kept if crops else finished
    steps = []
    original = TaskModule.on_train_batch_end

    def die(self, *args):
        original(self, *args)
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(TaskModule, "on_train_batch_end", die)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(cohort, job(), tmp_path, how(kept_crops=crops))
    monkeypatch.undo()
    assert (tmp_path / "spatial" / "last.ckpt").exists()
    assert not list((tmp_path / "spatial").glob("*.safetensors"))
    resumed = load_model(train(cohort, job(), tmp_path, how(kept_crops=crops)).weights).network.state_dict()
    expected = load_model(finished.weights, "refine").network.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(resumed[name], tensor), name


def test_another_run_is_refused(cohort, finished):
    with pytest.raises(TrainingError, match="another run"):
        train(cohort, job(hidden=7), finished.weights.parent.parent)


def test_an_encoder_is_trained_along(cohort, tmp_path):
    spec = patch_spec("both-encoder", "scannet-small", MPP)
    grid = replace(GRID, order="raster", residual=False, smoothing=1, projected=0)
    learning = refiner_with_encoder(spec, "both", grid, None)
    settings = how(optimiser="rmsprop", learning_rate=0.001, epochs=1)
    done = train(cohort, learning, tmp_path, settings)
    both = load_scan_models(done.weights)
    assert both.detector.spec == spec
    assert both.others["refine"].spec.encoder_sha256 == both.detector.weights_sha256
    assert both.others["refine"].spec.order == "raster"
    assert done.mined == ()
    torch.manual_seed(0)
    again = train(cohort, learning, tmp_path / "again", settings)
    for name, tensor in both.detector.network.state_dict().items():
        other = load_scan_models(again.weights).detector.network.state_dict()[name]
        assert torch.equal(tensor, other), "the same seed, the same bytes"


def test_resnet34_is_trained_as_in_the_paper(cohort, tmp_path):
    grid = GridSettings(grid=2, window_step=2, hidden=4)
    learning = refiner_with_encoder(patch_spec("paper-encoder", "resnet34", MPP), "paper", grid, None)
    defaults = SpatialTrainSettings()
    assert (defaults.optimiser, defaults.learning_rate, grid.order, grid.residual) == ("rmsprop", 0.01, "raster", False)
    jitter = SpatialAugmentSettings()
    assert (jitter.jitter_hue, jitter.jitter_saturation, jitter.jitter_contrast) == (0.04, 0.25, 0.75)
    settings = replace(how(optimiser="rmsprop", epochs=1, batch_size=2), sampling=SamplingSettings(
        patches_per_epoch=4, validation_patches=2
    ))  # fmt: skip
    done = train(cohort, learning, tmp_path, settings)
    both = load_scan_models(done.weights)
    assert both.detector.network.architecture.feature_channels == 512
    assert both.others["refine"].spec.features == 513
    with open_slide(cohort.slides[0].path) as slide:
        result = scan_with(
            slide,
            both.detector,
            tmp_path / "out",
            scan=replace(how().scan, roi_px=384),
            region=Region(240, 200, 64, 64),
            refiner=both.others["refine"],
            refine=RefineSettings(refine=True),
        )
    assert result.finished
    assert np.isfinite(result.probabilities).any()


def test_grids_that_cannot_be_are_refused(cohort, tmp_path):
    with pytest.raises(ModelError, match="divides the grid of 3"):
        train(cohort, job(window_step=2), tmp_path)
