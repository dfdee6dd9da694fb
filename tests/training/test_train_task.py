"""Training stores a model that loads, resumes after a kill with the same weights, and refuses another run's folder."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.multiprocessing import start_processes

from napari_metastasis.errors import (
    DeviceError,
    ModelError,
    StorageError,
    TrainingError,
    UnknownModelError,
    WeightsError,
)
from napari_metastasis.models import build_network, load_initial, load_model
from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.slides.stains import mean_density
from napari_metastasis.stopping import stoppable
from napari_metastasis.training import distributed
from napari_metastasis.training.equivariance import orientations_are_tied
from napari_metastasis.training.initial_weights import load_initial_weights
from napari_metastasis.training.mosaic import Surroundings, in_gray, mosaic_logits, with_gap
from napari_metastasis.training.tasks import detect
from napari_metastasis.training.tasks.base import Fitting, _ema
from napari_metastasis.training.tasks.detect import DetectorModule, DetectorTask, patch_spec
from napari_metastasis.training.train import TrainingRun
from napari_metastasis.training.train import train as train_task


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


class SquaresOfTwoSizes(Squares):
    """Too small on the second device alone, which is seen where they are read."""

    def read(self, index: int) -> np.ndarray:
        side = 64 if os.environ.get("LOCAL_RANK") == "1" else 96
        return super().read(index)[:side, :side]


def train(output, *, initial=None, squares=Squares, **change):
    small = {"epochs": 2, "batch_size": 8, "workers": 0, "device": "cpu", "precision": "float32"}
    settings = TrainSettings(**(small | change))
    return train_task(
        DetectorTask(patch_spec("tiny", "scannet-small", 0.972), initial),
        TrainingRun(output, "squares", "CC0", progress=False),
        training=BalancedPatches(squares(32), 96, settings.batch_size, settings.seed),
        validation=AllPatches(Squares(8), 96, settings.batch_size),
        settings=settings,
        augment=AugmentSettings(),
    )


class Killed(BaseException):
    """Stands for the death of the process: nothing may catch it."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"))


