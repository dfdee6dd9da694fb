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
    SegmentationNetwork,
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


class _DarkSpots(SegmentationNetwork):
    """Answers each pixel with how dark its surroundings of 9 x 9 px are."""

    def __init__(self, architecture, field_px: int) -> None:
        super().__init__(architecture)
        self._margin = field_px // 2
        self.scale = torch.nn.Parameter(torch.tensor(20.0), requires_grad=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dark = 1 - torch.nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 9, stride=1, padding=4)
        cut = slice(self._margin, -self._margin)
        tumour = self.scale * (dark[..., cut, cut] - 0.75)
        return torch.cat([torch.zeros_like(tumour), tumour], dim=1)


def dark_spots(mpp: float = 0.5, cell_px: int = 2) -> MitosisModel:
    """Return a mitosis model whose pixels are mitoses in the middle of dark spots of some 4 µm."""
    spec = MitosisSpec(
        name="dark-spots", encoder="efficientnet-lite0", decoder="u-net", mpp=mpp, cell_px=cell_px, threshold=0.4,
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    network = _DarkSpots(spec.built, spec.built.field_px).eval()
    return MitosisModel(spec=spec, network=network, weights_sha256="f" * 64, card={})
