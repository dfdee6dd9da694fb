"""Segmentation networks: the paper's shapes, no seams, and what a scan runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_metastasis.errors import ModelError
from napari_metastasis.models import Segmenter, SegmenterSpec, build_segmentation, read_model, save_model
from napari_metastasis.models.nets.fcn import Upsampling
from napari_metastasis.models.nets.segmentation import (
    DECODERS,
    ENCODERS,
    SegmentationArchitecture,
    SegmentationNetwork,
)

#: Side of the paper's tiles, and of what its first layer pads them to.
TILE_PX, PADDED_TILE_PX = 512, 712
LITE, LITE_UNET = ENCODERS[1:]
#: Small ones of every kind; the last is the only one whose layers pad.
KINDS = [("vgg16", decoder) for decoder in DECODERS[:-1]] + [(LITE, "fcn-32s"), (LITE_UNET, "u-net")]


def small(encoder: str, decoder: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    width = 1 / 16 if encoder == "vgg16" else 1.0
    network = build_segmentation(SegmentationArchitecture(encoder=encoder, decoder=decoder, width=width)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def spec_of(network: SegmentationNetwork, cell_px: int = 4) -> SegmenterSpec:
    built = network.architecture
    return SegmenterSpec(
        name="outlines", encoder=built.encoder, decoder=built.decoder, width=built.width, mpp=0.972, cell_px=cell_px
    )


def padded_tile(network: SegmentationNetwork, tile: Tensor) -> Tensor:
    """Answer for a tile as the paper does: its edges are mirrored, and past the outermost cells their scores count."""
    before, built = (PADDED_TILE_PX - TILE_PX) // 2, network.architecture
    cells = functional.pad(tile, (before,) * 4, mode="reflect")
    *layers, upsampling = network.layers
    for layer in layers:
        cells = layer(cells)
    # The first pixel lies in the middle of the cell before the first.
    first = before + built.block_px - built.field_px // 2
    answers = upsampling(functional.pad(cells, (1,) * 4, mode="replicate"))
    return answers[..., first : first + TILE_PX, first : first + TILE_PX]


def test_a_padded_tile_of_the_paper_has_its_shapes_layer_by_layer() -> None:
    network = build_segmentation(SegmentationArchitecture(width=1 / 8)).eval()
    shapes: list[tuple[int, int]] = []
    for layer in network.features:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _m, _i, out: shapes.append((out.shape[1], out.shape[2])))
    with torch.no_grad():
        answers = padded_tile(network, torch.zeros(1, 3, TILE_PX, TILE_PX))
    # 3x3 convolutions take two pixels, poolings halve: 712 in, 16 x 16 cells out, and 512 px of answers.
    sides = [710, 708, 354, 352, 350, 175, 173, 171, 169, 84, 82, 80, 78, 39, 37, 35, 33, 16]
    widths = [8, 8, 8, 16, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 64, 64, 64, 64]
    assert shapes == list(zip(widths, sides, strict=True))
    assert answers.shape == (1, 2, TILE_PX, TILE_PX)
    kinds = [type(layer).__name__ for layer in network.features]
    assert kinds.count("MaxPool2d") == 5
    assert kinds.count("Conv2d") == kinds.count("ReLU") == 13
    assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == 2
    (upsampling,) = network.upsampling
    assert upsampling.kernel_size == (64, 64)
    assert upsampling.stride == (32, 32)


@pytest.mark.parametrize(("encoder", "decoder"), KINDS)
def test_tiles_have_no_seams(encoder: str, decoder: str) -> None:
    network = small(encoder, decoder)
    block, field = network.architecture.block_px, network.architecture.field_px
    image = torch.randn(1, 3, field + 6 * block, field + 5 * block)
    with torch.no_grad():
        whole = network(image)
        assert whole.shape[-2:] == (6 * block, 5 * block)
        for top, left, side in ((0, 0, 1), (2, 1, 3), (1, 2, 3), (5, 4, 1)):
            window = image[..., top * block :, left * block :][..., : field + side * block, : field + side * block]
            expected = whole[..., top * block :, left * block :][..., : side * block, : side * block]
            torch.testing.assert_close(network(window), expected, atol=1e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize(("encoder", "decoder"), [*KINDS, ("vgg16", "segnet")])
def test_answers_lie_where_the_tissue_lies(encoder: str, decoder: str) -> None:
    """What a pixel's answer depends on lies around that pixel, as far to the left as to the right."""
    network = small(encoder, decoder)
    block, field = network.architecture.block_px, network.architecture.field_px
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, field + 4 * block, field + 4 * block, generator=generator).requires_grad_()
    # The mean of all answers depends most evenly on what lies in their middle.
    network(image)[:, 1].mean().backward()
    weight = image.grad.abs().sum(dim=(0, 1))
    middle = (image.shape[-1] - 1) / 2
    for axis in (0, 1):
        along = weight.sum(dim=1 - axis)
        center = float((along * torch.arange(len(along))).sum() / along.sum())
        assert abs(center - middle) < block / 2
        reached = torch.nonzero(along > 0).flatten()
        assert abs(int(reached[0]) + int(reached[-1]) - 2 * middle) <= 2


