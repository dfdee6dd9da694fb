"""The dense network against the slow oracle: every patch cut out and answered alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from napari_metastasis.errors import ModelError
from napari_metastasis.geometry import Region
from napari_metastasis.models import (
    ARCHITECTURES,
    DenseNetwork,
    EfficientNetLite,
    FullyConvolutionalNetwork,
    ModelSpec,
    ScanNet,
    build_network,
    dense_layers,
    load_model,
)
from napari_metastasis.models.nets.efficientnet_lite import EfficientNetLiteArchitecture
from napari_metastasis.models.nets.enlarge import Enlarge, enlarged_cover
from napari_metastasis.models.nets.scannet import Block, ScanNetArchitecture
from napari_metastasis.slides import open_slide

SAMPLE = Path(__file__).parents[2] / "sample_data" / "lymph-node.tif"


@cache
def seeded(
    architecture: str | ScanNetArchitecture | EfficientNetLiteArchitecture,
) -> FullyConvolutionalNetwork:
    torch.manual_seed(7)
    network = (
        build_network(architecture)
        if isinstance(architecture, str)
        else ScanNet(architecture)
        if isinstance(architecture, ScanNetArchitecture)
        else EfficientNetLite(architecture)
    )
    if isinstance(network, EfficientNetLite):
        # A mean over its cells would answer everywhere alike.
        torch.nn.init.normal_(network.gather.weight)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Fresh statistics (0 and 1) would hide a mistake in folding them.
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    network.eval().requires_grad_(requires_grad=False)
    spread_answers(network)
    return network


def structured_image(side: int, seed: int) -> torch.Tensor:
    """Return a raw image with structure at every scale, 1 x 3 x side x side: noise alone looks the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    image = sum(
        torch.nn.functional.interpolate(torch.rand(1, 3, cells, cells, generator=generator), size=(side, side))
        for cells in (3, 8, 21, side)
    )
    return (image / 4 * 255).round()


def spread_answers(network: FullyConvolutionalNetwork) -> None:
    """Scale the last layer so that answers spread around 1/2: a saturated softmax would hide every mistake.

    The spread stays modest, since it multiplies the rounding of the layers before as well.
    """
    side, spec = network.architecture.field_px, spec_of(network)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    patches = torch.cat([structured_image(side, seed) for seed in range(6)])
    logits = network((patches / 255 - mean) / std).flatten(1)
    last = network.layers[-1]
    spread = 4 * logits.std(dim=0)
    last.weight /= spread.view(-1, 1, 1, 1)
    last.bias.copy_((last.bias - logits.mean(dim=0)) / spread)


