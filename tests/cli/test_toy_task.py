"""A task that this file alone knows is trained by its name, as every other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from imagecodecs import png_encode
from torch import nn

from napari_metastasis import tasks
from napari_metastasis.cli import main
from napari_metastasis.models import ModelSpec, save_model
from napari_metastasis.models.weights_file import read_weights
from napari_metastasis.training.tasks.base import TaskModule, TrainingTask
from napari_metastasis.workflows.train.declaration import TrainingDeclaration


class ToyModule(TaskModule):
    def configure_network(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0))

    def loss(self, batch, draw):
        varied = self.augment(batch[0].float() / 255, draw)
        return nn.functional.binary_cross_entropy_with_logits(self.network(varied), batch[2])

    def measure(self, batch):
        answers = self.averaged_network()(batch[0].float() / 255)
        return answers.sigmoid(), batch[1], nn.functional.binary_cross_entropy_with_logits(answers, batch[1].float())


@dataclass(frozen=True)
class Toy(TrainingTask):
    metrics = ("accuracy",)
    spec: ModelSpec

    def module(self, fitting):
        return ToyModule(self, fitting)

    def store(self, network, weights, card):
        save_model(weights, network, self.spec, card)


SPEC = ModelSpec(name="toy", architecture="none", mpp=1.0, patch_px=16, stride_px=16)
TOY = TrainingDeclaration(help="A toy.", prefix="toy", make=lambda chosen: Toy(replace(SPEC, name=chosen.name)))


def test_a_toy_is_trained_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "TASKS", (tasks.Task(name="toy", noun="toy", model="", training=f"{__name__}:TOY"),))
    for number in range(8):
        path = tmp_path / "patches" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_encode(np.full((16, 16, 3), 100 + 100 * (number % 2), np.uint8)))
    data = f"--patches {tmp_path}/patches --validation {tmp_path}/patches --output {tmp_path}/run"
    with pytest.raises(SystemExit, match="0"):
        main(f"train toy {data} --epochs 1 --batch-size 4 --device cpu --workers 0".split())
    weights = read_weights(tmp_path / "run" / "toy-run.safetensors")
    assert (weights.spec["name"], capsys.readouterr().out.strip()) == ("toy-run", str(weights.path))