def test_the_model_loads_with_its_card(finished):
    model = load_model(finished)
    assert model.spec.name == "tiny"
    assert model.card["data"] == "squares"
    assert 0 <= model.card["validation_auc"] <= 1
    assert model.card["licence"] == "CC0"
    # Four batches of eight: every square of the run.
    seen = np.concatenate([Squares(32).read(k).reshape(-1, 3) for k in range(32)])
    np.testing.assert_allclose(model.spec.stain_density, mean_density(seen), rtol=0.1)
    curves = (finished.parent / "curves.csv").read_text().splitlines()
    assert curves[0].startswith("epoch,train_loss,validation_loss")
    assert [line.split(",")[0] for line in curves[1:]] == ["0", "1"]
    assert all(all(line.split(",")) for line in curves[1:])
    assert all(0 <= float(line.split(",")[-1]) < 1 for line in curves[1:]), "the share of waiting for patches"
    assert (finished.parent / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_stored_network_answers_alike_in_all_orientations(finished):
    assert orientations_are_tied(load_model(finished).network)


def test_free_filters_are_trained_on_request(tmp_path):
    assert not orientations_are_tied(load_model(train(tmp_path, tie_orientations=False, epochs=1)).network)


def test_a_short_stage_forgets_what_it_began_with():
    """By hand: of nine steps at value 1 after a start at 0, a plain average with 0.998 would keep 98 % of the start."""
    update, averaged = _ema(0.998), [torch.zeros(3)]
    expected = 0.0
    for steps in range(1, 10):
        update(averaged, [torch.ones(3)], torch.tensor(steps))
        expected += (1 - (1 + steps) / (10 + steps)) * (1 - expected)
    torch.testing.assert_close(averaged[0], torch.full((3,), expected))
    assert expected > 0.99
    update(averaged, [torch.zeros(3)], torch.tensor(100_000))
    torch.testing.assert_close(averaged[0], torch.full((3,), expected * 0.998))


@pytest.fixture
def falling(monkeypatch):
    """Let the measured figure fall from epoch to epoch; return the weights that each epoch reached."""
    reached = []

    def fall(self):
        if self.trainer.state.fn == "validate":
            return original(self)
        reached.append({name: tensor.clone() for name, tensor in self.finished_network().state_dict().items()})
        self.log("validation_auc", 0.9 - 0.1 * self.current_epoch)
        self.log("validation_accuracy", 0.5)
        self.metrics.reset()
        return None

    original = DetectorModule.on_validation_epoch_end
    monkeypatch.setattr(DetectorModule, "on_validation_epoch_end", fall)
    return reached


def same(weights, state) -> bool:
    kept = load_model(weights).network.state_dict()
    return all(torch.equal(kept[name], tensor) for name, tensor in state.items())


def test_patience_keeps_the_best_epoch(tmp_path, falling):
    weights = train(tmp_path, patience=2, epochs=6)
    assert len(falling) == 3
    assert same(weights, falling[0])
    assert not same(weights, falling[1])


def test_a_run_that_patience_ended_is_not_trained_on(tmp_path, falling, monkeypatch):
    """It is killed after it had stopped, before its model was stored."""
    with monkeypatch.context() as patch:
        patch.setattr(detect, "save_model", lambda *_: None)
        train(tmp_path, patience=2, epochs=6)
    assert len(falling) == 3
    assert same(train(tmp_path, patience=2, epochs=6), falling[0])
    assert len(falling) == 3
    # What is measured once more is no epoch.
    assert [line.split(",")[0] for line in (tmp_path / "curves.csv").read_text().splitlines()[1:]] == ["0", "1", "2"]


def test_the_best_epoch_moves_with_the_run(tmp_path, falling, monkeypatch):
    """Of a run that was killed in its second epoch and moved, the first one stays the best."""
    original = DetectorModule.training_step

    def die_in_the_second_epoch(self, batch, batch_index):
        if self.current_epoch == 1:
            raise Killed
        return original(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "training_step", die_in_the_second_epoch)
        with pytest.raises(Killed):
            train(tmp_path / "here", patience=1, epochs=4)
    (tmp_path / "here").rename(tmp_path / "there")
    assert same(train(tmp_path / "there", patience=1, epochs=4), falling[0])
    assert len(falling) == 2


def test_curves_that_a_kill_prevented_are_drawn_by_the_next_call(finished, tmp_path):
    run = shutil.copytree(finished.parent, tmp_path / "run")
    before = (run / "curves.csv").read_bytes()
    (run / "curves.csv").unlink()
    train(run)
    assert (run / "curves.csv").read_bytes() == before


def test_what_was_refused_leaves_the_folder_to_the_remedy(finished, tmp_path):
    free = dataclasses.replace(load_initial(finished), state=build_network("scannet-small").state_dict())
    with pytest.raises(ModelError, match="--no-tie-orientations"):
        train(tmp_path, initial=free, epochs=1)
    assert train(tmp_path, initial=free, epochs=1, tie_orientations=False).exists()


def test_a_run_goes_on_with_more_workers(finished, tmp_path):
    run = shutil.copytree(finished.parent, tmp_path / "run")
    assert train(run, workers=3, prefetch=9) == run / finished.name


class Fixed(torch.nn.Module):
    """Answers the same of whatever it is shown."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, _):
        return self.logits[:, :, None, None]


@pytest.mark.parametrize(("tumour_class", "hard"), [(0, 0.0), (1, 0.0), (0, 1.0), (1, 1.0)])
def test_the_loss_is_the_cross_entropy_with_the_targets(tumour_class, hard, monkeypatch):
    """By hand, of patches: -t log p - (1 - t) log (1 - p), with the labels out of it; hard normal ones weigh more."""
    spec = dataclasses.replace(patch_spec("tiny", "scannet-small", 0.972), tumour_class=tumour_class)
    settings = TrainSettings(label_smoothing=0.0, device="cpu")
    module = DetectorTask(spec, hard_normals=hard).module(Fitting(settings, AugmentSettings(), 1))
    logits = torch.tensor([[0.3, -1.2], [0.7, 0.1], [-0.4, 0.2]])
    module.network = Fixed(logits)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    module._trainer = SimpleNamespace(world_size=1, global_rank=0, global_step=0)
    monkeypatch.setattr(DetectorModule, "global_step", 0)
    targets = torch.tensor([0.25, 0.9, 0.0])
    batch = (torch.zeros(3, 3, 96, 96, dtype=torch.uint8), torch.tensor([1, 0, 1]), targets)
    p = logits.softmax(1)[:, tumour_class]
    losses = -(targets * p.log() + (1 - targets) * (1 - p).log())
    if hard:
        first, last = losses[0].item(), losses[2].item()
        losses = losses * torch.tensor([first, (first + last) / 2, last]) / ((first + last) / 2)
    torch.testing.assert_close(module.training_step(batch, 0), losses.mean())


@pytest.mark.parametrize("tumour_class", [0, 1])
def test_the_loss_that_is_measured_is_that_of_the_labels(tumour_class, monkeypatch):
    """By hand, of two patches, the first of them tumour: -log p and -log (1 - p)."""
    spec = dataclasses.replace(patch_spec("tiny", "scannet-small", 0.972), tumour_class=tumour_class)
    module = DetectorTask(spec).module(Fitting(TrainSettings(device="cpu"), AugmentSettings(), 1))
    logits = torch.tensor([[0.3, -1.2], [0.7, 0.1]])
    module.average = Fixed(logits)
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    module.validation_step((torch.zeros(2, 3, 96, 96, dtype=torch.uint8), torch.tensor([1, 0]), torch.zeros(2)), 0)
    p = logits.softmax(1)[:, tumour_class]
    torch.testing.assert_close(logged["validation_loss"], -(p[0].log() + (1 - p[1]).log()) / 2)


def test_patches_of_slides_are_answered_in_their_surroundings():
    spec = patch_spec("tiny", "efficientnet-lite0-enlarged", 0.972)
    task = DetectorTask(spec, surroundings=Surroundings(margin_share=0.5, margin_cells=2, gap_cells=1))
    module = task.module(Fitting(TrainSettings(device="cpu"), AugmentSettings(), 1))
    module.network.eval()
    # Fresh weights answer everywhere alike.
    torch.nn.init.normal_(module.network.gather.weight)
    assert task.crop.side_px == 96 + 2 * 24
    wide = torch.randn(4, 3, 144, 144, generator=torch.Generator().manual_seed(1))
    inner = wide[:, :, 24:-24, 24:-24]
    with torch.no_grad():
        measured = module._answer(module.network, wide, None)
        assert torch.equal(measured, mosaic_logits(module.network, wide))
        assert torch.equal(
            module._answer(module.network, inner, None), mosaic_logits(module.network, in_gray(inner, 24))
        )
        drawn = [module._answer(module.network, wide, draw) for draw in range(8)]
        beside = mosaic_logits(module.network, with_gap(inner, 1, spec.stride_px))
    kinds = [(torch.equal(each, measured), torch.equal(each, beside)) for each in drawn]
    assert set(kinds) == {(True, False), (False, True)}


@pytest.fixture
def loaded_devices(monkeypatch):
    """Let the processes of devices begin with all that they need loaded, which takes each of them seconds.

    Where an error is told, below, they begin as the program's own do.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    multiprocessing.set_forkserver_preload(["napari_metastasis.training.train", DetectorTask.__module__])
    monkeypatch.setattr(distributed, "spawn", partial(start_processes, start_method="forkserver"))


@pytest.mark.usefixtures("loaded_devices")
def test_two_devices_share_a_run_and_it_resumes(finished, tmp_path):
    """Two processes of the CPU stand for two GPUs: one model comes out, of half as many steps."""
    first = train(tmp_path / "run", devices=2, patience=5)
    model = load_model(first)
    assert orientations_are_tied(model.network)
    assert 0 <= model.card["validation_auc"] <= 1
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert torch.load(finished.parent / "last.ckpt", weights_only=True)["global_step"] == 8
    assert len((tmp_path / "run" / "curves.csv").read_text().splitlines()) == 3
    # Killed after its last epoch: the same model is stored again.
    first.unlink()
    resumed = train(tmp_path / "run", devices=2, patience=5, workers=1)
    assert load_model(resumed).weights_sha256 == model.weights_sha256


def test_an_error_on_one_device_is_told_in_its_own_words(tmp_path):
    """The other one waits for it in vain, and is ended."""
    with pytest.raises(TrainingError, match=r"^expected patches of 96 x 96 px, got 64 x 64") as raised:
        train(tmp_path, devices=2, squares=SquaresOfTwoSizes, workers=0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("device", "there"), [("auto", 0), ("cuda:0", 0), ("mps", 1)])
def test_more_devices_than_there_are_leave_nothing(tmp_path, device, there):
    if torch.cuda.device_count() or torch.backends.mps.is_available():
        pytest.skip("this machine has GPUs")
    with pytest.raises(DeviceError, match=f"expected 2 GPUs for --devices 2, got {there}"):
        train(tmp_path / "run", devices=2, device=device)
    assert not (tmp_path / "run").exists()


def test_killed_training_resumes_to_the_same_weights(finished, tmp_path, monkeypatch):
    reached = []

    def die_in_the_second_epoch(self, batch, batch_index):
        if self.current_epoch == 1 and batch_index == 1:
            reached.append(self.global_step)
            raise Killed
        return original(self, batch, batch_index)

    original = DetectorModule.training_step
    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "training_step", die_in_the_second_epoch)
        with pytest.raises(Killed):
            train(tmp_path, workers=2)
    assert reached
    resumed = load_model(train(tmp_path)).network.state_dict()
    for name, tensor in load_model(finished).network.state_dict().items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM from another process")
