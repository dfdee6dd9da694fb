"""A disk that takes no more while a model is trained: one line, and the run goes on from what was whole."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_metastasis.errors import StorageError, TrainingError
from napari_metastasis.models import load_model
from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
from napari_metastasis.settings import AugmentSettings, TrainSettings
from napari_metastasis.training.learning_curves import read_curves
from napari_metastasis.training.tasks.detect import DetectorTask, patch_spec
from napari_metastasis.training.train import TrainingRun, train


class Squares:
    """Light patches of class 0 and dark ones of class 1."""

    labels = np.arange(8, dtype=np.int64) % 2

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return np.full((96, 96, 3), 200 - 100 * (index % 2), np.uint8)


def train_squares(output: Path, epochs: int = 2) -> Path:
    settings = TrainSettings(epochs=epochs, batch_size=4, workers=0, device="cpu", precision="float32")
    return train(
        DetectorTask(patch_spec("tiny", "scannet-small", 0.972), None),
        TrainingRun(output, "squares", "CC0", progress=False),
        training=BalancedPatches(Squares(), 96, 4, 0),
        validation=AllPatches(Squares(), 96, 4),
        settings=settings,
        augment=AugmentSettings(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run of a disk that has room."""
    return train_squares(tmp_path_factory.mktemp("whole"))


def refused(output: Path, limit: int) -> str:
    """Train in a process whose files may not grow past a limit, and return what it is refused with.

    A write past it fails as on a full disk.
    """
    import resource  # of POSIX alone

    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            train_squares(output)
        except StorageError as error:
            told.put(str(error))

    process = context.Process(target=work)
    process.start()
    process.join(200)
    assert process.exitcode == 0
    assert not told.empty()
    return told.get()


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
@pytest.mark.parametrize(
    ("share", "name"),
    # Of the checkpoint: its middle, and its end, which torch writes last.
    [(0.5, "last.ckpt"), (0.9999, "last.ckpt")],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_and_leaves_nothing(whole, tmp_path, share, name) -> None:
    limit = round((whole.parent / "last.ckpt").stat().st_size * share)
    said = refused(tmp_path / "run", limit)
    assert "\n" not in said
    assert said.startswith("expected room to write ")
    assert said.endswith(", got a limit on file sizes; raise the limit, or choose another folder")
    assert name in said
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".") or path.suffix == ".ckpt"]
    # With room, the same run goes on.
    assert load_model(train_squares(tmp_path / "run")).weights_sha256 == load_model(whole).weights_sha256


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_weights_that_do_not_fit_leave_the_last_checkpoint(whole, tmp_path) -> None:
    run = tmp_path / "run"
    train_squares(run)
    for name in ("tiny.safetensors", "tiny.json"):
        (run / name).unlink()
    before = (run / "last.ckpt").read_bytes()
    assert "tiny.safetensors" in refused(run, len(before) // 4)
    assert (run / "last.ckpt").read_bytes() == before
    assert not (run / "tiny.safetensors").exists()
    assert load_model(train_squares(run)).weights_sha256 == load_model(whole).weights_sha256


@pytest.mark.parametrize("words", ["[enforce fail at inline_container.cc:672] . unexpected pos 73472 vs 73408",
                                   "PytorchStreamWriter failed writing file data/7: file write failed"])  # fmt: skip
def test_torchs_own_words_for_a_full_disk_are_understood(tmp_path, monkeypatch, words) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(StorageError, match=r"^expected to write .*last\.ckpt, got .*; check the disk and try again"):
        train_squares(tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        try:
            Path("/nowhere/at/all").read_bytes()
        except FileNotFoundError:
            raise RuntimeError("another fault") from None

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="another fault"):
        train_squares(tmp_path)


def test_a_checkpoint_that_was_damaged_is_named(whole, tmp_path) -> None:
    for name in ("settings.json", "last.ckpt"):
        shutil.copy(whole.parent / name, tmp_path)
    checkpoint = tmp_path / "last.ckpt"
    data = checkpoint.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"no checkpoint at all"):
        checkpoint.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"^expected the checkpoint of a run, got .*move it away") as raised:
            train_squares(tmp_path)
        assert "\n" not in str(raised.value)
        assert checkpoint.read_bytes() == damaged
    torch.save({"weights": 1}, checkpoint)
    with pytest.raises(TrainingError, match="got something else"):
        train_squares(tmp_path)


def test_a_line_of_the_log_that_was_torn_is_passed_over(tmp_path) -> None:
    log = tmp_path / "log" / "version_0" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("epoch,train_loss,validation_auc\n0,0.5,0.75\n1,0.4e,\n2")
    assert read_curves(tmp_path, ("train_loss", "validation_auc")) == {0: {"train_loss": 0.5, "validation_auc": 0.75}}
