"""Training stores a model that loads, resumes after a kill with the same weights, and refuses another run's folder."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from napari_metastasis.errors import ModelError, StorageError, TrainingError
from napari_metastasis.models import load_model
from napari_metastasis.settings import TrainSettings
from napari_metastasis.training import loop
from napari_metastasis.training.loop import patch_spec, train_scannet


class Squares:
    """Light patches of class 0 and dark ones of class 1: easy enough for a few steps."""

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count, dtype=np.int64) % 2

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        generator = np.random.default_rng(index)
        base = 200 if self.labels[index] == 0 else 90
        return generator.integers(base - 30, base + 30, (96, 96, 3)).astype(np.uint8)


def train(output, *, initial=None, **change):
    settings = TrainSettings(**{"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32", **change})
    return train_scannet(
        patch_spec("tiny", "scannet-small", 0.972),
        patches=Squares(32),
        validation=Squares(8),
        output=output,
        settings=settings,
        data_description="squares",
        initial=initial,
        progress=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"))


def test_the_model_loads_with_its_card(finished):
    model = load_model(finished)
    assert model.spec.name == "tiny"
    assert model.card["data"] == "squares"
    assert 0 <= model.card["validation_auc"] <= 1
    assert (finished.parent / "log" / "version_0" / "metrics.csv").exists()


class Killed(BaseException):
    """Stands for the death of the process: nothing may catch it."""


def test_killed_training_resumes_to_the_same_weights(finished, tmp_path, monkeypatch):
    reached = []

    def die_in_the_second_epoch(self, batch, batch_index):
        if self.current_epoch == 1 and batch_index == 1:
            reached.append(self.global_step)
            raise Killed
        return original(self, batch, batch_index)

    original = loop.PatchClassifier.training_step
    with monkeypatch.context() as patch:
        patch.setattr(loop.PatchClassifier, "training_step", die_in_the_second_epoch)
        with pytest.raises(Killed):
            train(tmp_path)
    assert reached
    resumed = load_model(train(tmp_path)).network.state_dict()
    for name, tensor in load_model(finished).network.state_dict().items():
        assert torch.equal(resumed[name], tensor), name


def test_a_run_that_had_ended_gives_its_model_again(finished, tmp_path):
    for name in ("settings.json", "last.ckpt"):
        shutil.copy(finished.parent / name, tmp_path)
    again = load_model(train(tmp_path))
    assert again.weights_sha256 == load_model(finished).weights_sha256
    assert again.card == load_model(finished).card


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StorageError, match="something else of that name"):
        train(tmp_path / "notes.txt")


def test_too_few_patches_leave_nothing(tmp_path):
    with pytest.raises(TrainingError, match="lower the batch size"):
        train(tmp_path / "run", batch_size=64)
    assert not (tmp_path / "run").exists()


def test_training_begins_with_another_models_weights(finished, tmp_path, monkeypatch):
    begun = {}

    def remember(self):
        begun.update({name: tensor.clone() for name, tensor in self.network.state_dict().items()})

    monkeypatch.setattr(loop.PatchClassifier, "on_train_start", remember)
    initial = load_model(finished)
    weights = train(tmp_path, initial=initial, epochs=1)
    assert all(torch.equal(begun[name], tensor) for name, tensor in initial.network.state_dict().items())
    assert load_model(weights).card["initial_sha256"] == initial.weights_sha256


def test_initial_weights_of_another_architecture_are_refused(finished, tmp_path):
    other = dataclasses.replace(load_model(finished).spec, architecture="scannet-vgg16")
    with pytest.raises(ModelError, match="expected initial weights of scannet-small, got scannet-vgg16"):
        train(tmp_path, initial=dataclasses.replace(load_model(finished), spec=other))


def test_another_run_in_the_folder_is_not_overwritten(finished, monkeypatch):
    with pytest.raises(TrainingError, match="another run"):
        train(finished.parent, learning_rate=1e-3)
    original = Squares.read
    monkeypatch.setattr(Squares, "read", lambda self, index: 255 - original(self, index))
    with pytest.raises(TrainingError, match="the same settings and patches"):
        train(finished.parent)


def test_patches_of_another_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Squares, "read", lambda *_: np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(TrainingError, match=r"^expected patches of 96 x 96 px, got 64 x 64") as raised:
        train(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_broken_loss_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    original = loop.PatchClassifier.training_step

    def break_in_the_second_epoch(self, batch, batch_index):
        loss = original(self, batch, batch_index)
        return loss * float("nan") if self.current_epoch == 1 else loss

    monkeypatch.setattr(loop.PatchClassifier, "training_step", break_in_the_second_epoch)
    with pytest.raises(TrainingError, match="finite loss"):
        train(tmp_path)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in stored["state_dict"].values() if t.is_floating_point())


def test_each_class_is_drawn_equally_often_and_every_patch_of_the_rare_one_comes():
    labels = np.array([0] * 90 + [1] * 10)
    sampler = loop._BalancedSampler(labels, seed=1)
    first = list(sampler)
    assert len(first) == 100
    assert sum(labels[first]) == 50
    assert set(np.flatnonzero(labels)) <= set(first)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