def spec_of(network: FullyConvolutionalNetwork) -> ModelSpec:
    return ModelSpec(
        name="test",
        architecture="scannet-small",
        mpp=0.972,
        patch_px=network.architecture.patch_px,
        stride_px=network.architecture.stride_px,
        field_px=network.architecture.field_px,
        mean=(0.7, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
    )


def patch_by_patch(
    network: FullyConvolutionalNetwork, spec: ModelSpec, image: torch.Tensor, stride_px: int
) -> torch.Tensor:
    """Answer every patch alone: crop, normalise, run, softmax."""
    side = spec.field_px
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    rows = range(0, image.shape[2] - side + 1, stride_px)
    columns = range(0, image.shape[3] - side + 1, stride_px)
    answers = [
        network((image[:, :, y : y + side, x : x + side] / 255 - mean) / std).softmax(1)[0, spec.tumour_class, 0, 0]
        for y in rows
        for x in columns
    ]
    return torch.stack(answers).reshape(len(rows), len(columns))


def assert_dense_is_exact(network: FullyConvolutionalNetwork, alpha: int, answers: int) -> None:
    spec = spec_of(network)
    stride = spec.dense_stride_px(alpha)
    side = spec.field_px + (answers - 1) * stride
    image = structured_image(side, seed=alpha)
    dense = DenseNetwork(network, spec, alpha)(image)[0]
    oracle = patch_by_patch(network, spec, image, stride)
    assert dense.shape == (answers, answers)
    assert oracle.std() > 1e-3, "an oracle that answers the same everywhere proves nothing"
    assert (dense - oracle).abs().max() < 1e-5


@pytest.mark.parametrize("alpha", [1, 2, 4, 8, 16])
def test_small_network_dense_equals_patch_by_patch(alpha):
    assert_dense_is_exact(seeded("scannet-small"), alpha, answers=5)


@pytest.mark.parametrize(("alpha", "answers"), [(1, 2), (2, 3), (4, 2), (8, 2), (16, 2), (32, 2)])
def test_paper_network_dense_equals_patch_by_patch(alpha, answers):
    assert_dense_is_exact(seeded("scannet-vgg16"), alpha, answers)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("head_kernel_px", [1, 2, 3])
def test_any_member_of_the_family_converts(batch_norm, head_kernel_px):
    architecture = ScanNetArchitecture(
        blocks=(Block(4, 1), Block(6, 2), Block(8, 1)),
        head_kernel_px=head_kernel_px,
        head_channels=(32, 16),
        batch_norm=batch_norm,
        dropout=0.5,
    )
    for alpha in (1, 2, 4, 8):
        assert_dense_is_exact(seeded(architecture), alpha, answers=4)


@pytest.mark.parametrize(("alpha", "answers"), [(1, 3), (2, 3), (4, 2), (8, 2), (16, 2)])
def test_efficientnet_dense_equals_patch_by_patch(alpha, answers):
    assert_dense_is_exact(seeded("efficientnet-lite0"), alpha, answers)


@pytest.mark.parametrize(("alpha", "answers"), [(1, 3), (2, 3), (4, 2)])
def test_enlarging_efficientnet_dense_equals_patch_by_patch(alpha, answers):
    assert_dense_is_exact(seeded("efficientnet-lite0-enlarged"), alpha, answers)


@pytest.mark.parametrize(("name", "width"), [("covnet-64", 512), ("covnet-256", 16)])
def test_covnet_dense_equals_tile_by_tile(name, width):
    paper = ARCHITECTURES[name]
    # Pearce 2017, 5.2; the tile is all that an answer depends on.
    assert ([(block.channels, block.convolutions) for block in paper.blocks]) == [(128, 2), (64, 2)]
    assert (f"covnet-{paper.field_px}", paper.head_channels, paper.stride_px) == (name, (512,), 4)
    # 512 features of 61 x 61 x 64 take half a gigabyte, and change nothing about where they are gathered.
    narrower = seeded(replace(paper, head_channels=(width,)))
    for alpha in (1, 2, 4):
        assert_dense_is_exact(narrower, alpha, answers=2)


@pytest.mark.parametrize(
    ("blocks", "field_px", "stride_px"),
    [((1,), 11, 2), ((1, 2), 27, 4), ((1, 2, 2), 83, 8), ((1, 2, 2, 3, 3), 371, 16), ((1, 2, 2, 3, 3, 1), 467, 32)],
)
def test_an_efficientnet_may_be_cut_after_any_stage(blocks, field_px, stride_px):
    architecture = EfficientNetLiteArchitecture(
        blocks=blocks, patch_px=8, pooled_cells=3, feature_channels=8, dropout=0.5
    )
    assert (architecture.field_px, architecture.stride_px) == (field_px, stride_px)
    assert_dense_is_exact(seeded(architecture), 2, answers=2)


@pytest.mark.parametrize("side", [7, 39, 40, 41])
def test_enlarging_is_bilinear_and_leaves_the_outermost_pixels_out(side):
    image = torch.rand(2, 3, side, side + 3, generator=torch.Generator().manual_seed(side))
    enlarged, cover = Enlarge()(image[..., 1:, 1:]), enlarged_cover(image)
    rows, columns = enlarged.shape[2:]
    # All that lies between two pixels, but for what is no whole four.
    assert rows == (side - 2) // 3 * 4
    assert torch.allclose(enlarged, cover[:, :, 2 : 2 + rows, 2 : 2 + columns], atol=1e-6)


def test_an_enlarging_network_looks_at_the_middle_of_its_window():
    network = seeded("efficientnet-lite0-enlarged")
    image = structured_image(network.architecture.field_px, seed=1).requires_grad_()
    DenseNetwork(network, spec_of(network), 1)(image).sum().backward()
    seen = image.grad.abs().sum((0, 1))
    for of_side in (seen.sum(0), seen.sum(1)):
        (where,) = torch.nonzero(of_side, as_tuple=True)
        # The window is no whole number of pixels wide: the last one may say nothing.
        assert where[0] == 0
        assert len(of_side) - 2 <= where[-1] <= len(of_side) - 1


def test_paper_network_has_the_sizes_of_table_1():
    paper = ARCHITECTURES["scannet-vgg16"]
    assert (paper.patch_px, paper.stride_px) == (244, 32)
    network = seeded("scannet-vgg16")
    sizes = []
    features = torch.zeros(1, 3, 244, 244)
    for layer in network.features:
        features = layer(features)
        if isinstance(layer, torch.nn.MaxPool2d):
            sizes.append(tuple(features.shape[1:]))
    assert sizes == [(64, 120, 120), (128, 58, 58), (256, 26, 26), (512, 10, 10), (512, 2, 2)]
    widths = [layer.out_channels for layer in network.head if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [1024, 1024, 2]
    # Eq. 1: an ROI of 2868 px gives an 83 x 83 map.
    assert paper.patch_px + (83 - 1) * paper.stride_px == 2868


def test_vgg16_parameters_carry_torchvision_names():
    names = {name for name in seeded("scannet-vgg16").state_dict() if name.startswith("features")}
    # The thirteen convolutions of torchvision's vgg16().features.
    positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert names == {f"features.{k}.{kind}" for k in positions for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("architecture", "alpha"),
    [*(("scannet-small", alpha) for alpha in (0, -2, 3, 6, 32)), ("efficientnet-lite0-enlarged", 8)],
)
def test_impossible_dense_coefficients_are_refused(architecture, alpha):
    with pytest.raises(ModelError, match="dense coefficient"):
        dense_layers(seeded(architecture), alpha)


def test_conversion_leaves_the_network_as_it_was():
    network = seeded("scannet-small")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    DenseNetwork(network, spec_of(network), 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(layer.stride == 2 for layer in network.features if isinstance(layer, torch.nn.MaxPool2d))


def test_bfloat16_stays_within_the_tolerance_on_tissue():
    """Where the pixels are not taken around middle gray, the largest difference here is 0.028."""
    with open_slide(SAMPLE) as slide:
        pixels = slide.read(slide.frame(0.972), Region(1000, 2500, 608, 608))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    dense = load_model("scannet-pcam").dense(2)
    with torch.no_grad():
        reduced = copy.deepcopy(dense).bfloat16()(image.bfloat16())
        assert (dense(image) - reduced).abs().max() < 0.015