def test_the_middle_of_a_padded_tile_is_answered_as_on_a_slide() -> None:
    network = small("vgg16", "fcn-32s")
    block, field = network.architecture.block_px, network.architecture.field_px
    tile = torch.randn(1, 3, TILE_PX, TILE_PX)
    with torch.no_grad():
        padded = padded_tile(network, tile)
        # Padded by 100 px, cells begin at -100 px: the window of the fifth begins at 28.
        seen = network(tile[..., 28 : 28 + field + 6 * block, 28 : 28 + field + 6 * block])
    first = 28 + field // 2
    inside = padded[..., first : first + 6 * block, first : first + 6 * block]
    torch.testing.assert_close(inside, seen, atol=1e-6, rtol=1e-5)


def test_upsampling_begins_as_interpolation() -> None:
    upsampling = Upsampling(4)
    cells = torch.arange(5.0).expand(1, 2, 5, 5)
    answers = upsampling(cells)
    # Pixels between the middles of the first cell and of the last.
    expected = torch.arange(16) / 4 + 1 / 8
    torch.testing.assert_close(answers, expected.expand(1, 2, 16, 16))


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("vgg16", "fcn-32s"), ("vgg16", "fcn-8s"), (LITE, "fcn-32s"), (LITE_UNET, "u-net")]
)
def test_a_scan_runs_what_was_trained(encoder: str, decoder: str, tmp_path) -> None:
    network = small(encoder, decoder)
    spec = spec_of(network)
    save_model(tmp_path / "outlines.safetensors", network, spec, {"data": "none"})
    model = read_model(tmp_path / "outlines.safetensors")
    assert isinstance(model, Segmenter)
    assert model.spec == spec
    cells = 2 * spec.block_cells
    side = spec.field_px + (cells - 1) * spec.cell_px
    raw = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 3, side, side)).astype(np.float32))
    with torch.no_grad():
        logits = network((raw / 255 - 0.5) / 0.25)
        expected = nn.functional.avg_pool2d(logits.softmax(dim=1)[:, 1], spec.cell_px)
        found = model.dense(1)(raw)
    assert found.shape == (1, cells, cells)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_cards_that_no_network_fits_are_refused() -> None:
    good = {"name": "a", "encoder": "vgg16", "decoder": "fcn-32s", "mpp": 0.5, "cell_px": 4}
    assert SegmenterSpec.from_json(good).block_cells == 8
    for name, value in (("cell_px", 5), ("mpp", 0.0), ("encoder", "vgg19"), ("decoder", "fcn"), ("width", 0.0)):
        with pytest.raises(ModelError, match="expected"):
            SegmenterSpec.from_json({**good, name: value})
    with pytest.raises(ModelError, match="decoder fcn-32s"):
        SegmenterSpec.from_json({**good, "encoder": LITE, "decoder": "fcn-8s"})
    with pytest.raises(ModelError, match="decoder u-net"):
        SegmenterSpec.from_json({**good, "encoder": LITE_UNET})
    with pytest.raises(ModelError, match="dense coefficient 1"):
        SegmenterSpec.from_json(good).dense_stride_px(2)