def test_training_that_is_told_to_end_leaves_no_process_and_goes_on(finished, tmp_path, monkeypatch):
    def tell_in_the_second_epoch(self, batch, batch_index):
        if self.current_epoch == 1 and batch_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_index)

    original = DetectorModule.training_step
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "training_step", tell_in_the_second_epoch)
        with stoppable("") as stopped, pytest.raises(KeyboardInterrupt):
            train(tmp_path, workers=2)
    assert stopped.number == signal.SIGTERM
    assert not multiprocessing.active_children()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert load_model(train(tmp_path)).weights_sha256 == load_model(finished).weights_sha256


@pytest.mark.usefixtures("loaded_devices")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM from another process")
def test_the_devices_of_a_run_end_with_it(tmp_path):
    def tell():
        until = time.monotonic() + 100
        while not (tmp_path / "last.ckpt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    with stoppable("") as stopped:
        teller.start()
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, devices=2, epochs=1000)
    teller.join()
    assert stopped.number == signal.SIGTERM
    assert not multiprocessing.active_children()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] >= 0


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on(finished, tmp_path, monkeypatch):
    original, written = torch.save, []

    def fill_the_disk(checkpoint, file, *args, **kwargs):
        written.append(file)
        if len(written) == 2:
            file.write(b"cut sho")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(checkpoint, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_the_disk)
        with pytest.raises(StorageError, match="a full disk; free some space"):
            train(tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not list(tmp_path.glob(".*"))
    assert load_model(train(tmp_path)).weights_sha256 == load_model(finished).weights_sha256


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


@pytest.mark.parametrize("name", ["../mine", "a/b", ".mine", "settings", ""])
def test_names_that_cannot_name_the_models_files_are_refused_before_training(name):
    with pytest.raises(ModelError, match="choose another --name"):
        patch_spec(name, "scannet-small", 0.972)


def test_a_run_of_five_steps_has_a_schedule(tmp_path):
    """One fifth of five steps is one: torch's schedule divides by zero there."""
    assert train(tmp_path, epochs=1, batch_size=6).exists()


def test_too_few_patches_leave_nothing(tmp_path):
    with pytest.raises(TrainingError, match="lower the batch size"):
        train(tmp_path / "run", batch_size=64)
    assert not (tmp_path / "run").exists()


def test_training_begins_with_another_models_weights(finished, tmp_path, monkeypatch):
    begun = {}

    def remember(self):
        begun.update({name: tensor.clone() for name, tensor in self.finished_network().state_dict().items()})

    monkeypatch.setattr(DetectorModule, "on_train_start", remember)
    initial = load_initial(finished)
    weights = train(tmp_path, initial=initial, epochs=1)
    assert all(torch.equal(begun[name], tensor) for name, tensor in initial.state.items())
    assert load_model(weights).card["initial_sha256"] == initial.sha256


def test_initial_weights_of_another_architecture_are_refused(finished, tmp_path):
    other = dataclasses.replace(load_initial(finished), architecture="scannet-vgg16")
    with pytest.raises(ModelError, match="expected initial weights of scannet-small, got scannet-vgg16"):
        train(tmp_path, initial=other)


def test_initial_weights_with_free_filters_are_not_tied_unasked(finished, tmp_path):
    free = dataclasses.replace(load_initial(finished), state=build_network("scannet-small").state_dict())
    with pytest.raises(ModelError, match="--no-tie-orientations"):
        train(tmp_path, initial=free)


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
    original = DetectorModule.training_step

    def break_in_the_second_epoch(self, batch, batch_index):
        loss = original(self, batch, batch_index)
        return loss * float("nan") if self.current_epoch == 1 else loss

    monkeypatch.setattr(DetectorModule, "training_step", break_in_the_second_epoch)
    with pytest.raises(TrainingError, match="finite loss") as raised:
        train(tmp_path)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in stored["state_dict"].values() if t.is_floating_point())
    # The remedy, as it is worded.
    assert f"new --output, --initial {tmp_path / 'last.ckpt'} and with a lower --learning-rate" in str(raised.value)
    monkeypatch.undo()
    initial = load_initial_weights(tmp_path / "last.ckpt")
    weights = train(tmp_path / "new", initial=initial, learning_rate=1e-4, epochs=1)
    assert load_model(weights).card["initial"] == "tiny, unfinished"


