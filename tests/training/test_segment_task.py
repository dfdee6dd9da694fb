"""What a segmenter learns from a batch, and how: which weights move, what is varied, and what is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import InitialWeights, Segmenter, build_segmentation
from napari_metastasis.models.nets.segmentation import SegmentationArchitecture
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.settings import BoostingSettings, SegmenterSettings, TileAugmentSettings, TileTrainSettings
from napari_metastasis.training.augment import Augmenter, vary_more
from napari_metastasis.training.tasks.base import Fitting
from napari_metastasis.training.tasks.segment import SegmentModule, segment_task

NETWORK = SegmenterSettings(decoder="segnet", width=1 / 64, tile_px=32)
LITE = SegmenterSettings(encoder="efficientnet-lite0-enlarged", tile_px=32)


def module(settings=NETWORK, initial=None, boosting=None, **train) -> SegmentModule:
    torch.manual_seed(0)
    task = segment_task("tiny", settings, boosting or BoostingSettings(), initial)
    fitting = Fitting(TileTrainSettings(**train), TileAugmentSettings(), total_steps=10)
    return SegmentModule(task, fitting)


def batch(task, labels, attention=(0.0, 0.0)):
    """Two images of noise with these labels, each of one value or of one for every pixel."""
    crop = task.crop
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 3, crop.side_px, crop.side_px), generator=generator, dtype=torch.uint8)
    of_pixels = torch.stack([torch.as_tensor(each).expand(crop.tile_px, crop.tile_px) for each in labels])
    return image, of_pixels, of_pixels.float(), torch.tensor(attention)


def loss_of(trained, made) -> float:
    return trained.train().loss(made, 3).item()


def test_a_tile_with_too_little_tumour_counts_only_once_it_was_drawn_by_its_weight():
    trained = module()
    little = torch.zeros(32, 32, dtype=torch.int64)
    little[:4, :8] = 1
    assert little.float().mean() < 0.05
    alone = loss_of(trained, batch(trained.task, [little, torch.tensor(-1)]))
    assert alone == 0
    assert loss_of(trained, batch(trained.task, [little, torch.tensor(-1)], (1.0, 0.0))) > 0
    assert loss_of(trained, batch(trained.task, [torch.tensor(0), torch.tensor(-1)])) > 0
    lower = module(boosting=BoostingSettings(gamma=0.01))
    assert loss_of(lower, batch(lower.task, [little, torch.tensor(-1)])) > 0


class Bright(torch.nn.Module):
    """Answers tumour where the middle of an image is bright."""

    def forward(self, image):
        bright = 40 * image[..., 64:-64, 64:-64].mean(dim=1)
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("attention", [0.0, 50.0])
def test_labels_stay_on_what_they_speak_of_however_tiles_are_turned(attention):
    trained = module()
    trained.network = Bright()
    plain = {"stain": 0.0, "hue": 0.0, "background": 0.0, "exposure": 0.0, "gray_share": 0.0, "blur_share": 0.0}
    trained.augment = Augmenter(TileAugmentSettings(**plain, noise_share=0.0), 0, turn=trained.turns)
    labels = torch.zeros(32, 32, dtype=torch.int64)
    labels[:12, 20:] = 1
    image = torch.full((2, 3, 160, 160), 20, dtype=torch.uint8)
    image[:, :, 64:76, 84:96] = 235
    made = (image, labels.expand(2, 32, 32), labels.expand(2, 32, 32).float(), torch.full((2,), attention))
    losses = [trained.loss(made, draw).item() for draw in range(12)]
    # Turned by any angle, pixels at the edge are neither bright nor dark.
    assert max(losses) < (0.5 if attention else 1e-6)
    wrong = (image, made[1].flip(dims=(2,)), *made[2:])
    assert min(trained.loss(wrong, draw).item() for draw in range(12)) > 2


def test_the_same_step_gives_the_same_loss_and_another_step_another():
    trained = module()
    made = batch(trained.task, [torch.tensor(1), torch.tensor(0)], (2.0, 0.0))
    assert loss_of(trained, made) == loss_of(module(), made)
    assert loss_of(trained, made) != trained.train().loss(made, 4).item()


def detector_weights() -> InitialWeights:
    """Weights of a detector with the trunk that LITE has, and what lies behind it."""
    from napari_metastasis.models import load_detector

    return InitialWeights.of(load_detector("metastasis-lite"))


@pytest.fixture(scope="module")
def on_detector() -> SegmentModule:
    return module(LITE, detector_weights())


def test_a_pretrained_encoder_learns_slowly(on_detector):
    parts = {name.partition(".")[0] for name in on_detector._pretrained}
    assert parts == {"trunk", "cells"}
    on_detector.train()
    assert on_detector.network.dropout.training
    optimiser = on_detector.configure_optimizers()["optimizer"]
    peaks = {id(p): group["max_lr"] for group in optimiser.param_groups for p in group["params"]}
    rates = {name: peaks[id(p)] for name, p in on_detector.network.named_parameters()}
    assert rates["trunk.0.weight"] == rates["cells.0.weight"] == pytest.approx(2e-4)
    assert rates["score.weight"] == rates["upsampling.weight"] == pytest.approx(1e-3)


def test_a_network_that_begins_at_random_learns_all_over():
    trained = module(replace(NETWORK, batch_norm=True)).train()
    assert all(m.training for m in trained.network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    groups = trained.configure_optimizers()["optimizer"].param_groups
    assert {group["max_lr"] for group in groups} == {1e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(trained.network.parameters()))


def test_the_paper_s_optimiser_is_a_choice():
    optimiser = module(optimiser="sgd", weight_decay=5e-4).configure_optimizers()["optimizer"]
    assert isinstance(optimiser, torch.optim.SGD)
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 5e-4}


def test_what_is_measured_are_the_pixels_of_all_tiles_together():
    trained = module()
    trained.eval()
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(-2, 2, (2, 32, 32), generator=generator)
    # The second tile is all normal: means over tiles would be others.
    labels[1] = labels[1].clamp_max(0)
    answers = []
    for tile in range(2):
        made = batch(trained.task, labels)
        answer, truth, _ = trained.measure(tuple(each[tile : tile + 1] for each in made))
        assert len(truth) == int((labels[tile] >= 0).sum())
        trained.metrics.update(answer, truth)
        answers.append((answer, truth))
    measured = {name: float(value) for name, value in trained.metrics.compute().items()}
    answer, truth = (torch.cat(each).numpy() for each in zip(*answers, strict=True))
    assert measured["validation_f1"] == pytest.approx(f1_score(truth, answer), abs=1e-6)
    assert measured["validation_miou"] == pytest.approx(jaccard_score(truth, answer, average="macro"), abs=1e-6)
    assert tuple(trained.task.metrics) == ("miou", "f1")


def test_shares_are_of_all_pixels_of_a_tile(tmp_path):
    trained = module()
    weights = tmp_path / "tiny.safetensors"
    trained.task.store(trained.finished_network(), weights, {})
    crop = trained.task.crop
    images = np.random.default_rng(0).integers(0, 256, (1, crop.side_px, crop.side_px, 3), np.uint8)
    labels = np.full((1, 32, 32), -1, np.int64)
    labels[0, :8] = 1
    labels[0, 8:16] = 0
    ((tumour, wrong),) = trained.task.shares(weights, [PatchBatch.labelled(images, labels)], "cpu")
    ((_, turned),) = trained.task.shares(
        weights, [PatchBatch.labelled(images, np.where(labels < 0, -1, 1 - labels))], "cpu"
    )
    assert tumour == 0.25
    # Each known pixel, half of all, is wrong by one of the two.
    assert wrong + turned == 0.5


def test_stages_are_gentler_after_each_round_and_end_with_the_last():
    boosting = BoostingSettings(boosting_rounds=2, boosting_epochs=3, boosting_rate=0.5)
    task = segment_task("tiny", NETWORK, boosting)
    stages = task.stages(TileTrainSettings(epochs=7, seed=4), None)
    assert [(one.folder, one.round) for one in stages] == [("stage-0", 0), ("stage-1", 1), ("stage-2", 2)]
    assert [one.settings.epochs for one in stages] == [7, 3, 3]
    assert [one.settings.learning_rate for one in stages] == [1e-3, 5e-4, 5e-4]
    assert [one.settings.seed for one in stages] == [4, 5, 6]


@pytest.mark.parametrize(("asked", "built"), [(500, 504), (512, 516), (32, 36)])
def test_tiles_are_whole_blocks(asked, built):
    task = segment_task("tiny", replace(LITE, tile_px=asked), BoostingSettings())
    crop = task.crop
    assert crop.tile_px == built
    assert crop.side_px == built + 256


def test_a_network_that_cannot_be_is_refused_before_anything_else():
    with pytest.raises(ModelError, match="expected a segmentation decoder among"):
        segment_task("tiny", replace(NETWORK, decoder="nobody"), BoostingSettings())
    with pytest.raises(ModelError, match="choose encoder vgg16 for others"):
        segment_task("tiny", replace(LITE, decoder="u-net"), BoostingSettings())
    with pytest.raises(WeightsError, match="in metastasis-lite; choose another initial model"):
        segment_task("tiny", NETWORK, BoostingSettings(), detector_weights())


def test_normalisation_and_all_weights_follow_another_segmenter():
    network = build_segmentation(SegmentationArchitecture(decoder="segnet", width=1 / 64))
    spec = replace(segment_task("other", NETWORK, BoostingSettings()).spec, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    initial = InitialWeights.of(Segmenter(spec=spec, network=network, weights_sha256="ab", card={}))
    trained = module(initial=initial)
    assert trained.task.spec.mean == (0.1, 0.2, 0.3)
    assert trained.task.spec.std == (0.4, 0.5, 0.6)
    for name, tensor in network.state_dict().items():
        assert torch.equal(trained.network.state_dict()[name], tensor), name
    assert {name.partition(".")[0] for name in trained._pretrained} == {"down"}


def test_tiles_that_are_varied_more_turn_with_their_labels():
    """A bright wedge, labelled as tumour, is still where its label is."""
    rows, columns = np.mgrid[:64, :64]
    wedge = torch.from_numpy((columns > 40) & (rows < 32)).long()
    image = wedge.float().expand(20, 3, 64, 64) * 0.6 + 0.2
    labels = wedge[16:48, 16:48].expand(20, 32, 32)
    share = torch.tensor([0.0] * 4 + [1.0] * 16)
    varied, turned = vary_more(image, labels, share, torch.Generator().manual_seed(0))
    assert torch.equal(varied[:4], image[:4])
    assert torch.equal(turned[:4], labels[:4])
    assert turned.dtype == torch.int64
    assert set(turned.unique().tolist()) == {-1, 0, 1}
    for tile in range(4, 20):
        inner = varied[tile, 0, 16:48, 16:48]
        known = turned[tile] >= 0
        bright = inner > (inner[known].min() + inner[known].max()) / 2
        assert (bright == (turned[tile] == 1))[known].float().mean() > 0.96
    assert not all(torch.equal(turned[tile], labels[tile]) for tile in range(4, 20))
    again, _ = vary_more(image, labels, share, torch.Generator().manual_seed(0))
    assert torch.equal(varied, again)


def test_a_tile_is_varied_as_often_as_its_share_says():
    image, labels = torch.rand(2000, 3, 4, 4), torch.zeros(2000, 2, 2, dtype=torch.int64)
    varied, _ = vary_more(image, labels, torch.full((2000,), 2 / 3), torch.Generator().manual_seed(0))
    changed = (varied != image).flatten(1).any(dim=1).float().mean()
    assert changed == pytest.approx(2 / 3, abs=0.04)
