"""A segmentation network begins with the encoder of a VGG16, a detector or another segmenter, or says why not."""

from __future__ import annotations

import json

import pytest
import torch

from napari_metastasis.errors import ModelError, WeightsError
from napari_metastasis.models import (
    InitialWeights,
    SegmenterSpec,
    begin_with,
    build_network,
    build_segmentation,
    load_initial,
    save_model,
)
from napari_metastasis.models.nets.segmentation import DECODERS, LITE_UNET, SegmentationArchitecture
from napari_metastasis.training.initial_weights import load_initial_weights

BOTH = ("segment", "detect")
LITE = "efficientnet-lite0-enlarged"


@pytest.fixture(scope="module")
def vgg16() -> InitialWeights:
    """Weights under torchvision's names, as of a file of ImageNet's."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in build_network("scannet-vgg16").state_dict().items()
        if name.startswith("features.")
    }
    return InitialWeights("vgg16", "ab", state, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def vgg(decoder="fcn-32s", **changes):
    return build_segmentation(SegmentationArchitecture(decoder=decoder, **changes))


def convolutions(network) -> list[torch.Tensor]:
    """Return the weights of an encoder's convolutions, from the image upwards."""
    part = network.features if hasattr(network, "features") else network.down
    return [module.weight for module in part.modules() if isinstance(module, torch.nn.Conv2d)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_vgg16_fits_every_decoder(vgg16, decoder):
    network = vgg(decoder)
    behind = {name: tensor.clone() for name, tensor in network.state_dict().items() if not network.place_of(name)}
    copied = begin_with(network, vgg16)
    assert len(copied) == 26
    expected = [tensor for name, tensor in vgg16.state.items() if name.endswith("weight")]
    assert all(torch.equal(own, tensor) for own, tensor in zip(convolutions(network), expected, strict=True))
    assert behind
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in behind.items())


def test_a_detector_lends_its_trunk():
    detector = build_network("scannet-vgg16")
    initial = InitialWeights("d", "ab", detector.state_dict(), architecture="scannet-vgg16")
    network = vgg("fcn-8s")
    assert begin_with(network, initial) == {name for name in detector.state_dict() if name.startswith("features.")}
    assert torch.equal(network.features[28].weight, detector.features[28].weight)


@pytest.mark.parametrize(
    ("encoder", "decoder", "lent", "last"),
    [(LITE, "fcn-32s", ("trunk.", "cells."), "cells.1.running_var"), (LITE_UNET, "u-net", ("trunk.",), "trunk.10")],
)
def test_the_shipped_detector_lends_trunk_and_cells(encoder, decoder, lent, last):
    network = build_segmentation(SegmentationArchitecture(encoder=encoder, decoder=decoder))
    initial = load_initial("metastasis-lite", tasks=BOTH)
    copied = begin_with(network, initial)
    assert copied == {name for name in network.state_dict() if name.startswith(lent)}
    last = max(name for name in copied if name.startswith(last) and name.endswith("running_var"))
    for name in ("trunk.0.weight", last):
        assert torch.equal(network.state_dict()[name], initial.state[name])
    assert not any(name.startswith(("gather", "classify")) for name in copied)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A stored FCN-32s, small, and its network."""
    torch.manual_seed(3)
    network = vgg(width=1 / 16)
    spec = SegmenterSpec(
        name="other", encoder="vgg16", decoder="fcn-32s", width=1 / 16, mpp=1.0, cell_px=4, mean=(0.4, 0.5, 0.6)
    )
    path = tmp_path_factory.mktemp("models") / "other.safetensors"
    save_model(path, network, spec, {})
    return path, network


def test_another_segmenter_lends_all_to_its_like_and_its_encoder_to_others(segmenter):
    path, stored = segmenter
    initial = load_initial(path, tasks=BOTH)
    assert initial.mean == (0.4, 0.5, 0.6)
    like, other = vgg(width=1 / 16), vgg("u-net", width=1 / 16)
    assert begin_with(like, initial) == set(stored.state_dict())
    assert torch.equal(like.scores[0].weight, stored.scores[0].weight)
    assert len(begin_with(other, initial)) == 26
    assert all(torch.equal(a, b) for a, b in zip(convolutions(other), convolutions(stored), strict=True))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("before", DECODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_decoder_begins_with_the_encoder_of_any_other(before, decoder, batch_norm):
    stored = vgg(before, width=1 / 64, batch_norm=batch_norm)
    initial = InitialWeights("other", "ab", stored.state_dict(), architecture=stored.architecture.name)
    network = vgg(decoder, width=1 / 64, batch_norm=batch_norm)
    copied = begin_with(network, initial)
    assert {each for each in network.state_dict() if network.place_of(each) == each} <= copied
    assert all(torch.equal(a, b) for a, b in zip(convolutions(network), convolutions(stored), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 1 / 8}, r"expected initial weights that fit the network \(features.0.weight: \[8, 3, 3, 3\]\)"),
        ({"batch_norm": True}, "no such layer"),
        ({"encoder": LITE}, "expected weights of every convolution, got none for trunk.0.weight in vgg16"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(vgg16, changes, words):
    with pytest.raises(WeightsError, match=words) as raised:
        begin_with(build_segmentation(SegmentationArchitecture(**changes)), vgg16)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("decoder", ["fcn-32s", "u-net"])
@pytest.mark.parametrize("name", ["x", "down.x.y.weight", "down.9.0.weight", "features.99.weight", "features.weight"])
def test_names_of_no_encoder_are_no_encoder(vgg16, decoder, name):
    """Passed over, or refused in one line; of a file that anybody may have written."""
    network, strange = vgg(decoder), dict(vgg16.state)
    strange[name] = torch.zeros(1)
    initial = InitialWeights("strange", "ab", strange)
    if (place := network.place_of(name)) is None:
        assert len(begin_with(network, initial)) == 26
    else:
        assert place == name
        with pytest.raises(WeightsError, match="no such layer"):
            begin_with(network, initial)


@pytest.mark.parametrize("name", ["scannet-pcam", "metastasis-lite"])
def test_a_detector_of_another_trunk_is_refused(name):
    with pytest.raises(WeightsError, match=f"in {name}; choose another initial model"):
        begin_with(vgg(), load_initial(name, tasks=BOTH))


def test_models_of_other_tasks_are_refused(segmenter):
    with pytest.raises(ModelError, match="expected a segmenter, got spatial-lite, which is a refiner"):
        load_initial("spatial-lite", tasks=BOTH)
    with pytest.raises(ModelError, match="expected a detector, got other, which is a segmenter"):
        load_initial(segmenter[0])


def test_the_checkpoint_of_another_run_lends_its_average(segmenter, tmp_path):
    path, network = segmenter
    spec = json.loads(path.with_suffix(".json").read_text())["spec"]
    (tmp_path / "settings.json").write_text(json.dumps({"spec": spec, "settings": {}}))
    state = {f"average.module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    initial = load_initial_weights(tmp_path / "last.ckpt", tasks=BOTH)
    assert begin_with(vgg(width=1 / 16), initial) == set(network.state_dict())
    with pytest.raises(WeightsError, match=r"expected the checkpoint of a run with its settings\.json"):
        load_initial_weights(tmp_path / "last.ckpt")