def test_weights_that_the_last_step_of_an_epoch_broke_are_not_stored(tmp_path, monkeypatch):
    """The loss of every step is finite: none comes after it."""
    original = DetectorModule.on_train_batch_end

    def break_in_the_last_step(self, *args):
        original(self, *args)
        if self.current_epoch == 1 and self.global_step == 8:
            next(self.average.parameters()).data.view(-1)[0] = float("inf")

    monkeypatch.setattr(DetectorModule, "on_train_batch_end", break_in_the_last_step)
    with pytest.raises(TrainingError, match=r"finite weights, got others in module.* after step 8; train in a new"):
        train(tmp_path)
    assert not (tmp_path / "tiny.safetensors").exists()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_a_run_that_broke_in_its_first_epoch_has_nothing_to_begin_with(tmp_path, monkeypatch):
    monkeypatch.setattr(DetectorModule, "training_step", lambda self, *_: next(self.parameters()).sum() * np.inf)
    with pytest.raises(TrainingError, match="train in a new --output and with a lower --learning-rate"):
        train(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_training_begins_with_the_last_epoch_of_a_run(tmp_path, tied):
    """Of the same weights as the model that the run stored in the end."""
    stored = load_initial(train(tmp_path, epochs=1, tie_orientations=tied))
    initial = load_initial_weights(tmp_path / "last.ckpt")
    assert (initial.architecture, initial.mean, initial.std) == (stored.architecture, stored.mean, stored.std)
    assert list(initial.state) == list(stored.state)
    assert all(torch.equal(initial.state[name], tensor) for name, tensor in stored.state.items())


def test_checkpoints_that_training_cannot_begin_with(finished, tmp_path):
    last = shutil.copy(finished.parent / "last.ckpt", tmp_path)
    with pytest.raises(WeightsError, match=r"with its settings\.json beside it, got FileNotFound.*where the run wrote"):
        load_initial_weights(last)
    shutil.copy(finished.parent / "settings.json", tmp_path)
    assert load_initial_weights(last).architecture == "scannet-small"
    torch.save({"state_dict": {"average.module.other": torch.zeros(1)}}, last)
    with pytest.raises(WeightsError, match=r"expected the checkpoint of a scannet-small network, got Error.*choose"):
        load_initial_weights(last)
    (tmp_path / "last.ckpt").write_bytes(b"cut short")
    with pytest.raises(WeightsError, match="choose another file"):
        load_initial_weights(last)
    with pytest.raises(UnknownModelError):
        load_initial_weights(tmp_path / "gone.ckpt")
    assert load_initial_weights(finished).name == "tiny"
