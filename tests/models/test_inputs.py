"""What networks read of a slide: the same in training and in scans, and what the stain room makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_metastasis.errors import ModelError
from napari_metastasis.models import (
    InitialWeights,
    ModelSpec,
    NetworkInput,
    SegmenterSpec,
    begin_with,
    build_fully_convolutional,
    contract_of_input,
    input_of,
)
from napari_metastasis.models.dense import DenseNetwork
from napari_metastasis.models.nets.architectures import build_segmentation
from napari_metastasis.models.segmenter import Segmenter
from napari_metastasis.scanning.engines.openvino import OpenVinoEngine, has_openvino
from napari_metastasis.scanning.engines.torch import TorchEngine
from napari_metastasis.settings import INPUTS, PUBLISHED_STAINS
from napari_metastasis.slides.stains import TARGET, StainMatrix, concentrations, stain_picture

DYES = (0.55, 0.75, 0.36, 0.1, 0.93, 0.35, 1.4, 0.9)
OTHER = (0.62, 0.7, 0.35, 0.25, 0.9, 0.36, 2.1, 1.2)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(3).integers(0, 256, (70, 50, 3)).astype(np.uint8)


def as_the_stain_room_has_it(pixels, kind, dyes):
    """Return the same by the functions that pictures are made with: another formula, in another room."""
    stains = StainMatrix.of_numbers(dyes)
    if kind == "normalised":
        return stain_picture(pixels, stains, "normalised", target=TARGET)
    share = concentrations(pixels, stains) / np.array(stains.maxima)
    levels = np.clip(np.rint(170 * share), 0, 255).astype(np.uint8)
    return levels if kind == "stains" else np.concatenate([pixels, levels], axis=-1)


@pytest.mark.parametrize("kind", INPUTS[1:])
def test_pixels_of_a_slide_and_patches_of_several_are_read_alike(pixels, kind):
    read = NetworkInput(kind, PUBLISHED_STAINS if kind == "normalised" else ())
    wanted = [as_the_stain_room_has_it(pixels, kind, dyes).astype(int) for dyes in (DYES, OTHER)]
    assert np.abs(wanted[0] - wanted[1]).max() > 20, "the slide's own dyes decide"
    seen = [read.of_pixels(pixels, dyes) for dyes in (DYES, OTHER)]
    assert seen[0].shape == (70, 50, read.channels)
    for one, expected in zip(seen, wanted, strict=True):
        assert np.abs(one.astype(int) - expected).max() <= 1
    images = torch.from_numpy(np.stack([pixels] * 2)).permute(0, 3, 1, 2).float()
    varied = read.of_images(images, torch.tensor([DYES, OTHER])).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(varied, np.stack(seen), "training reads what a scan reads")


def spec(reads, **changes):
    named = {"name": "m", "architecture": "covnet-64", "mpp": 0.25, "patch_px": 64, "stride_px": 4}
    return ModelSpec(**named, **contract_of_input(reads, None), **changes)


def test_a_card_of_colours_is_as_it_was_and_others_say_what_they_read():
    plain = spec("rgb")
    assert {"input", "stain_matrix"}.isdisjoint(plain.to_json())
    for kind in INPUTS:
        told = json.loads(json.dumps(spec(kind).to_json()))
        assert ModelSpec.from_json(told) == spec(kind)
    assert spec("normalised").stain_matrix == PUBLISHED_STAINS
    assert len(spec("both").mean) == 5
    segmenter = SegmenterSpec(name="s", encoder="vgg16", decoder="u-net", mpp=0.5, cell_px=4)
    assert {"input", "stain_matrix"}.isdisjoint(segmenter.to_json())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"input": "hsv"}, "input among rgb"),
        ({"input": "stains"}, "two means"),
        ({"input": "normalised"}, "stain_matrix that slides are brought to"),
        ({"stain_matrix": (1.0,) * 7}, "eight numbers"),
        ({"stain_matrix": (0.6, 0.7, 0.4, 0.6, 0.7, 0.4, 1.0, 1.0)}, "eight numbers"),
    ],
)
def test_inputs_that_cannot_be_are_refused(changes, complaint):
    with pytest.raises(ModelError, match=complaint):
        replace(spec("rgb"), **changes)


def test_what_a_scan_asks_for_is_read_or_refused():
    assert input_of(spec("rgb"), "as-is") == NetworkInput()
    assert input_of(spec("rgb"), "macenko") == NetworkInput("normalised", PUBLISHED_STAINS)
    assert input_of(spec("rgb", stain_matrix=OTHER), "macenko").target == OTHER
    assert input_of(spec("both")) == NetworkInput("both")
    for stain in ("macenko", "normalise"):
        with pytest.raises(ModelError, match="--stain auto"):
            input_of(spec("stains"), stain)


@pytest.mark.parametrize("kind", ["stains", "both"])
def test_filters_of_colours_begin_those_of_dyes(kind):
    torch.manual_seed(1)
    before, after = (build_fully_convolutional("scannet-small", count) for count in (3, NetworkInput(kind).channels))
    begin_with(after, InitialWeights("rgb", "", before.state_dict(), (0.5,) * 3, (0.25,) * 3, "scannet-small"))
    image = torch.rand(1, 3, 96, 96)
    first, *_ = before.features
    of_dyes, *_ = after.features
    if kind == "both":
        torch.testing.assert_close(of_dyes(torch.cat([image, torch.rand(1, 2, 96, 96)], 1)), first(image))
    else:
        # Darker by as much in all colours.
        dye = torch.rand(1, 1, 96, 96)
        torch.testing.assert_close(
            of_dyes(dye.expand(-1, 2, -1, -1)), first(-dye.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.skipif(not has_openvino(), reason="no OpenVINO")
@pytest.mark.parametrize("kind", ["stains", "both"])
@pytest.mark.parametrize("architecture", ["scannet-small", "efficientnet-lite0-enlarged"])
def test_both_engines_take_any_input(kind, architecture):
    torch.manual_seed(2)
    channels = NetworkInput(kind).channels
    network = build_fully_convolutional(architecture, channels).eval()
    built = network.architecture
    card = ModelSpec(
        name="m", architecture=architecture, mpp=0.972, patch_px=built.patch_px, stride_px=built.stride_px,
        field_px=built.field_px, **contract_of_input(kind, None),
    )  # fmt: skip
    side = built.field_px + built.stride_px
    image = np.random.default_rng(5).integers(0, 256, (1, side, side, channels)).astype(np.uint8)
    dense = DenseNetwork(network, card, 1)
    normalised = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255 - torch.tensor(card.mean).view(1, -1, 1, 1)) / (
        torch.tensor(card.std).view(1, -1, 1, 1)
    )
    with torch.inference_mode():
        expected = network(normalised).softmax(dim=1)[:, 1].numpy()
    for engine in (
        TorchEngine(dense, devices=("cpu",), precision="float32"),
        OpenVinoEngine(dense, precision="float32"),
    ):
        np.testing.assert_allclose(engine.run(image), expected, atol=2e-5)
        engine.close()


@pytest.mark.parametrize("kind", ["stains", "both"])
def test_the_map_network_reads_dyes(kind):
    card = SegmenterSpec(
        name="s", encoder="efficientnet-lite0", decoder="u-net", mpp=0.5, cell_px=4, **contract_of_input(kind, None)
    )
    network = build_segmentation(card.built).eval()
    assert network.trunk[0].in_channels == NetworkInput(kind).channels
    model = Segmenter(card, network, "", SimpleNamespace())
    assert "dyes" in model.reads
    raw = torch.randint(0, 256, (1, NetworkInput(kind).channels, 180 + 32, 180 + 32)).float()
    assert model.dense(1)(raw).shape == (1, 8, 8)
