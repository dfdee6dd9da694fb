"""A network in two parts, and what it is not to forget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import Detector, ModelSpec, build_network, load_detector
from napari_metastasis.models.replay import Replay, read_replay, write_replay
from napari_metastasis.models.tuning import LowerLayers, TunedNetwork, lower_sha256


@pytest.fixture(params=["scannet-pcam", "metastasis-lite"])
def detector(request) -> Detector:
    return load_detector(request.param)


def raw_images(detector: Detector) -> torch.Tensor:
    side = detector.spec.field_px + detector.spec.stride_px
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(3)).float()


def features_of(detector: Detector, images: torch.Tensor) -> torch.Tensor:
    return LowerLayers(detector)(images).permute(0, 3, 1, 2)


def test_both_parts_answer_what_the_network_answers(detector: Detector) -> None:
    images = raw_images(detector)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (detector.spec.mean, detector.spec.std))
    with torch.no_grad():
        whole = detector.network((images / 255 - mean) / std)
        parts = TunedNetwork(detector).eval()(features_of(detector, images))
    assert parts.shape == whole.shape == (2, 2, 2, 2)
    assert torch.allclose(parts, whole, atol=1e-4)


def test_a_step_changes_the_upper_layers_alone(detector: Detector) -> None:
    tuned = TunedNetwork(detector).train()
    before = {name: tensor.clone() for name, tensor in tuned.network.state_dict().items()}
    optimiser = torch.optim.SGD([each for each in tuned.parameters() if each.requires_grad], lr=0.1)
    tuned(features_of(detector, raw_images(detector))).square().mean().backward()
    optimiser.step()
    after = tuned.network.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert all(torch.equal(each, detector.network.state_dict()[name]) for name, each in before.items())
    child = Detector(spec=detector.spec, network=tuned.network, weights_sha256="c" * 64, card={})
    assert lower_sha256(child) == lower_sha256(detector)


def test_other_lower_layers_have_another_hash(detector: Detector) -> None:
    other = TunedNetwork(detector).network
    with torch.no_grad():
        next(iter(other.parameters())).add_(1e-3)
    assert lower_sha256(Detector(detector.spec, other, "c" * 64, {})) != lower_sha256(detector)


def test_patch_by_patch_networks_are_refused() -> None:
    spec = ModelSpec(name="foreign", architecture="resnet34", mpp=0.5, patch_px=96, stride_px=48)
    foreign = Detector(spec, build_network("resnet34"), "f" * 64, {})
    for part in (LowerLayers, TunedNetwork, lower_sha256):
        with pytest.raises(ModelError, match="fully convolutional detector to retrain, got foreign"):
            part(foreign)


@pytest.fixture
def replay() -> Replay:
    generator = np.random.default_rng(1)
    features = generator.normal(0, 5, (6, 3, 4, 4)).astype(np.float32)
    return Replay.of(features, np.array([0, 1, 0, 1, 1, 0]), "a" * 64, "patches of the tests")


def test_patches_come_back_within_half_a_step(replay, tmp_path) -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(0, 5, (6, 3, 4, 4)).astype(np.float32)
    write_replay(tmp_path / "one.replay", replay)
    found = read_replay(tmp_path / "one.replay")
    assert (found.lower_sha256, found.source, found.labels.tolist()) == (
        "a" * 64,
        "patches of the tests",
        [0, 1, 0, 1, 1, 0],
    )
    images = found.images(np.array([4, 1]))
    half = found.scale[:, None, None] * 0.501
    assert (np.abs(images.numpy() - features[[4, 1]]) <= half).all()


def test_patches_lie_in_memory_as_when_they_are_read(replay, tmp_path) -> None:
    # A run that encodes them itself learns the same as one that finds them encoded.
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(replay.images(np.arange(6)).numpy(), 1, -1)), -1, 1)
    made = Replay.of(last, replay.labels, replay.lower_sha256, replay.source)
    write_replay(tmp_path / "one.replay", made)
    found = read_replay(tmp_path / "one.replay")
    rows = np.array([3, 0, 3])
    assert torch.equal(made.images(rows), found.images(rows))
    assert made.images(rows).stride() == found.images(rows).stride()


def test_none_and_damaged_ones_are_told_apart(replay, tmp_path) -> None:
    path = tmp_path / "one.replay"
    assert read_replay(path) is None
    write_replay(path, replay)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-7], whole.replace(b"labels", b"ladels"), b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"one\.replay; fetch the model again"):
            read_replay(path)
