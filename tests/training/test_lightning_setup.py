"""How Lightning is set up: the number format that a machine is fast in, and checkpoints."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from napari_metastasis.settings import TrainSettings
from napari_metastasis.storage import atomic_write
from napari_metastasis.training import lightning_setup as trainer


@pytest.fixture
def machine(monkeypatch):
    """A machine of these GPUs, by compute capability, and of a processor with or without bfloat16."""

    def have(*gpus, bfloat16=False, amx=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: gpus[int(name.partition(":")[2])])
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)

    return have


def precision(**settings):
    return trainer.training_precision(TrainSettings(**settings))


@pytest.mark.parametrize(
    ("gpus", "processor", "settings", "expected"),
    [
        # AVX-512 alone, which oneDNN takes for enough.
        ((), {}, {}, "32-true"),
        ((), {"bfloat16": True}, {}, "bf16-mixed"),
        ((), {"amx": True}, {"device": "cpu", "devices": 2}, "bf16-mixed"),
        (((7, 5),), {"bfloat16": True}, {}, "32-true"),
        (((8, 0),), {}, {}, "bf16-mixed"),
        (((9, 0),), {}, {"device": "cpu"}, "32-true"),
        # Of those that are trained on.
        (((8, 6), (7, 0)), {}, {}, "bf16-mixed"),
        (((8, 6), (7, 0)), {}, {"devices": 2}, "32-true"),
        (((8, 6), (7, 0)), {}, {"device": "cuda:1"}, "32-true"),
        (((7, 0),), {}, {"precision": "bfloat16"}, "bf16-mixed"),
    ],
)
def test_bfloat16_is_taken_unasked_only_where_it_is_computed_in_hardware(machine, gpus, processor, settings, expected):
    machine(*gpus, **processor)
    assert precision(**settings) == expected


def test_checkpoints_are_written_beside_the_one_that_they_replace(tmp_path, monkeypatch):
    written = []

    @contextmanager
    def noted(path):
        written.append(path)
        with atomic_write(path) as file:
            yield file

    monkeypatch.setattr(trainer, "atomic_write", noted)
    made = trainer.make_trainer(tmp_path, TrainSettings(device="cpu"), "validation_auc", progress=False)
    made.strategy.checkpoint_io.save_checkpoint({"epoch": 3}, tmp_path / "last.ckpt")
    assert written == [tmp_path / "last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 3}
