"""Networks of known weights, which answer with how dark the middle of what they see is, and a refiner behind one."""

from __future__ import annotations

import torch

from napari_metastasis.models import (
    Block,
    Detector,
    MitosisModel,
    MitosisSpec,
    ModelSpec,
    Refiner,
    RefinerSpec,
    ScanNet,
    ScanNetArchitecture,
    Segmenter,
    SegmenterSpec,
    SpatialNetwork,
)
from napari_metastasis.models.nets.architectures import build_segmentation

__all__ = ["dark_model", "dark_segmenter", "dark_spots", "mover"]


def dark_model() -> Detector:
    """Return a model at 0.972 µm/px whose patches of 12 px count as tumour where they are darker than 0.4 of white."""
    architecture = ScanNetArchitecture(
        blocks=(Block(1, 1), Block(1, 1)), head_kernel_px=2, head_channels=(1,), batch_norm=False, dropout=0.0
    )
    network = ScanNet(architecture).eval().requires_grad_(requires_grad=False)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        layer.weight.fill_(1 / layer.weight[0].numel())
        layer.bias.zero_()
    # Light is high: 1 is white once mean 0 and std 1 are taken off.
    last = convolutions[-1]
    last.weight.copy_(torch.tensor([30.0, -30.0]).view(2, 1, 1, 1))
    last.bias.copy_(torch.tensor([-12.0, 12.0]))
    spec = ModelSpec(
        name="dark",
        architecture="dark",
        mpp=0.972,
        patch_px=architecture.patch_px,
        stride_px=architecture.stride_px,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    return Detector(spec=spec, network=network, weights_sha256="d" * 64, card={})


def mover(model: Detector) -> Refiner:
    """Return a refiner that moves a model's answers a little, with weights of its own."""
    spec = RefinerSpec(
        name="mover", encoder=model.spec.name, encoder_sha256=model.weights_sha256,
        encoder_features=model.network.architecture.feature_channels,
        projected=3, hidden=4, grid=4, grid_step=2, window_step=2,
        order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip
    torch.manual_seed(4)
    network = SpatialNetwork(spec).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.answer.weight)
    return Refiner(spec=spec, network=network, weights_sha256="b" * 64, card={})


def dark_segmenter(mpp: float = 1.944, cell_px: int = 4) -> Segmenter:
    """Return a segmenter, the paper's network, whose pixels count as tumour near what is darker than 0.4 of white."""
    spec = SegmenterSpec(
        name="dark-outlines", encoder="vgg16", decoder="fcn-32s", width=1 / 64, mpp=mpp, cell_px=cell_px,
        mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    network = build_segmentation(spec.built).eval().requires_grad_(requires_grad=False)
    first, *others, last = (layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    for layer in (first, *others, last):
        layer.weight.zero_()
        layer.bias.zero_()
    # Darkness, 0 on glass and 1 on black, of the middle pixel is handed on; poolings take the darkest.
    first.weight[0, :, 1, 1] = -1 / 3
    for layer in others:
        layer.weight[0, 0, 1, 1] = 1.0
    last.weight[:, 0, 0, 0] = torch.tensor([-30.0, 30.0])
    last.bias.copy_(torch.tensor([18.0, -18.0]))
    return Segmenter(spec=spec, network=network, weights_sha256="e" * 64, card={})


def dark_spots(mpp: float = 0.5, cell_px: int = 2) -> MitosisModel:
    """Return a mitosis model, a real network, whose pixels are mitoses in the middle of dark spots of some 4 µm."""
    spec = MitosisSpec(
        name="dark-spots", encoder="efficientnet-lite0", decoder="u-net", mpp=mpp, cell_px=cell_px, threshold=0.4,
        mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    network = build_segmentation(spec.built).eval().requires_grad_(requires_grad=False)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.fill_(1)
        elif tensor.is_floating_point():
            tensor.zero_()
    # Darkness, 0 on glass and 1 on black, averaged over 7 px, goes the shortest way: to stride 2, across, and up again.
    state["trunk.0.weight"][0] = -1 / 27
    state["trunk.3.0.weight"][0] = 1 / 9
    state["trunk.3.3.weight"][0, 0] = 1
    state["join.2.0.weight"][0, 32, 1, 1] = 1
    for norm in ("trunk.1", "trunk.3.1", "trunk.3.4", "join.2.1"):
        state[f"{norm}.weight"][0] = 1
    state["score.weight"][1, 0] = 20
    state["score.bias"][1] = -15
    network.load_state_dict(state)
    return MitosisModel(spec=spec, network=network, weights_sha256="f" * 64, card={})
